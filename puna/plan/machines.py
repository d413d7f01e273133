"""What processors can do at most, as their makers say, and what of it a training run gets.

Every number that a plan rests on beside the model's shape stands in this file, with its source. A processor
that is not here gets no share of a peak: a wrong denominator makes any figure (published tables show 563%).
"""

import math
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puna import hardware
from puna.errors import PunaError, need

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Gpu:
    """Dense rates, without sparsity; a link's bytes are those of one direction."""

    name: str
    flops: dict[str, float]  # a second, by what matrices are computed in
    memory: float  # bytes
    bandwidth: float  # bytes a second
    near: float  # to a GPU of the same node
    far: float  # to other nodes, each GPU's share of the network
    watts: float
    node: int  # GPUs that reach each other at `near`
    source: str

    def peak(self, dtype: str) -> float:
        kinds = ", ".join(self.flops)
        need(dtype in self.flops, f"{self.name} has no matrix units for {dtype}", f"one of {kinds}")
        return self.flops[dtype]


def _gpu(
    name: str, rates: tuple[float, float, float], memory: float, links: tuple[float, float], watts: float,
    source: str,
) -> Gpu:  # fmt: skip
    """In a node of 8. rates: bf16 and fp8 in TFLOP/s, memory in TB/s; links in GB/s, one direction."""
    bf16, fp8, bandwidth = rates
    flops = {"bf16": bf16 * TERA, "fp16": bf16 * TERA} | ({"fp8": fp8 * TERA} if fp8 else {})
    near, far = (link * GIGA for link in links)
    return Gpu(name, flops, memory * GIGA, bandwidth * TERA, near, far, watts, 8, source)


# far: 400 Gb/s a GPU, as Meta's clusters have [P 3.3.1]; A100 systems have 200
GPUS = {
    "h100": _gpu("H100 SXM", (989.4, 1978.9, 3.35), 80, (450, 50), 700, "NVIDIA H100 data sheet, SXM5"),
    "h100-pcie": _gpu("H100 PCIe", (756, 1513, 2.0), 80, (64, 50), 350, "NVIDIA H100 data sheet, PCIe"),
    "h200": _gpu("H200 SXM", (989.4, 1978.9, 4.8), 141, (450, 50), 700, "NVIDIA H200 data sheet"),
    "a100": _gpu("A100 SXM 80 GB", (312, 0, 2.039), 80, (300, 25), 400, "NVIDIA A100 data sheet"),
    "b200": _gpu("B200 SXM", (2250, 4500, 7.7), 180, (900, 50), 1000, "NVIDIA HGX B200 data sheet"),
}


def gpu(name: str) -> Gpu:
    """A processor of the table; PunaError names those there are."""
    key = name.lower().replace(" ", "-")
    problem = f"{name}: not in the table of processors, so no share of its peak can be told"
    if key not in GPUS:
        raise PunaError(f"{problem}\n  try: one of {', '.join(GPUS)}")
    return GPUS[key]


def room(processor: Gpu) -> float:
    """Bytes that a plan may fill."""
    return USABLE * processor.memory


# What is reached: shares of a peak, or of a link. "believed": from what others report, not measured by us.
USABLE = 0.94  # of memory; CUDA's context, NCCL's buffers and gaps take the rest: believed
MATRICES = 0.81  # of the peak: 798 of 989 TFLOP/s, large bf16 products, measured on an H100 with torch 2.11
SMALL = 64  # what a product loses at its edges, a side of d reaches d / (d + SMALL): believed
# of the peak, forward and backward, long texts, heads 128 wide: believed of FlashAttention-3, and raised from
# 0.55 and 0.45 with the three rows of published.TABLE_4 in view
ATTENTION = (0.62, 0.52)
MEMORY = 0.80  # of the bandwidth, for what goes through number by number: believed
LINK = 0.80  # of a link, for collectives of many megabytes: believed
ALONE = 0.92  # of all that over hours on one GPU, with power limits and gaps between kernels: believed
A_DOUBLING = 0.011  # lost again each time the ranks double: fitted to the first row of published.TABLE_4
GOODPUT = 0.90  # of time, above which Llama 3 405B trained [P 3.3.4]: restarts, maintenance
EAGER = 2.5  # times the traffic of compiled blocks, where each operation reads and writes by itself: believed
CPU = 0.60  # of the rate of its products: 60 to 62%, measured in bf16 on two threads, 19M parameters
BF16_UNITS = 2.2  # bf16 products over fp32 ones with avx512_bf16: 215 over 95 GFLOP/s a core, Zen 4, measured
UPDATE = 28  # bytes a number: masters and two moments in and out, its gradient in


def pace(ranks: int) -> float:
    """Of what kernels and links reach, the share that so many ranks hold together."""
    return ALONE - A_DOUBLING * math.log2(ranks)


def this_machine() -> Gpu:
    """The CPU we run on: memory as it is free now, rates measured in half a second."""
    cores = hardware.cores()
    rate = _product_rate()
    units = BF16_UNITS if "avx512_bf16" in _flags() else 1.0
    flops = {"fp32": rate, "bf16": rate * units, "fp16": rate}
    name = f"this machine ({platform.machine()}, {cores} cores)"
    memory = hardware.available_memory() / USABLE
    return Gpu(name, flops, memory, _read_rate(cores), 0.0, 0.0, 0.0, 1, "measured just now")


def _product_rate() -> float:
    """FLOP/s of large fp32 products."""
    side = 1024
    a = np.ones((side, side), np.float32)
    a @ a
    return 2 * side**3 / min(_seconds(lambda: a @ a) for _ in range(5))


def _read_rate(cores: int) -> float:
    """Bytes a second that all cores read together."""
    parts = [np.ones(1 << 24, np.float32) for _ in range(cores)]

    def read() -> None:
        threads = [threading.Thread(target=part.max) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return sum(part.nbytes for part in parts) / min(_seconds(read) for _ in range(3))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _flags() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
