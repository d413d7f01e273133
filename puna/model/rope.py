"""Where a token stands: RoPE turns pairs of channels by an angle that grows with the position [P 3.2]."""

import math

import torch

from puna.model.config import ModelConfig


def frequencies(config: ModelConfig, device: torch.device | None = None) -> torch.Tensor:
    """Radians per position of each channel pair, (Dh/2,), fp32, scaled as the config says."""
    pairs = torch.arange(0, config.head_dim, 2, device=device).float()
    plain = 1.0 / config.rope_theta ** (pairs / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return plain
    if scaling.rope_type == "linear":
        return plain / scaling.factor
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = scaling.original_max_position_embeddings * plain / (2 * math.pi)  # in the original context
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1: short wavelength, left alone; 0: divided by factor
    return (1 - keep) * plain / scaling.factor + keep * plain


def angles(positions: torch.Tensor, config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of each position's turn, (..., 1, Dh/2), fp32."""
    turn = positions[..., None, None] * frequencies(config, positions.device)
    return turn.cos(), turn.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each channel pair (i, i + Dh/2) of x (..., H, Dh) by its position's angle (..., 1, Dh/2)."""
    first, second = at_least_fp32(x).chunk(2, dim=-1)  # (..., H, Dh/2)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)  # (..., H, Dh)
    return turned.type_as(x)


def at_least_fp32(x: torch.Tensor) -> torch.Tensor:
    """Where 16 bits are too few; 64 stay, so that equalities can be held to their last digits."""
    return x if x.dtype == torch.float64 else x.float()
