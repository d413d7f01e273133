"""Rounding: which codes and scales stand for a block of weights with the least error.

The 32-value kinds take their scale from the block's extremes, as every writer of these files does. The K
kinds hold more to choose (a scale, perhaps a low, for each small group, and these are integers times one
half-precision number), so for them we minimise the squared error: first the best line for each group alone,
among a few scales tried; then, in turn, the codes given the scales and the scales given the codes, each by
least squares.
"""

from typing import NamedTuple

import numpy as np

from puna.quant.formats import CURVE, ZERO

Fields = dict[str, np.ndarray]
ROUNDS = 2  # of codes given scales, scales given codes; more gain about 0.1%
# The share of a group's range that its levels span, tried in turn: cutting off the extremes is often best.
STRETCHES = np.linspace(0.8, 1.07, 13, dtype=np.float32)


class Affine(NamedTuple):
    """Values are d * scale * code - m * low: codes 0..top; scales and lows 0..most, each for one group."""

    groups: int
    top: int
    most: int


class Signed(NamedTuple):
    """Values are d * scale * level: scales least..most, each for one group; levels lowest..highest."""

    groups: int
    least: int
    most: int
    lowest: int
    highest: int


AFFINE = {"Q2_K": Affine(16, 3, 15), "Q4_K": Affine(8, 15, 63), "Q5_K": Affine(8, 31, 63)}
SIGNED = {
    "Q3_K": Signed(16, -32, 31, -4, 3),
    "Q6_K": Signed(16, -128, 127, -32, 31),
    "IQ4_XS": Signed(8, -32, 31, -127, 113),
    "IQ4_NL": Signed(1, 1, 1, -127, 113),
}
# The code of the level nearest to an integer, by integer + 127.
NEAREST = np.abs(np.arange(-127, 114)[:, None] - CURVE.astype(int)).argmin(axis=1).astype(np.uint8)


def round_to_grid(kind: str, x: np.ndarray) -> Fields:
    """The fields of blocks of `kind` that come nearest to x (N, values), as blocks.pack takes them."""
    if kind in AFFINE:
        return _affine_blocks(AFFINE[kind], x)
    if kind in SIGNED:
        return _signed_blocks(kind, SIGNED[kind], x)
    if kind == "Q8_0":
        return _round_q8(x)
    top = 15 if kind.startswith("Q4") else 31
    return _round_signed(x, top) if kind in ZERO else _round_affine(x, top)


def _inverse(d: np.ndarray) -> np.ndarray:
    """1 / d, and 0 where that is no number: a scale too small to matter."""
    inverse = 1 / d
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _round_q8(x: np.ndarray) -> Fields:
    """Q8_0: the largest value of a block becomes 127 or -127; halves are rounded away from zero."""
    d = np.abs(x).max(axis=1, keepdims=True) / 127  # (N, 1)
    scaled = x * _inverse(d)  # (N, 32)
    whole = np.trunc(scaled)  # (N, 32)
    whole += np.copysign(np.abs(scaled - whole) >= 0.5, scaled)
    return {"d": d, "codes": whole.astype(np.int8).view(np.uint8)}


def _round_signed(x: np.ndarray, top: int) -> Fields:
    """Q4_0, Q5_0: the value furthest from zero becomes code 0, the end that has one level more."""
    zero = (top + 1) // 2
    furthest = np.take_along_axis(x, np.abs(x).argmax(axis=1, keepdims=True), axis=1)  # (N, 1)
    d = furthest / -zero  # (N, 1)
    codes = np.clip(x * _inverse(d) + np.float32(zero + 0.5), 0, top)  # (N, 32)
    return {"d": d, "codes": codes.astype(np.uint8)}


def _round_affine(x: np.ndarray, top: int) -> Fields:
    """Q4_1, Q5_1: the block's smallest value is code 0, its largest is code top."""
    low = x.min(axis=1, keepdims=True)  # (N, 1)
    d = (x.max(axis=1, keepdims=True) - low) / top  # (N, 1)
    codes = np.clip((x - low) * _inverse(d) + np.float32(0.5), 0, top)  # (N, 32)
    return {"d": d, "m": low, "codes": codes.astype(np.uint8)}


def _affine_blocks(grid: Affine, x: np.ndarray) -> Fields:
    """Q2_K, Q4_K, Q5_K: d, m, codes, and scales followed by lows."""
    unit = _unit(x)  # (N, 1)
    parts, weights = _by_group(x / unit, grid.groups)  # (values, G)
    shape = len(x), grid.groups
    scale, low = (v.reshape(shape) for v in _best_lines(parts, weights, grid.top))  # (N, groups)
    d, m = (_to_half(v.max(axis=1, keepdims=True) / grid.most, unit) for v in (scale, low))  # (N, 1)
    scales, lows = _integers(scale, d, 0, grid.most), _integers(low, m, 0, grid.most)  # (N, groups)
    for _ in range(ROUNDS):
        sums = _Sums.of(_codes(parts, d * scales, m * lows, grid.top), parts, weights, shape)
        d, m = _refit(sums, scales, lows, d, m, unit)
        scales, lows = _best_integers(sums, d, m, grid.most)
    codes = _codes(parts, d * scales, m * lows, grid.top)  # (values, G)
    both = np.concatenate((scales, lows), axis=1).astype(np.uint8)  # (N, 2 groups)
    return {"d": d * unit, "m": m * unit, "scales": both, "codes": _by_block(codes, len(x))}


