"""Blocks of quantised weights: `decode` gives the values that bytes hold, `encode` the bytes for values.

Every kind is a row of fields (LAYOUTS), and every value is `scale * level + low`, where a group of neighbours
shares scale and low. So one page of numpy reads all kinds; it is bit-equal to the format's reference, and
fast enough to load with because the work goes in chunks that stay in the processor's cache.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from puna.errors import WeightsError, need
from puna.gguf import size_in_bytes
from puna.hardware import cores
from puna.quant.formats import CURVE, ZERO, format_of
from puna.quant.rounding import round_to_grid

CHUNK = 2**16  # values worked on at once: 256 KiB as float32, a few such arrays fit a core's cache


class Field(NamedTuple):
    """`groups * width` bytes of codes, 8 / bits codes a byte; bits 16 is one half-precision number.

    Within a group all the lowest codes come first, then all the next: code k of byte w is value
    `k * width + w`.
    """

    name: str
    bits: int
    groups: int = 1
    width: int = 1

    @property
    def size(self) -> int:
        return self.groups * self.width * (2 if self.bits == 16 else 1)


D, M = Field("d", 16), Field("m", 16)
LAYOUTS = {
    "Q4_0": (D, Field("codes", 4, 1, 16)),
    "Q4_1": (D, M, Field("codes", 4, 1, 16)),
    "Q5_0": (D, Field("high", 1, 4, 1), Field("codes", 4, 1, 16)),
    "Q5_1": (D, M, Field("high", 1, 4, 1), Field("codes", 4, 1, 16)),
    "Q8_0": (D, Field("codes", 8, 1, 32)),
    "Q2_K": (Field("scales", 4, 1, 16), Field("codes", 2, 2, 32), D, M),
    "Q3_K": (
        Field("high", 1, 1, 32),
        Field("codes", 2, 2, 32),
        Field("scales", 4, 1, 8),
        Field("scales_high", 2, 1, 4),
        D,
    ),
    "Q4_K": (D, M, Field("scales", 8, 1, 12), Field("codes", 4, 4, 32)),
    "Q5_K": (D, M, Field("scales", 8, 1, 12), Field("high", 1, 1, 32), Field("codes", 4, 4, 32)),
    "Q6_K": (Field("codes", 4, 2, 64), Field("high", 2, 2, 32), Field("scales", 8, 1, 16), D),
    "IQ4_NL": (D, Field("codes", 4, 1, 16)),
    "IQ4_XS": (D, Field("scales_high", 2, 2, 1), Field("scales", 4, 4, 1), Field("codes", 4, 8, 16)),
}
PLAIN = ("F32", "F16", "BF16")


def decode(
    kind: str,
    data: np.ndarray,
    shape: tuple[int, ...],
    out: np.ndarray | None = None,
    where: str = "tensor",
) -> np.ndarray:
    """The float32 values of a stored tensor (flat uint8), in `out` (of that shape, contiguous) if given.

    WeightsError if the bytes do not fit the shape. Temporaries stay under 2 MiB. One thread: the steps are so
    short that a second one would only wait for the interpreter; whoever decodes many tensors may give each
    thread its own.
    """
    form, size = format_of(kind, where), size_in_bytes(kind, shape, where)
    need(
        data.size == size,
        f"{where}: {data.size:,} bytes, but {kind} of shape {shape} takes {size:,}",
        error=WeightsError,
    )
    if out is None:
        out = np.empty(shape, np.float32)
    assert out.dtype == np.float32 and out.shape == tuple(shape) and out.flags.c_contiguous
    blocks = np.ascontiguousarray(data).reshape(-1, form.size)  # (N, bytes)
    values = out.reshape(-1, form.values)  # (N, values)
    one = _decode_plain if kind in PLAIN else decode_blocks
    for rows in _chunks(len(blocks), form.values):
        one(kind, blocks[rows], values[rows])
    return out


def encode(kind: str, values: np.ndarray, threads: int | None = None, where: str = "tensor") -> np.ndarray:
    """The bytes (flat uint8) that store `values` (rows, columns) of float32 or narrower as `kind`.

    WeightsError for rows that do not divide into blocks, and for values that the kind cannot hold.
    Temporaries stay under 16 MiB a thread; threads=None uses every core.
    """
    form, size = format_of(kind, where), size_in_bytes(kind, values.shape, where)
    flat = np.ascontiguousarray(values).reshape(-1, form.values)  # (N, values)
    data = np.empty(size, np.uint8)
    blocks = data.reshape(-1, form.size)  # (N, bytes)

    def work(rows: slice) -> None:
        some = flat[rows].astype(np.float32, copy=False)
        blocks[rows], bad = _encode_plain(kind, some) if kind in PLAIN else encode_blocks(kind, some)
        if bad.any():
            block = rows.start + int(bad.argmax())
            raise _refusal(kind, flat[block], block * form.values, values.shape[-1], where)

    with ThreadPoolExecutor(threads or cores()) as pool:
        for _ in pool.map(work, _chunks(len(blocks), form.values)):  # raises what a worker raised
            pass
    return data


def decode_blocks(kind: str, blocks: np.ndarray, out: np.ndarray) -> None:
    """The definition of every block kind: out (N, values) = scale * level + low, from blocks (N, bytes)."""
    fields = unpack(kind, blocks)
    with np.errstate(all="ignore"):  # a broken file may hold infinite scales: its values say so
        scale, low = _scale_and_low(kind, fields)  # (N, groups), the same or None
        out[...] = _levels(kind, fields["codes"])
        grouped = out.reshape(len(out), scale.shape[1], -1)  # (N, groups, values / groups)
        grouped *= scale[:, :, None]
        if low is not None:
            grouped += low[:, :, None]


def encode_blocks(kind: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks (N, bytes) that come near `values` (N, values), and which of them could not be made (N,)."""
    with np.errstate(all="ignore"):
        fields = round_to_grid(kind, values)
        bad = ~np.isfinite(values).all(axis=1)
        for name in fields.keys() & {"d", "m"}:
            bad |= ~np.isfinite(fields[name].astype(np.float16))[:, 0]
        return pack(kind, fields), bad


