"""RoPE's frequencies for those who must not import torch: a twin of rope.py's, held to it by a test."""

import math

import numpy as np

from puna.model.config import ModelConfig


def frequencies(config: ModelConfig) -> np.ndarray:
    """Radians per position of each channel pair, (Dh/2,), fp32, scaled as the config says."""
    pairs = np.arange(0, config.head_dim, 2)
    plain = config.rope_theta ** (-pairs / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return plain.astype(np.float32)
    if scaling.rope_type == "linear":
        return (plain / scaling.factor).astype(np.float32)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = scaling.original_max_position_embeddings * plain / (2 * math.pi)  # in the original context
    keep = ((turns - low) / (high - low)).clip(0, 1)  # 1: short wavelength, left alone; 0: divided by factor
    return ((1 - keep) * plain / scaling.factor + keep * plain).astype(np.float32)
