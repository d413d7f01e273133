"""Which token comes next: from one row of logits (V,) to one id, in small pure functions.

The order: repetition penalty, presence and frequency penalties, logit bias, what a grammar allows; then at
temperature 0 the best token, else temperature, top-k, top-p, min-p and one draw. Each step sees what the
former left, renormalised. Temperature comes before the cuts, as in Meta's code and Hugging Face's (llama.cpp
puts it last). Among equal logits the lower id goes first, so a choice never depends on how a sort breaks
ties. All in float64 on the CPU: one uniform number a token, drawn from the request's own generator, decides,
and nothing else that runs can change it.
"""

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puna.engine.request import Sampling, TokenScore
from puna.errors import need
from puna.kernels import llama

DAMAGED = "the logits hold no finite greatest number: the weights may be damaged"


class Sampler:
    """One request's way to choose: its settings, its random numbers, and what it has read and written."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], size: int):
        self.sampling = s = sampling
        self.random = random.Random(s.seed)
        self.find = choose if llama.works_here() else choose_natively
        self.uniforms: deque[float] = deque()  # drawn ahead, for the next tokens in turn
        seen, written, biased = (
            s.repetition_penalty != 1,
            s.presence_penalty or s.frequency_penalty,
            s.logit_bias,
        )
        self.marks = Marks(
            np.zeros(size if seen else 0, bool),
            np.zeros(size if written else 0),
            np.zeros(size if biased else 0),
        )
        if seen:
            self.marks.seen[[id for id in set(prompt) if id < size]] = True
        if biased:
            self.marks.bias[list(s.logit_bias)] = list(s.logit_bias.values())

    def choose(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> int:
        """The next id after these logits (V,) fp32; it counts as written from now on.

        allowed: only ids whose bit is set, bit id % 32 of word id // 32.
        """
        chosen = self._found(logits, allowed, 0)
        if self.uniforms:
            self.uniforms.popleft()
        if len(self.marks.seen):
            self.marks.seen[chosen] = True
        if len(self.marks.written):
            self.marks.written[chosen] += 1
        return chosen

    def foresee(self, logits: np.ndarray, ahead: int) -> int:
        """What `choose` would give for these logits after `ahead` other tokens; nothing counts as written.

        So a guess for a request that draws is drawn with the number that its own token will be drawn with.
        """
        return self._found(logits, None, ahead)

    def _found(self, logits: np.ndarray, allowed: np.ndarray | None, ahead: int) -> int:
        return self.find(logits, self.sampling, self.marks, allowed, self._uniform(ahead))

    def _uniform(self, ahead: int) -> float:
        if self.sampling.temperature == 0:
            return 0.0
        while len(self.uniforms) <= ahead:
            self.uniforms.append(self.random.random())
        return self.uniforms[ahead]


@dataclass(frozen=True)
class Marks:
    """What a request's rules know of each id (V,); (0,) where no rule asks."""

    seen: np.ndarray  # in prompt or answer
    written: np.ndarray  # how often in the answer, float64
    bias: np.ndarray  # float64


def choose(logits: np.ndarray, s: Sampling, marks: Marks, allowed: np.ndarray | None, uniform: float) -> int:
    """The id that a number of [0, 1) chooses: the definition."""
    row = logits.astype(np.float64)
    if len(marks.seen):
        row = discourage_seen(row, marks.seen, s.repetition_penalty)
    if len(marks.written):
        row = discourage_written(row, marks.written, s.presence_penalty, s.frequency_penalty)
    if len(marks.bias):
        row = row + marks.bias
    if allowed is not None:
        row = only_allowed(row, allowed)
    need_finite(row)
    return int(row.argmax()) if s.temperature == 0 else draw(cut(row, s), uniform)


def choose_natively(
    logits: np.ndarray,
    s: Sampling,
    marks: Marks,
    allowed: np.ndarray | None,
    uniform: float,
    instructions: str = "",
) -> int:
    """The same id, twenty times as soon: one call that looks at the few great logits only."""
    settings = [
        s.temperature,
        s.top_p,
        s.min_p,
        s.repetition_penalty,
        s.presence_penalty,
        s.frequency_penalty,
    ]
    bits = np.empty(0, np.int32) if allowed is None else allowed
    rules = s.top_k, marks.seen, marks.written, marks.bias, bits, uniform
    chosen = llama.native().choose(instructions, logits, settings, *rules)
    need(chosen >= 0, DAMAGED)
    return chosen


def need_finite(logits: np.ndarray) -> None:
    """PunaError for a row that nothing can be said by."""
    need(math.isfinite(logits.max()), DAMAGED)


def discourage_seen(logits: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    """CTRL's rule: what stood in prompt or answer gets l/penalty where l > 0, else l·penalty."""
    return np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits)


def discourage_written(
    logits: np.ndarray, times: np.ndarray, presence: float, frequency: float
) -> np.ndarray:
    """OpenAI's rule, over the answer only: l - presence·[written at all] - frequency·(times written)."""
    return logits - presence * (times > 0) - frequency * times


def only_allowed(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Minus infinity for ids whose bit is not set."""
    bits = np.unpackbits(allowed.view(np.uint8), count=len(logits), bitorder="little")
    return np.where(bits.view(bool), logits, -math.inf)


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
    most, width = logits.max(), 64
    total = np.exp(logits - most).sum()
    while True:
        first = -np.sort(-_greatest(logits, width))
        weights = np.exp(first - most)
        count = int((weights.cumsum() - weights <= p * total).sum())
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
    find = odds if llama.works_here() else odds_natively
    total, ids = find(logits, size, min(alternatives, size))
    need(math.isfinite(total), DAMAGED)
    better = tuple((id, float(logits[id]) - total) for id in ids)
    return TokenScore(chosen, float(logits[chosen]) - total, better)


def odds(logits: np.ndarray, size: int, k: int) -> tuple[float, list[int]]:
    """log of the sum of exp; of the first `size`, the k greatest that are possible at all, greatest first."""
    row = logits.astype(np.float64)
    ids = best(row[:size], k) if k else np.empty(0, np.int64)
    return log_sum(row), ids[row[ids] > -math.inf].tolist()


def odds_natively(logits: np.ndarray, size: int, k: int, instructions: str = "") -> tuple[float, list[int]]:
    """The same, to 14 digits."""
    return llama.native().odds(instructions, logits, size, k)


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