def unpack(kind: str, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of blocks (N, bytes): uint8 codes and scales in order (N, n), float32 d and m (N, 1)."""
    fields = {field.name: _spread(field, blocks, place) for field, place in _places(kind)}
    if "high" in fields:
        low_bits = next(field.bits for field in LAYOUTS[kind] if field.name == "codes")
        fields["codes"] |= fields.pop("high") << low_bits
    if "scales_high" in fields:
        fields["scales"] |= fields.pop("scales_high") << 4
    if kind in ("Q4_K", "Q5_K"):
        fields["scales"] = _six_bits(fields["scales"])
    return fields


def pack(kind: str, fields: dict[str, np.ndarray]) -> np.ndarray:
    """The inverse of unpack."""
    fields = dict(fields)
    names = {field.name: field.bits for field in LAYOUTS[kind]}
    if "high" in names:
        fields["high"] = fields["codes"] >> names["codes"]
    if "scales_high" in names:
        fields["scales_high"] = fields["scales"] >> 4
    if kind in ("Q4_K", "Q5_K"):
        fields["scales"] = _from_six_bits(fields["scales"])
    blocks = np.empty((len(fields["codes"]), format_of(kind).size), np.uint8)  # (N, bytes)
    for field, place in _places(kind):
        blocks[:, place] = _gather(field, fields[field.name])
    return blocks


def _places(kind: str) -> Iterator[tuple[Field, slice]]:
    start = 0
    for field in LAYOUTS[kind]:
        yield field, slice(start, start + field.size)
        start += field.size


def _spread(field: Field, blocks: np.ndarray, place: slice) -> np.ndarray:
    """One field of blocks (N, bytes) as its codes (N, n)."""
    if field.bits == 16:
        return blocks.view("<f2")[:, place.start // 2, None].astype(np.float32)  # (N, 1)
    data = np.ascontiguousarray(blocks[:, place])  # (N, size)
    if field.bits == 8:
        return data
    grouped = data.reshape(len(data), field.groups, field.width)  # (N, groups, width)
    codes = np.empty((len(data), field.groups, 8 // field.bits, field.width), np.uint8)
    for k in range(8 // field.bits):
        codes[:, :, k] = grouped >> (k * field.bits)
    codes &= 2**field.bits - 1
    return codes.reshape(len(data), -1)


def _gather(field: Field, codes: np.ndarray) -> np.ndarray:
    """The inverse of _spread; bits of a code above the field's are dropped."""
    if field.bits == 16:
        return codes.astype("<f2").view(np.uint8)
    shape = len(codes), field.groups, 8 // field.bits, field.width
    kept = (codes & (2**field.bits - 1)).reshape(shape)  # (N, groups, 8 / bits, width)
    data = kept[:, :, 0].copy()  # (N, groups, width)
    for k in range(1, 8 // field.bits):
        data |= kept[:, :, k] << (k * field.bits)
    return data.reshape(len(codes), -1)


def _levels(kind: str, codes: np.ndarray) -> np.ndarray:
    """Codes (N, values) as the integers they stand for."""
    if kind in ("IQ4_NL", "IQ4_XS"):
        return CURVE[codes]
    if kind == "Q8_0":
        return codes.view(np.int8)
    return codes.view(np.int8) - np.int8(ZERO[kind]) if kind in ZERO else codes


def _scale_and_low(kind: str, fields: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """What each group of neighbours shares: (N, groups) float32 twice, or no low."""
    d, m = fields["d"], fields.get("m")
    if "scales" not in fields:
        return d, m
    scales = fields["scales"]  # (N, n)
    if m is not None:  # Q2_K, Q4_K, Q5_K: as many scales as lows
        scales, lows = np.split(scales, 2, axis=1)  # (N, n/2)
        return d * scales, -(m * lows)
    signed = scales.view(np.int8) if kind == "Q6_K" else scales.view(np.int8) - np.int8(32)
    return d * signed, None


def _six_bits(data: np.ndarray) -> np.ndarray:
    """Q4_K's and Q5_K's 12 bytes as 8 scales, then 8 lows: the last 4 of each are split over two bytes."""
    first, second, rest = np.split(data, 3, axis=1)  # (N, 4)
    scales = first & 63, (rest & 15) | (first >> 6 << 4)
    lows = second & 63, (rest >> 4) | (second >> 6 << 4)
    return np.concatenate((*scales, *lows), axis=1)  # (N, 16)


def _from_six_bits(codes: np.ndarray) -> np.ndarray:
    """The inverse of _six_bits."""
    scales, scales_after, lows, lows_after = np.split(codes, 4, axis=1)  # (N, 4)
    first, second = scales | (scales_after >> 4 << 6), lows | (lows_after >> 4 << 6)
    return np.concatenate((first, second, (scales_after & 15) | (lows_after << 4)), axis=1)  # (N, 12)


def _decode_plain(kind: str, data: np.ndarray, out: np.ndarray) -> None:
    """F32, F16, BF16: data (N, bytes) as out (N, 1)."""
    if kind == "BF16":  # a float32 that lost its lower half
        np.left_shift(data.view("<u2"), 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        with np.errstate(invalid="ignore"):
            out[...] = data.view("<f4" if kind == "F32" else "<f2")


def _encode_plain(kind: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """values (N, 1) as bytes (N, bytes), and which finite values became infinite (N,)."""
    if kind == "F32":
        return values.astype("<f4", copy=False).view(np.uint8), np.zeros(len(values), bool)
    if kind == "F16":
        with np.errstate(over="ignore", invalid="ignore"):
            halves = values.astype("<f2")  # (N, 1)
        return halves.view(np.uint8), (np.isinf(halves) & np.isfinite(values))[:, 0]
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to the nearest, to even at a tie
    kept = np.where(np.isnan(values), bits >> 16 | 64, rounded).astype("<u2")  # a NaN stays one
    return kept.view(np.uint8), ((kept & 0x7FFF) == 0x7F80)[:, 0] & np.isfinite(values)[:, 0]


def _refusal(kind: str, block: np.ndarray, first: int, columns: int, where: str) -> WeightsError:
    """Why this block, which begins at value number `first` of the tensor, cannot be stored."""
    row, column = divmod(first, columns)
    place = f"{where}: row {row:,}, columns {column:,} to {column + len(block) - 1:,}"
    wrong = ~np.isfinite(block)
    if wrong.any():
        return WeightsError(f"{place}: {wrong.sum()} of {len(block)} values are not finite numbers")
    largest = np.abs(block).max()
    return WeightsError(f"{place}: values up to {largest:.3g} are too large for {kind}\n  try: BF16 or F32")


def _chunks(blocks: int, values: int) -> list[slice]:
    """All blocks of so many values, about CHUNK values at a time."""
    step = CHUNK // values
    return [slice(start, start + step) for start in range(0, blocks, step)]
