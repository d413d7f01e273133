"""What a step of training costs, and what a machine could do in its time: MFU is their quotient.

A rate without its denominator says nothing, so the denominator is told once at the start of a run; of a
machine that is neither known nor measured there is none, and then there is no MFU.
"""

import math
import time
from typing import Any

import torch

from puna.model.names import shapes
from puna.plan.counts import training_flops
from puna.train.run import Run

# Dense matrix products in 16 bits with sums in 32, FLOP/s, by their makers' data sheets; in order of search
KNOWN = (("H200", 989.4e12), ("H100 PCIe", 756e12), ("H100", 989.4e12), ("A100", 312e12), ("L40S", 362e12))
SIDE, TRIES = 2048, 7  # of the matrices that are multiplied to measure a machine


def about(run: Run, measure: bool = False) -> dict[str, Any]:
    """What the log tells where a run begins: how long it is, what a token costs, how fast it could be."""
    device, dtype = next(run.model.parameters()).device.type, run.recipe.dtype
    peak = measured_peak(device, dtype) if measure else known_peak(device, dtype)
    costs, first = [], 0
    for stage in run.recipe.stage:
        costs.append((first, training_flops(run.model.config, stage.sequence)))
        first += stage.steps
    return {
        "steps": run.recipe.steps,
        "parameters": sum(math.prod(shape) for _, shape in shapes(run.config)),
        "flops_per_token": costs,
        "peak_flops": peak and peak[0],
        "peak_of": peak and peak[1],
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def known_peak(device: str, dtype: str) -> tuple[float, str] | None:
    """(FLOP/s, of what) of a graphics card whose data sheet we know."""
    if device != "cuda" or dtype != "bf16":
        return None
    name = torch.cuda.get_device_name()
    peak = next((peak for part, peak in KNOWN if part in name), None)
    return (peak, f"{name}, bf16, dense, by its data sheet") if peak else None


def measured_peak(device: str, dtype: str) -> tuple[float, str]:
    """(FLOP/s, of what): the fastest of a few products of large matrices, here and now."""
    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    one, other = (torch.randn(SIDE, SIDE, device=device, dtype=kind) for _ in range(2))
    fastest = min(_seconds(one, other, device) for _ in range(TRIES))
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return 2 * SIDE**3 / fastest, f"{where}, products of {dtype} matrices of {SIDE:,}, measured"


def _seconds(one: torch.Tensor, other: torch.Tensor, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    one @ other
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
