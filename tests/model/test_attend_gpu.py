"""On a GPU documents are mixed by one kernel: it is the mask's definition there too."""

import pytest
import torch

from puna.model.attend import documents, segments

OWNERS = {
    "packed": [[1, 1, 1, 2, 2, 3, 3, 3, 3], [3, 5, 5, 5, 5, 5, 5, 5, 5]],  # a text begins where a row ends
    "a text a row": [[1] * 9, [2] * 9],
    "texts of one token": [list(range(9)), [9] * 9],
}


def mixed(attend, device, dtype, width=64):
    """What comes out, and the gradients of q, k and v."""
    draw = torch.Generator().manual_seed(1)
    shapes = [(2, 9, heads, width) for heads in (4, 2, 2)]
    given = [torch.randn(shape, generator=draw).to(device, dtype).requires_grad_() for shape in shapes]
    out = attend(0, *given)
    out.float().square().sum().backward()
    return [out.detach(), *(x.grad for x in given)]


def compare(device, dtype, close):
    for owner in map(torch.tensor, OWNERS.values()):
        expected = mixed(documents(owner), "cpu", torch.float32)
        for given in (owner, owner.to(device)):
            for one, other in zip(mixed(segments(given), device, dtype), expected, strict=True):
                assert (one.cpu().float() - other).norm() < close * other.norm()


def test_documents_of_every_kind_of_row_are_mixed_as_the_mask_says():
    compare("cpu", torch.float32, 1e-5)
    compare("cpu", torch.bfloat16, 1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "close"), [(torch.bfloat16, 1e-2), (torch.float32, 1e-5)])
def test_documents_on_a_gpu_are_mixed_as_the_mask_says(dtype, close):
    compare("cuda", dtype, close)


def queries(begin, end):
    """Attention that is asked for some positions of each row only, as where a sequence lies on several ranks."""
    return lambda layer, q, k, v: segments(torch.tensor(OWNERS["packed"]), begin, end)(
        layer, q[:, begin:end], k, v
    )


@pytest.mark.gpu
def test_some_positions_of_rows_on_a_gpu_are_mixed_as_all_are():
    whole = mixed(documents(torch.tensor(OWNERS["packed"])), "cpu", torch.float32)[0]
    for begin, end in ((0, 4), (4, 9), (2, 7)):
        found = mixed(queries(begin, end), "cuda", torch.bfloat16)[0].cpu().float()
        assert (found - whole[:, begin:end]).norm() < 1e-2 * whole[:, begin:end].norm()


@pytest.mark.gpu
def test_many_short_documents_on_a_gpu_cost_less_than_a_mask():
    owner = (torch.arange(8192) // 100)[None]  # (1, T)
    shape = (1, 8192, 32, 128)
    milliseconds = {}
    for name, attend in {"mask": documents(owner.cuda()), "segments": segments(owner)}.items():
        q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in "qkv")
        for _ in range(3):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            attend(0, q, k, v).sum().backward()
            end.record()
            torch.cuda.synchronize()
            milliseconds[name] = begin.elapsed_time(end)
    assert milliseconds["segments"] < milliseconds["mask"] / 4, milliseconds
