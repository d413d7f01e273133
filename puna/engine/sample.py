"""Which token comes next: from one row of logits (V,) to one id, in small pure functions.

The order: repetition penalty, presence and frequency penalties, logit bias; then at temperature 0 the best
token, else temperature, top-k, top-p, min-p and one draw. Each step sees what the former left,
renormalised. Temperature comes before the cuts, as in Meta's code and Hugging Face's (llama.cpp puts it
last). Among equal logits the lower id goes first, so a choice never depends on how a sort breaks ties. All
in float64 on the CPU: one uniform number a token, drawn from the request's own generator, decides, and
nothing else that runs can change it.
"""

import math
import random
from collections import deque
from collections.abc import Sequence

import numpy as np

from puna.engine.request import Sampling, TokenScore
from puna.errors import need


class Sampler:
    """One request's way to choose: its settings, its random numbers, and what it has read and written."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], size: int):
        self.sampling = s = sampling
        self.random = random.Random(s.seed)
        self.uniforms: deque[float] = deque()  # drawn ahead, for the next tokens in turn
        self.seen: np.ndarray | None = None
        self.written: np.ndarray | None = None
        self.bias: np.ndarray | None = None
        if s.repetition_penalty != 1:
            self.seen = np.zeros(size, bool)
            self.seen[[id for id in set(prompt) if id < size]] = True
        if s.presence_penalty or s.frequency_penalty:
            self.written = np.zeros(size)
        if s.logit_bias:
            self.bias = np.zeros(size)
            self.bias[list(s.logit_bias)] = list(s.logit_bias.values())

    def choose(self, logits: np.ndarray) -> int:
        """The next id after these logits (V,); it counts as written from now on."""
        row = self._adjusted(logits)
        need_finite(row)
        chosen = self._drawn(row, 0)
        if self.uniforms:
            self.uniforms.popleft()
        if self.seen is not None:
            self.seen[chosen] = True
        if self.written is not None:
            self.written[chosen] += 1
        return chosen

    def foresee(self, logits: np.ndarray, ahead: int) -> int:
        """What `choose` would give for these logits after `ahead` other tokens; nothing counts as written.

        So a guess for a request that draws is drawn with the number that its own token will be drawn with.
        """
        return self._drawn(self._adjusted(logits), ahead)

    def _adjusted(self, logits: np.ndarray) -> np.ndarray:
        row, s = logits.astype(np.float64), self.sampling
        if self.seen is not None:
            row = discourage_seen(row, self.seen, s.repetition_penalty)
        if self.written is not None:
            row = discourage_written(row, self.written, s.presence_penalty, s.frequency_penalty)
        if self.bias is not None:
            row = row + self.bias
        return row

    def _drawn(self, row: np.ndarray, ahead: int) -> int:
        if self.sampling.temperature == 0:
            return int(row.argmax())
        while len(self.uniforms) <= ahead:
            self.uniforms.append(self.random.random())
        return draw(cut(row, self.sampling), self.uniforms[ahead])


def need_finite(logits: np.ndarray) -> None:
    """PunaError for a row that nothing can be said by."""
    need(math.isfinite(logits.max()), "the logits hold no finite greatest number: the weights may be damaged")


def discourage_seen(logits: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    """CTRL's rule: what stood in prompt or answer gets l/penalty where l > 0, else l·penalty."""
    return np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits)


def discourage_written(
    logits: np.ndarray, times: np.ndarray, presence: float, frequency: float
) -> np.ndarray:
    """OpenAI's rule, over the answer only: l - presence·[written at all] - frequency·(times written)."""
    return logits - presence * (times > 0) - frequency * times


def cut(logits: np.ndarray, s: Sampling) -> np.ndarray:
    """Logits at this temperature, minus infinity for what top-k, top-p and min-p rule out."""
    with np.errstate(over="ignore"):  # the greatest is 0; far below it minus infinity is right
        row = (logits - logits.max()) / s.temperature
    if 0 < s.top_k < len(row):
        row = top_k(row, s.top_k)
    if s.top_p < 1:
        row = top_p(row, s.top_p)
    return min_p(row, s.min_p) if s.min_p > 0 else row


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Only the k greatest."""
    return _only(logits, best(logits, k))


def top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Sort by probability, greatest first; drop a token when those before it already sum to more than p.

    Exact without sorting the vocabulary: the head of the order is enlarged until the first dropped token
    is in it.
    """
    total, width = log_sum(logits), 64
    while True:
        first = -np.sort(-_greatest(logits, width))
        shares = np.exp(first - total)
        count = int((shares.cumsum() - shares <= p).sum())
        if count < width or width >= len(logits):
            return _only(logits, best(logits, count))
        width *= 16


def min_p(logits: np.ndarray, share: float) -> np.ndarray:
    """Only tokens with at least this share of the best token's probability."""
    return np.where(logits < logits.max() + math.log(share), -math.inf, logits)


def draw(logits: np.ndarray, uniform: float) -> int:
    """Inverse transform: the first id where the running sum of probabilities passes `uniform`, of [0, 1)."""
    running = np.exp(logits - logits.max()).cumsum()
    return int(np.searchsorted(running, uniform * running[-1], side="right"))


def best(logits: np.ndarray, k: int) -> np.ndarray:
    """The ids of the k greatest, greatest first; among equals the lower id first."""
    border = _greatest(logits, k).min()
    above = (logits > border).nonzero()[0]
    level = (logits == border).nonzero()[0][: k - len(above)]
    ids = np.concatenate((above, level))
    return ids[np.argsort(-logits[ids], kind="stable")]


def score(logits: np.ndarray, chosen: int, alternatives: int, size: int) -> TokenScore:
    """How probable the model itself holds `chosen`, and its best alternatives: log_softmax of the raw logits.

    Alternatives come from the first `size` ids; what follows pads the vocabulary and has no text.
    """
    row = logits.astype(np.float64)
    row -= log_sum(row)
    ids = best(row[:size], min(alternatives, size)) if alternatives else np.empty(0, np.int64)
    return TokenScore(chosen, float(row[chosen]), tuple(zip(ids.tolist(), row[ids].tolist(), strict=True)))


def log_sum(logits: np.ndarray) -> float:
    """log of the sum of exp."""
    most = logits.max()
    return float(most + np.log(np.exp(logits - most).sum()))


def _greatest(logits: np.ndarray, k: int) -> np.ndarray:
    """The k greatest, in any order."""
    return np.partition(logits, len(logits) - k)[len(logits) - k :] if k < len(logits) else logits


def _only(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    kept = np.full_like(logits, -math.inf)
    kept[ids] = logits[ids]
    return kept
