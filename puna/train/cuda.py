"""What GPUs are told before a run touches one: how exactly they multiply, which attention they take, whether
the same run must give the same bits."""

import os
from typing import Literal

import torch

from puna.settings import Settings


class CudaSettings(Settings):
    tf32: bool = (
        True  # products of fp32 on the matrix units, 10 bits of fraction; those of bf16 are as they are
    )
    attention: Literal["auto", "flash", "cudnn"] = "auto"  # of rows of one text; auto: torch's choice
    deterministic: bool = False  # a run that goes on gives the bits of one that never stopped; slower


def prepare(settings: CudaSettings) -> None:
    """For this process, and before its first work on a GPU: some of it is read only once."""
    # blocks that grow in place: sequences of varying lengths would leave gaps of tens of percents
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
    torch.backends.cuda.enable_flash_sdp(settings.attention != "cudnn")
    torch.backends.cuda.enable_cudnn_sdp(settings.attention != "flash")
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
