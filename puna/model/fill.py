"""Weights from a file into a model that is already laid out: a rank reads the rows that it holds alone."""

import torch
from torch import nn

from puna.model.init import pieces
from puna.model.weights import Weights, check


def fill(model: nn.Module, weights: Weights) -> None:
    """Every parameter of a model, or of this rank's part of it, from the tensor of its name."""
    check(weights)
    with torch.no_grad():
        for name, _, local, corner in pieces(model):
            rows = weights.rows(name, corner[0], corner[0] + local.shape[0])  # (n, ...)
            local.copy_(rows.narrow(-1, corner[-1], local.shape[-1]) if rows.ndim > 1 else rows)
