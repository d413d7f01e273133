"""This process's place among all: which share of a batch it reads, with whom it adds up.

`ALONE` is the place of a process that has no others: every sum is what it was. The same code trains there.
"""

import gc
import os
import warnings
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

    def any(self, here: bool) -> bool:
        """Is it so on any rank?"""
        if self.mesh is None:
            return here
        found = torch.tensor(float(here), device=self.device)  # ()
        dist.all_reduce(found)
        return bool(found)

    def over_all(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        return self._sum(self.over_stages(self.over_tokens(value)), "tensor")

    def from_each(self, value: Tensor) -> Tensor:
        """(ranks, ...) what every rank has."""
        if self.mesh is None:
            return value[None]
        value = value.to(self.device)
        found = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(found, value)
        return torch.stack(found)

    def _sum(self, value: Tensor, name: str) -> Tensor:
        if self.mesh is None or self.mesh[name].size() == 1:
            return value
        value = value.to(self.device, copy=True)
        dist.all_reduce(value, group=self.mesh[name].get_group())
        return value


ALONE = World(Layout(), alone=True)


def join(device: str, timeout_s: float = 600.0) -> str:
    """Meet the other processes that torchrun started, none if it did not; this process's device."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        device = f"cuda:{torch.cuda.current_device()}"
    if "RANK" not in os.environ or dist.is_initialized():
        return device
    rank, size, patience = (
        int(os.environ["RANK"]),
        int(os.environ["WORLD_SIZE"]),
        timedelta(seconds=timeout_s),
    )
    store = _own_store(size, patience)
    place = {} if store is None else {"store": store, "rank": rank, "world_size": size}
    warnings.filterwarnings(
        "ignore", message="Slicing a flattened dim"
    )  # the only way to HSDP's two dimensions
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=patience, **place)
    return device


def _own_store(size: int, patience: timedelta) -> dist.Store | None:
    """A corner of the store that torchrun's agent shares with its ranks.

    Ranks that are started again would else read there the addresses of those before them (pytorch 135712).
    Agents of several nodes count their starts each by itself: there, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in
    torchrun's own environment gives each start a store of its own, and there is nothing to do here.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, size, is_master=False, timeout=patience)
    return dist.PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)


def leave() -> None:
    """Part from the others. Without the barrier one run in four aborts at exit (gloo threads, measured)."""
    if dist.is_initialized():
        gc.collect()
        dist.barrier()
        dist.destroy_process_group()