class _Sums(NamedTuple):
    """What a group's squared error depends on, given its codes q: weighted sums over its values x."""

    one: np.ndarray
    q: np.ndarray
    qq: np.ndarray
    x: np.ndarray
    xq: np.ndarray

    @staticmethod
    def of(codes: np.ndarray, parts: np.ndarray, weights: np.ndarray, shape: tuple[int, ...]) -> "_Sums":
        """From codes, values and weights (values, G), each sum in `shape`."""
        wq, wx = weights * codes, weights * parts  # (values, G)
        return _Sums(*(v.sum(axis=0).reshape(shape) for v in (weights, wq, wq * codes, wx, wq * parts)))

    def error(self, scale: np.ndarray, low: np.ndarray) -> np.ndarray:
        """Of scale * q - low against x, less the part that no choice changes."""
        from_scale = scale * (scale * self.qq - 2 * self.xq)
        return from_scale + low * (low * self.one + 2 * self.x - 2 * scale * self.q)

    def line(self) -> tuple[np.ndarray, np.ndarray]:
        """The scale and low with the least error, neither below zero."""
        spread = self.one * self.qq - self.q * self.q
        scale = (self.one * self.xq - self.q * self.x) * _inverse(spread)
        low = (scale * self.q - self.x) * _inverse(self.one)
        outside = (low < 0) | (scale < 0) | (spread <= 0)
        through_zero = np.maximum(self.xq * _inverse(self.qq), 0)
        flat = np.where(self.qq > 0, 0, np.maximum(-self.x * _inverse(self.one), 0))  # every code is 0
        return np.where(outside, through_zero, scale), np.where(outside, flat, low)


