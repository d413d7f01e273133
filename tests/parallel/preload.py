"""What every rank imports, once, before the ranks are forked off."""

import torch
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.pipelining
import torch.distributed.tensor.parallel

from puna.train import run  # noqa: F401

torch.set_num_threads(1)
