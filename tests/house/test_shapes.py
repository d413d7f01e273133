"""The shape comments of the model and of what it attends to are true."""

import numpy as np
import pytest
import torch

from puna.model import attend, rope, transformer
from puna.model.attend import Memory, causal, documents
from tests.house.shapes import ShapeChecker, claims
from tests.models import TRAITS, random_model


def toy_attention(x, wq, wk, wv, wo, heads, groups):
    """Causal grouped-query attention over x (B, T, D), in numpy: something with claims to check."""
    B, T, _ = x.shape
    q = (x @ wq).reshape(B, T, heads, -1)  # (B, T, H, Dh)
    k = (x @ wk).reshape(B, T, groups, -1)  # (B, T, K, Dh)
    v = (x @ wv).reshape(B, T, groups, -1)  # (B, T, K, Dh)
    k, v = (np.repeat(t, heads // groups, axis=2) for t in (k, v))  # (B, T, H, Dh)
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])  # (B, H, T, T)
    scores = np.where(np.tril(np.ones((T, T), bool)), scores, -np.inf)  # (B, H, T, T)
    weights = np.exp(scores - scores.max(-1, keepdims=True))  # (B, H, T, T)
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum(
        "bhts,bshd->bthd",
        weights,
        v,
    )  # (B, T, H, Dh)
    y = mixed.reshape(B, T, -1)  # (B, T, H*Dh)
    return y @ wo


def toy_that_lies(x):
    z = x  # (B, T, D)
    y = z.transpose(0, 2, 1)  # (B, T, D)
    return y


def test_true_comments_pass_and_a_lie_is_caught():
    rng = np.random.default_rng(0)
    D, H, K, Dh = 32, 8, 2, 4
    x = rng.normal(size=(2, 5, D))
    args = x, *(rng.normal(size=(D, n)) for n in (H * Dh, K * Dh, K * Dh)), rng.normal(size=(H * Dh, D)), H, K
    with ShapeChecker(__file__) as shapes:
        toy_attention(*args)
    assert shapes.checked >= 9
    with pytest.raises(AssertionError, match="but its comment says"), ShapeChecker(__file__):
        toy_that_lies(x)


@pytest.mark.parametrize("traits", ["3-8b", "3.2-1b", "smollm2-135m"])
@torch.inference_mode()
def test_the_models_shape_comments_are_true(traits):
    model = random_model(TRAITS[traits])
    tokens = torch.randint(0, 512, (2, 7))
    files = [transformer.__file__, rope.__file__, attend.__file__]
    with ShapeChecker(*files) as shapes:
        model(tokens, torch.arange(7).expand(2, 7), causal)
        model(tokens, torch.arange(7).expand(2, 7), documents(torch.tensor([[0] * 3 + [1] * 4] * 2)))
        memory = Memory(model.config)
        model(tokens[0], torch.arange(7), memory)
        memory.advance(7)
        model(tokens[0, :1], torch.arange(7, 8), memory)
    assert shapes.checked > sum(len(claims(file)) for file in files)
