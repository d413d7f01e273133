"""What each kernel of the native forward step computes, as a textbook would say it. All over float64."""

import numpy as np

BLOCK = 32


def codes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows x (M, inputs) as whole numbers from -127 to 127, and a scale for each 32 (M, inputs / 32)."""
    blocks = x.astype(np.float32).reshape(len(x), -1, BLOCK)
    most = np.abs(blocks).max(-1)  # (M, inputs / 32)
    up = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 0)
    return np.rint(blocks * up[..., None]).reshape(x.shape), most / np.float32(127)


def multiply(weights: np.ndarray, x: np.ndarray, plain: bool) -> np.ndarray:
    """x (M, inputs) times weights (rows, inputs): (M, rows). Quantised weights read x in codes."""
    if not plain:
        whole, scale = codes(x)
        x = whole * np.repeat(scale.astype(np.float64), BLOCK, axis=-1)
    return x.astype(np.float64) @ weights.astype(np.float64).T


def norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """RMSNorm of x (n,)."""
    x = x.astype(np.float64)
    return x / np.sqrt(np.square(x).mean() + eps) * weight


def gate(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) * up."""
    gate = gate.astype(np.float64)
    with np.errstate(over="ignore"):  # far below zero nothing passes
        return gate / (1 + np.exp(-gate)) * up


def turn(heads: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Heads (H, Dh), each pair of neighbours (2i, 2i + 1) turned by angles (Dh / 2,)."""
    pairs = heads.astype(np.float64).reshape(len(heads), -1, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)
    return np.stack((turned.real, turned.imag), -1).reshape(heads.shape)


def narrow(numbers: np.ndarray, scale: float) -> np.ndarray:
    """Numbers times scale in bf16, to the nearest, to even at a tie: (n,) uint16."""
    bits = (numbers.astype(np.float32) * np.float32(scale)).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widen(bits: np.ndarray) -> np.ndarray:
    """bf16 as it is stored, as numbers."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def whole(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows x (M, n) as whole numbers from -most to most, and what each row's are to be multiplied by (M,)."""
    x = x.astype(np.float32)
    top = np.abs(x).max(-1)  # (M,)
    up = np.divide(np.float32(most), top, out=np.zeros_like(top), where=top > 1e-30)
    return np.rint(x * up[:, None]), top / np.float32(most)


def attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """softmax(q k) v of queries (R, Dh), keys and values (S, Dh); query r looks at seen[r] positions."""
    scores = queries @ keys.T  # (R, S)
    scores[np.arange(len(keys)) >= seen[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ values
