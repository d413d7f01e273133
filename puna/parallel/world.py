"""This process's place among all: which share of a batch it reads, with whom it adds up.

`ALONE` is the place of a process that has no others: every sum is what it was. The same code trains there.
"""

import gc
import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from puna.errors import ConfigError, need
from puna.parallel.layout import VSHAPED, Layout
from puna.parallel.stages import owner

NAMES = ("pipeline", "replicate", "shard", "context", "tensor")  # outermost first


class World:
    """One rank of a layout, on its device. Made once a process group is there (`join`)."""

    def __init__(self, layout: Layout, device: str = "cpu", alone: bool = False):
        self.layout, self.device = layout, device
        met = dist.is_initialized() and not alone
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if met else (0, 1)
        problem = f"layout: {layout.ranks} ranks are asked for, {self.size} are there"
        need(layout.ranks == self.size, problem, f"torchrun --nproc-per-node {layout.ranks}", ConfigError)
        self.mesh: DeviceMesh | None = None
        if met:
            degrees = [getattr(layout, name) for name in NAMES]
            self.mesh = init_device_mesh(device.split(":")[0], degrees, mesh_dim_names=NAMES)
            self.mesh["shard", "context"]._flatten("fsdp")
            self.mesh["replicate", "shard"]._flatten("readers")
            self.mesh["replicate", "shard", "context"]._flatten("tokens")

    def place(self, name: str) -> int:
        """This rank's number along one dimension of the mesh."""
        return self.mesh[name].get_local_rank() if self.mesh is not None else 0

    @property
    def stages(self) -> list[int]:
        """The stages of the pipeline that this rank holds, in order."""
        layout, rank = self.layout, self.place("pipeline")
        vshaped = layout.schedule in VSHAPED
        every = range(layout.all_stages)
        return [stage for stage in every if owner(stage, layout.pipeline, vshaped) == rank]

    def over_tokens(self, value: Tensor) -> Tensor:
        """The sum over ranks that read other tokens."""
        return self._sum(value, "tokens")

    def over_stages(self, value: Tensor) -> Tensor:
        """The sum over the stages of the pipeline."""
        return self._sum(value, "pipeline")

    def _sum(self, value: Tensor, name: str) -> Tensor:
        if self.mesh is None or self.mesh[name].size() == 1:
            return value
        value = value.to(self.device, copy=True)
        dist.all_reduce(value, group=self.mesh[name].get_group())
        return value


ALONE = World(Layout(), alone=True)


def join(device: str, timeout_s: float = 600.0) -> None:
    """Meet the other processes that torchrun started; nothing if there are none."""
    if "RANK" not in os.environ or dist.is_initialized():
        return
    # a process that was started again would read the addresses of the one before it (pytorch 135712)
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))


def leave() -> None:
    """Part from the others. Without the barrier one run in four aborts at exit (gloo threads, measured)."""
    if dist.is_initialized():
        gc.collect()
        dist.barrier()
        dist.destroy_process_group()
