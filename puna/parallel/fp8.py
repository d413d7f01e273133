"""The layers' linears in 8 bits (e4m3), with a scale for every row: twice the rate of 16 bits where the
hardware has it.

Outputs and the gradient of inputs are products of 8 bits; the gradient of weights, which adds up over a whole
batch, is made in 16. Weights stay what they are, so names, checkpoints and what FSDP gathers do not change.
Embedding, head and, unless asked for, the first and the last block stay in 16 bits [P 6.2].
"""

import torch
from torch import Tensor, nn

from puna.errors import ConfigError, HardwareError, need
from puna.model.transformer import Llama
from puna.parallel.world import ALONE, World

MOST = torch.finfo(torch.float8_e4m3fn).max  # 448
LEAST = 1e-30  # of a row's largest number: rows of zeros have a scale too; gradients fall far below 1e-12


def eight_bits(model: Llama, ends: bool = False, world: World = ALONE) -> None:
    """Let the linears of a model, or of a stage of it, multiply in 8 bits; `ends`: the outer blocks' too."""
    reason = works_here(world.device)
    need(not reason, f"dtype fp8: {reason}", "dtype = bf16", HardwareError)
    need(world.layout.tensor == 1, "dtype fp8: not together with tensor parallelism", "bf16", ConfigError)
    outer = set() if ends else {"0", str(model.config.num_hidden_layers - 1)}
    for layer, block in model.model.layers.items():
        linears = [module for module in block.modules() if isinstance(module, nn.Linear)]
        for linear in linears if layer not in outer else ():
            sizes = linear.in_features, linear.out_features
            problem = f"dtype fp8: a linear of {sizes[0]} x {sizes[1]}, but 16 must divide both"
            need(not any(size % 16 for size in sizes), problem, "dtype = bf16", ConfigError)
            linear.__class__ = _EightBits  # the same module under the same name; only what it does changes


def works_here(device: str) -> str | None:
    """Why there are no products of 8 bits, or None. A CPU has them, for their numbers and not for speed."""
    if not device.startswith("cuda") or torch.cuda.get_device_capability(device) >= (8, 9):
        return None
    return f"{torch.cuda.get_device_name(device)} has no products of 8 bits"


class _EightBits(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = _Rowwise.apply(x.flatten(0, -2), self.weight)
        return mixed.unflatten(0, x.shape[:-1])


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        d_x = product(gradient, weight.T).to(x.dtype) if wants_x else None
        return d_x, gradient.T @ x if wants_weight else None


def product(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times the transpose of b (N, K), both rounded to 8 bits, in bf16: (M, N)."""
    (small_a, scale_a), (small_b, scale_b) = rounded(a), rounded(b)
    return torch._scaled_mm(
        small_a, small_b.T, scale_a, scale_b.T, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (M, K) in 8 bits, and the scale of each row (M, 1), fp32: the product of both is nearly x."""
    scale = x.abs().amax(1, keepdim=True).float().clamp(min=LEAST) / MOST  # (M, 1)
    return (x.float() / scale).to(torch.float8_e4m3fn).contiguous(), scale
