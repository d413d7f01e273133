"""Rounding: which codes and scales stand for a block of weights with the least error.

The 32-value kinds take their scale from the block's extremes, as every writer of these files does. The K kinds hold
sixteen times the choices (a scale, perhaps a low, for each small group, themselves integers times one half-precision
number), so for them we minimise the squared error in three steps, each exact where the others are held fixed:
the best line for each group alone, among a few scales tried; integers for all groups; then in turn the codes given the
scales and the scales given the codes.
"""

from typing import NamedTuple

import numpy as np

from puna.quant.formats import CURVE, ZERO

Fields = dict[str, np.ndarray]
ROUNDS = 3  # of codes given scales, scales given codes


class Affine(NamedTuple):
    """A kind whose values are d * scale * code - m * low: codes 0..top, scales and lows 0..most, each for one group."""

    groups: int
    top: int
    most: int


class Signed(NamedTuple):
    """A kind whose values are d * scale * level: scales least..most, each for one group; levels lowest..highest."""

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

STRETCHES = np.linspace(-1, 1, 11).astype(np.float32)
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
    unit = np.abs(x).max(axis=1, keepdims=True)  # (N, 1)
    unit[unit == 0] = 1
    parts = _by_group(x / unit, grid.groups)  # (values, G)
    scale, low = (v.reshape(len(x), -1) for v in _best_lines(parts, grid.top))  # (N, groups)
    d, m = (_to_half(v.max(axis=1, keepdims=True) / grid.most, unit) for v in (scale, low))  # (N, 1)
    scales, lows = _integers(scale, d, 0, grid.most), _integers(low, m, 0, grid.most)  # (N, groups)
    total = parts.sum(axis=0).reshape(len(x), -1)  # (N, groups)
    for _ in range(ROUNDS):
        codes = _codes(parts, d * scales, m * lows, grid.top)  # (values, G)
        sums = _Sums.of(codes, parts, total)
        d, m = _refit(sums, scales, lows, d, m, unit)
        scales, lows = _neighbours(sums, scales, lows, d, m, grid.most)
    codes = _codes(parts, d * scales, m * lows, grid.top)
    both = np.concatenate((scales, lows), axis=1).astype(np.uint8)  # (N, 2 groups)
    return {"d": d * unit, "m": m * unit, "scales": both, "codes": _by_block(codes, len(x)).astype(np.uint8)}


class _Sums(NamedTuple):
    """What a group's error depends on once its codes q are chosen, for every group (N, groups)."""

    count: int
    q: np.ndarray
    qq: np.ndarray
    x: np.ndarray
    xq: np.ndarray

    @staticmethod
    def of(codes: np.ndarray, parts: np.ndarray, total: np.ndarray) -> "_Sums":
        q, qq, xq = codes.sum(axis=0), (codes * codes).sum(axis=0), (codes * parts).sum(axis=0)  # (G,)
        return _Sums(len(parts), q.reshape(total.shape), qq.reshape(total.shape), total, xq.reshape(total.shape))

    def error(self, scale, low):
        """Squared error of scale * q - low against x, less the part that no choice changes."""
        return (
            scale * (scale * self.qq - 2 * self.xq)
            + low * (low * self.count + 2 * self.x)
            - 2 * scale * low * self.q
        )


