"""The loss without the matrix of logits is the loss with it, gradients too, whatever the chunks."""

import pytest
import torch

from puna.train import loss
from puna.train.loss import chunked_cross_entropy, cross_entropy


def case(rows, width, words, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    head = torch.randn(words, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, words, (rows,), generator=draw)
    weights = torch.randint(0, 2, (rows,), generator=draw).float()
    return hidden, head, targets, weights


@pytest.mark.parametrize("z", [0.0, 1e-2])
@pytest.mark.parametrize("chunk", [1, 70, 1000, 1 << 20])
def test_chunked_is_the_definition(monkeypatch, chunk, z):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    results = []
    for function in (cross_entropy, chunked_cross_entropy):
        hidden, head, targets, weights = case(23, 16, 31)
        sums = function(hidden, head, targets, weights, z)
        (sums[0] * 3).backward()
        results.append((sums.detach().double(), hidden.grad, head.grad))
    for ours, definition in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, definition, rtol=2e-6, atol=1e-6)


def test_the_definition_is_torchs_own():
    hidden, head, targets, weights = case(40, 8, 12, torch.float32)
    sums = cross_entropy(hidden, head, targets, weights)
    own = torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="none")
    torch.testing.assert_close(sums, torch.stack(((own * weights).sum(), (own * weights).sum())).detach())


def test_bf16_sums_in_fp32():
    hidden, head, targets, weights = case(512, 32, 1000, torch.bfloat16)
    exact = cross_entropy(hidden.double(), head.double(), targets, weights)
    torch.testing.assert_close(
        chunked_cross_entropy(hidden, head, targets, weights).double(), exact.double(), rtol=5e-3, atol=0
    )


def test_a_frozen_head_or_hidden_has_no_gradient_and_costs_none():
    hidden, head, targets, weights = case(9, 8, 12)
    chunked_cross_entropy(hidden, head.detach(), targets, weights)[0].backward()
    assert hidden.grad is not None and head.grad is None
    chunked_cross_entropy(hidden.detach(), head, targets, weights)[0].backward()
    assert head.grad is not None
