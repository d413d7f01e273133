"""Attention by products, a block of queries at a time, is attention."""

import pytest
import torch

from puna.model.attend import mix
from puna.model.products import BLOCK, mix_by_products


@pytest.mark.parametrize(
    ("queries", "keys"), [(1, 1), (5, 5), (BLOCK, BLOCK), (300, 300), (140, 500), (1, 7)]
)
@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.1)]
)
def test_products_mix_as_the_definition_does(queries, keys, dtype, close):
    dice = torch.Generator().manual_seed(queries + keys)
    drawn = [torch.randn(heads, n, 16, generator=dice, dtype=torch.float64).to(dtype)
             for heads, n in ((6, queries), (2, keys), (2, keys))]  # fmt: skip
    slope = torch.randn(6, queries, 16, generator=dice, dtype=torch.float64).to(dtype)
    results = []
    for twin in (mix_by_products, lambda q, k, v: mix(q.transpose(0, 1), k, v).transpose(0, 1)):
        given = [x.clone().requires_grad_() for x in drawn]
        mixed = twin(*given)
        mixed.backward(slope)
        results.append([mixed, *(x.grad for x in given)])
    for ours, definition in zip(*results, strict=True):
        torch.testing.assert_close(ours, definition, atol=close, rtol=close)