def _best_lines(parts: np.ndarray, weights: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """scale and low (G,), not negative, of the best line scale * code - low for each group (values, G)."""
    lowest = np.minimum(parts.min(axis=0), 0)  # (G,)
    shifted, span = parts - lowest, parts.max(axis=0) - lowest
    best, scale, low = (np.zeros_like(lowest) for _ in range(3))  # (G,)
    for stretch in STRETCHES:
        codes = np.rint(shifted * _inverse(span / (top * stretch)))  # (values, G)
        sums = _Sums.of(np.clip(codes, 0, top, out=codes), parts, weights, lowest.shape)
        line = sums.line()
        error = sums.error(*line)
        best, scale, low = np.where(error < best, (error, *line), (best, scale, low))
    return scale, low


def _codes(parts: np.ndarray, scale: np.ndarray, low: np.ndarray, top: int) -> np.ndarray:
    """The nearest codes (values, G) for the scale and low of each group."""
    inverse = _inverse(scale).reshape(-1)  # (G,)
    codes = parts * inverse  # (values, G)
    codes += low.reshape(-1) * inverse
    np.rint(codes, out=codes)
    return np.clip(codes, 0, top, out=codes)


def _refit(
    sums: _Sums, scales: np.ndarray, lows: np.ndarray, d: np.ndarray, m: np.ndarray, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """d and m (N, 1) with the least error, given codes and integers; m stays where only d can be told."""

    def total(some: np.ndarray) -> np.ndarray:
        return some.sum(axis=1, keepdims=True)  # (N, 1)

    uu, uv, vv = (
        total(scales * scales * sums.qq),
        -total(scales * lows * sums.q),
        total(lows * lows * sums.one),
    )
    xu, xv = total(scales * sums.xq), -total(lows * sums.x)
    spread = uu * vv - uv * uv
    alike = spread <= 1e-6 * uu * vv  # scales and lows pull the same way, or one of them is all zeros
    new_d = np.where(alike, (xu - m * uv) * _inverse(uu), (xu * vv - xv * uv) * _inverse(spread))
    new_m = np.where(alike, m, (xv * uu - xu * uv) * _inverse(spread))
    good = (new_d > 0) & (new_m >= 0)
    return _to_half(np.where(good, new_d, d), unit), _to_half(np.where(good, new_m, m), unit)


def _best_integers(sums: _Sums, d: np.ndarray, m: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Integer scales and lows (N, groups) with the least error, given codes, d and m."""
    scale, low = sums.line()  # (N, groups)
    near, near_low = _integers(scale, d, 0, most), _integers(low, m, 0, most)
    best = np.full_like(scale, np.inf)
    scales, lows = near, near_low
    for step in (-1, 0, 1):
        for step_low in (-1, 0, 1):
            some, some_low = np.clip(near + step, 0, most), np.clip(near_low + step_low, 0, most)
            error = sums.error(d * some, m * some_low)
            best, scales, lows = np.where(error < best, (error, some, some_low), (best, scales, lows))
    return scales, lows


def _signed_blocks(kind: str, grid: Signed, x: np.ndarray) -> Fields:
    """Q3_K, Q6_K, IQ4_XS: d, codes and scales; IQ4_NL has no scales."""
    unit = _unit(x)  # (N, 1)
    parts, weights = _by_group(x / unit, grid.groups)  # (values, G)
    scale = _best_scales(kind, grid, parts, weights).reshape(len(x), -1)  # (N, groups)
    d = _to_half(_furthest(scale, axis=1) / grid.least, unit)  # (N, 1)
    scales = _integers(scale, d, grid.least, grid.most)  # (N, groups)
    for _ in range(ROUNDS):
        _, levels = _nearest(kind, grid, parts * _inverse(d * scales).reshape(-1))  # (values, G)
        xq, qq = (v.reshape(scales.shape) for v in _products(parts, levels, weights))  # (N, groups)
        best = (scales * xq).sum(axis=1, keepdims=True) * _inverse(
            (scales**2 * qq).sum(axis=1, keepdims=True)
        )
        d = np.where(best == 0, d, _to_half(best, unit))
        scales = np.where(qq > 0, _integers(xq * _inverse(qq), d, grid.least, grid.most), scales)
    codes, _ = _nearest(kind, grid, parts * _inverse(d * scales).reshape(-1))
    stored = scales if kind == "Q6_K" else scales + 32
    return {
        "d": d * unit,
        "scales": stored.astype(np.int8).view(np.uint8),
        "codes": _by_block(codes, len(x)),
    }


def _best_scales(kind: str, grid: Signed, parts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The scale (G,) whose multiples of the levels come nearest to each group of parts (values, G)."""
    to_lowest = grid.lowest * _inverse(_furthest(parts, axis=0)[0])  # (G,)
    best, scale = np.zeros_like(to_lowest), np.zeros_like(to_lowest)  # (G,)
    for stretch in STRETCHES:
        _, levels = _nearest(kind, grid, parts * (stretch * to_lowest))  # (values, G)
        xq, qq = _products(parts, levels, weights)  # (G,)
        fitted = xq * _inverse(qq)
        best, scale = np.where(fitted * xq > best, (fitted * xq, fitted), (best, scale))
    return scale


def _products(parts: np.ndarray, levels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weighted = weights * levels  # (values, G)
    return (weighted * parts).sum(axis=0), (weighted * levels).sum(axis=0)  # (G,)


def _nearest(kind: str, grid: Signed, scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest codes and their levels (values, G); overwrites scaled."""
    np.rint(scaled, out=scaled)
    np.clip(scaled, grid.lowest, grid.highest, out=scaled)
    if kind in ZERO:
        return scaled + np.float32(ZERO[kind]), scaled
    codes = NEAREST[scaled.astype(np.int16) - grid.lowest]  # (values, G)
    return codes, CURVE[codes].astype(np.float32)


def _furthest(x: np.ndarray, axis: int) -> np.ndarray:
    """The value furthest from zero along an axis, with its sign."""
    return np.take_along_axis(x, np.expand_dims(np.abs(x).argmax(axis=axis), axis), axis=axis)


def _unit(x: np.ndarray) -> np.ndarray:
    """The largest magnitude of each block (N, 1), or 1: in these units no square vanishes or overflows."""
    unit = np.abs(x).max(axis=1, keepdims=True)  # (N, 1)
    unit[unit == 0] = 1
    return unit


def _integers(wanted: np.ndarray, step: np.ndarray, least: int, most: int) -> np.ndarray:
    return np.clip(np.rint(wanted * _inverse(step)), least, most)


def _to_half(value: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The half-precision number nearest to value * unit, in units; the next one up where steps are coarse.

    Below 2^-14 a smaller d could need integers beyond their range, or be 0 and lose the block; a larger one
    cannot.
    """
    true = value * unit
    half = true.astype(np.float16).astype(np.float32)
    up = np.copysign(np.ceil(np.abs(true) * np.float32(2**24)) * np.float32(2**-24), true)
    return np.where(np.abs(true) < 2**-14, up, half) / unit


def _by_group(x: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks (N, values) with a group to a column, so that sums and scales run along memory; their weights.

    Weighing an error by |x| + rms favours large weights a little. Of the weights tried (none, |x|, x
    squared with and without rms squared) only this one loses less than llama.cpp's quantiser in Q4_K, Q5_K
    and Q6_K both in plain and in x-squared-weighted error, on Gaussian, Laplace and real weights.
    """
    parts = np.ascontiguousarray(x.reshape(len(x) * groups, -1).T)  # (values / groups, N * groups)
    weights = np.abs(parts)  # (values / groups, N * groups)
    weights += np.sqrt((parts * parts).mean(axis=0))
    return parts, weights


def _by_block(parts: np.ndarray, count: int) -> np.ndarray:
    """The inverse of _by_group, as codes."""
    return parts.astype(np.uint8).T.reshape(count, -1)
