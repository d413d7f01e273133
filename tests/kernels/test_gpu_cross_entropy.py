"""The Triton twin of the loss is its definition: here under Triton's interpreter, on a GPU as it is."""

import os
import subprocess
import sys

import pytest
import torch

from puna.kernels.gpu.cross_entropy import choose, definition, fused, works_here

SHAPES = ((5, 7), (2, 20_011))  # rows, words; the last takes three rounds of the kernel
CLOSE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}  # of the largest: what rounding to the dtype leaves


def case(rows, words, dtype, device):
    draw = torch.Generator().manual_seed(rows * words)
    logits = (8 * torch.randn(rows, words, generator=draw)).to(dtype)
    targets = torch.randint(0, words, (rows,), generator=draw)
    weights = torch.tensor([1.0, 0.0, 0.5, 2.0, 1.0])[:rows]
    return [x.to(device) for x in (logits, targets, weights)]


def compare(device):
    """The twin against the definition in fp64, between rows that are none of its business."""
    for rows, words in SHAPES:
        for dtype, close in CLOSE.items():
            for z in (0.0, 1e-2):
                logits, targets, weights = case(rows, words, dtype, device)
                exact = logits.double()
                expected = definition(exact, targets, weights.double(), z)
                around = torch.full((rows + 2, words), 9.0, dtype=dtype, device=device)
                given = around[1:-1].copy_(logits)
                told = fused(given, targets, weights, z, learn=False)
                assert torch.equal(given, logits)
                for found in (told, fused(given, targets, weights, z)):
                    for one, other in zip(found, expected, strict=True):
                        torch.testing.assert_close(one.double(), other, rtol=2e-6, atol=2e-6)
                torch.testing.assert_close(
                    given.double(), exact, rtol=close, atol=close * float(exact.abs().max())
                )
                assert (around[[0, -1]] == 9).all()


def test_the_fused_loss_under_the_interpreter_is_its_definition():
    pytest.importorskip("triton", reason="Triton's interpreter runs the kernel")
    here = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-c", "from kernels.test_gpu_cross_entropy import compare; compare('cpu')"],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join((here, *sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_the_definition_answers_and_says_why():
    assert choose("cpu") == (definition, "tensors are on cpu, not on a GPU") and works_here("cpu")


@pytest.mark.gpu
def test_the_fused_loss_on_a_gpu_is_its_definition_and_ten_times_as_fast():
    assert choose("cuda")[0] is fused
    compare("cuda")
    logits = torch.randn(4096, 128_256, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(0, 128_256, (4096,), device="cuda")
    weights = torch.ones(4096, device="cuda")
    milliseconds = {}
    for twin in (definition, fused):
        for _ in range(3):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            twin(logits.clone(), targets, weights)
            end.record()
            torch.cuda.synchronize()
            milliseconds[twin.__name__] = begin.elapsed_time(end)
    assert milliseconds["fused"] < milliseconds["definition"] / 5, milliseconds