def _best_lines(parts: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """scale >= 0 and low >= 0 (G,) of the best line scale * code - low for each group of parts (values, G)."""
    total, lowest = parts.sum(axis=0), np.minimum(parts.min(axis=0), 0)  # (G,)
    shifted, span = parts - lowest, parts.max(axis=0) - lowest
    best, scale, low = np.full_like(total, -1), np.zeros_like(total), np.zeros_like(total)  # (G,)
    for stretch in STRETCHES:
        codes = np.rint(shifted * _inverse(span / (top + stretch)))  # (values, G)
        np.clip(codes, 0, top, out=codes)
        sums = _Sums.of(codes, parts, total)
        a, b = _line(sums)
        gain = a * sums.xq - b * total
        better = gain > best
        best, scale, low = np.where(better, (gain, a, b), (best, scale, low))
    return scale, low


def _line(sums: _Sums) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of x on q with neither scale nor low below zero."""
    spread = sums.count * sums.qq - sums.q * sums.q
    scale = (sums.count * sums.xq - sums.q * sums.x) * _inverse(spread)
    low = (scale * sums.q - sums.x) / sums.count
    flat, through = spread <= 0, (low < 0) | (scale < 0)
    scale = np.where(through, np.maximum(sums.xq * _inverse(sums.qq), 0), scale)
    low = np.where(through, 0, low)
    return np.where(flat, 0, scale), np.where(flat, np.maximum(-sums.x / sums.count, 0), low)


def _codes(parts, scale, low, top):
    """The nearest codes (values, G) for a scale and a low of each group."""
    inverse = _inverse(scale).reshape(-1)  # (G,)
    codes = parts * inverse  # (values, G)
    codes += low.reshape(-1) * inverse
    np.rint(codes, out=codes)
    return np.clip(codes, 0, top, out=codes)


def _refit(sums, scales, lows, d, m, unit):
    """d and m (N, 1) that fit best, given codes, scales and lows; each stays where it is undetermined."""
    uu = (scales * scales * sums.qq).sum(axis=1, keepdims=True)  # (N, 1)
    uv = -(scales * lows * sums.q).sum(axis=1, keepdims=True)
    vv = (lows * lows).sum(axis=1, keepdims=True) * sums.count
    xu = (scales * sums.xq).sum(axis=1, keepdims=True)
    xv = -(lows * sums.x).sum(axis=1, keepdims=True)
    spread = uu * vv - uv * uv
    known = spread > 1e-6 * uu * vv
    new_d = np.where(known, (xu * vv - xv * uv) * _inverse(spread), np.where(uu > 0, xu * _inverse(uu), d))
    new_m = np.where(known, (xv * uu - xu * uv) * _inverse(spread), m)
    good = (new_d > 0) & (new_m >= 0)
    return _to_half(np.where(good, new_d, d), unit), _to_half(np.where(good, new_m, m), unit)


def _neighbours(sums, scales, lows, d, m, most):
    """The integers beside scales and lows (N, groups) with the least error, given the codes."""
    best, new_scales, new_lows = np.full_like(scales, np.inf), scales, lows
    a, b = _line(sums)
    near, near_low = _integers(a, d, 0, most), _integers(b, m, 0, most)
    for up in (-1, 0, 1):
        for up_low in (-1, 0, 1):
            some, some_low = np.clip(near + up, 0, most), np.clip(near_low + up_low, 0, most)
            error = sums.error(d * some, m * some_low)
            better = error < best
            best, new_scales, new_lows = np.where(better, (error, some, some_low), (best, new_scales, new_lows))
    return new_scales, new_lows


def _integers(wanted, step, least, most):
    return np.clip(np.rint(wanted * _inverse(step)), least, most)


def _to_half(value, unit):
    """The nearest value that half precision holds once multiplied by unit."""
    return (value * unit).astype(np.float16).astype(np.float32) / unit


def _by_group(x: np.ndarray, groups: int) -> np.ndarray:
    """Blocks (N, values) with a group to a column, so that sums and scales run along memory."""
    return np.ascontiguousarray(x.reshape(len(x) * groups, -1).T)  # (values / groups, N * groups)


def _by_block(parts: np.ndarray, count: int) -> np.ndarray:
    """The inverse of _by_group."""
    return parts.T.reshape(count, -1)


def _signed_blocks(kind: str, grid: Signed, x: np.ndarray) -> Fields:
    """Q3_K, Q6_K, IQ4_NL, IQ4_XS: d, codes and, but for IQ4_NL, scales."""
    unit = np.abs(x).max(axis=1, keepdims=True)  # (N, 1)
    unit[unit == 0] = 1
    parts = _by_group(x / unit, grid.groups)  # (values, G)
    scale = _best_scales(kind, grid, parts).reshape(len(x), -1)  # (N, groups)
    furthest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1, keepdims=True), axis=1)  # (N, 1)
    d = _to_half(furthest / grid.least, unit)  # (N, 1)
    scales = _integers(scale, d, grid.least, grid.most)  # (N, groups)
    for _ in range(ROUNDS):
        _, levels = _nearest_levels(kind, grid, parts * _inverse(d * scales).reshape(-1))  # (values, G)
        xq, qq = ((levels * v).sum(axis=0).reshape(scales.shape) for v in (parts, levels))  # (N, groups)
        fitted = (scales * xq).sum(axis=1, keepdims=True) * _inverse((scales * scales * qq).sum(axis=1, keepdims=True))
        d = np.where(fitted != 0, _to_half(fitted, unit), d)
        scales = np.where(qq > 0, _integers(xq * _inverse(qq), d, grid.least, grid.most), scales)
    codes, _ = _nearest_levels(kind, grid, parts * _inverse(d * scales).reshape(-1))
    fields = {"d": d * unit, "codes": _by_block(codes, len(x))}
    if grid.groups > 1:
        fields["scales"] = scales.astype(np.int8).view(np.uint8) if kind == "Q6_K" else (scales + 32).astype(np.uint8)
    return fields


def _best_scales(kind, grid, parts):
    """The scale (G,) of the best multiple of the levels for each group of parts (values, G)."""
    furthest = np.take_along_axis(parts, np.abs(parts).argmax(axis=0)[None], axis=0)[0]  # (G,)
    best, scale = np.full_like(furthest, -1), np.zeros_like(furthest)  # (G,)
    reaches = [grid.lowest - s for s in STRETCHES] if abs(grid.lowest) < 100 else [grid.lowest * (1 + s / 16) for s in STRETCHES]
    for reach in reaches:
        _, levels = _nearest_levels(kind, grid, parts * (reach * _inverse(furthest)))  # (values, G)
        xq, qq = (levels * parts).sum(axis=0), (levels * levels).sum(axis=0)  # (G,)
        fitted = xq * _inverse(qq)
        better = fitted * xq > best
        best, scale = np.where(better, (fitted * xq, fitted), (best, scale))
    return scale


def _nearest_levels(kind, grid, scaled):
    """Codes (uint8) and levels (float32) nearest to scaled (values, G), in place."""
    np.rint(scaled, out=scaled)
    np.clip(scaled, grid.lowest, grid.highest, out=scaled)
    if kind in ZERO:
        return (scaled + ZERO[kind]).astype(np.uint8), scaled
    codes = NEAREST[scaled.astype(np.int16) - grid.lowest]  # (values, G)
    return codes, CURVE[codes].astype(np.float32)
