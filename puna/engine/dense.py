"""The model in torch's numbers, behind the torch runner: for a GPU, for a number type that was asked for, and
where there is no native step."""

import torch

from puna import hardware
from puna.engine.pages import cache_pages
from puna.engine.runner import PAGE, TorchRunner, page_bytes
from puna.errors import HardwareError, need
from puna.model import weights as model_weights
from puna.model.config import ModelConfig, parameters
from puna.model.weights import Weights

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def dense_runner(weights: Weights, dtype: str, threads: int, context: int) -> TorchRunner:
    """Fill a model; `dtype` f32, bf16, f16 or auto."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = choose_dtype(dtype, weights.config, device)
    llama = model_weights.load(weights, chosen, device, threads)
    pages = cache_pages(context, page_bytes(weights.config, chosen.itemsize), free_memory(device), PAGE)
    return TorchRunner(llama, pages)


def choose_dtype(dtype: str, config: ModelConfig, device: str) -> torch.dtype:
    """fp32 on a CPU that holds it twice over (exact, and no slower than bf16), else bf16."""
    need(dtype == "auto" or dtype in DTYPES, f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
    free = free_memory(device)
    count = parameters(config)
    if dtype == "auto":
        dtype = "f32" if device == "cpu" and (not free or 8 * count <= free) else "bf16"
    size = count * DTYPES[dtype].itemsize
    gib = f"{size / 2**30:.1f} GiB as {dtype}, and {free / 2**30:.1f} GiB"
    need(
        not free or size <= free,
        f"the model takes {gib} of {device} memory are free",
        "a smaller model" if dtype != "f32" else "--dtype bf16",
        HardwareError,
    )
    return DTYPES[dtype]


def free_memory(device: str) -> int:
    """Bytes of a device that can be taken now. 0 where unknown."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else hardware.available_memory()
