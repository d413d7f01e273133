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
from collections.abc import Sequence

import torch
from torch import Tensor

from puna.engine.request import Sampling, TokenScore
from puna.errors import need


class Sampler:
    """One request's way to choose: its settings, its random numbers, and what it has read and written."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], size: int):
        self.sampling = s = sampling
        self.random = random.Random(s.seed)
        self.seen = self.written = self.bias = None
        if s.repetition_penalty != 1:
            self.seen = torch.zeros(size, dtype=torch.bool)
            self.seen[[id for id in set(prompt) if id < size]] = True
        if s.presence_penalty or s.frequency_penalty:
            self.written = torch.zeros(size, dtype=torch.float64)
        if s.logit_bias:
            self.bias = torch.zeros(size, dtype=torch.float64)
            self.bias[list(s.logit_bias)] = torch.tensor(list(s.logit_bias.values()), dtype=torch.float64)

    def choose(self, logits: Tensor) -> int:
        """The next id after these logits (V,); it counts as written from now on."""
        row, s = logits.double(), self.sampling
        if self.seen is not None:
            row = discourage_seen(row, self.seen, s.repetition_penalty)
        if self.written is not None:
            row = discourage_written(row, self.written, s.presence_penalty, s.frequency_penalty)
        if self.bias is not None:
            row = row + self.bias
        need_finite(row)
        chosen = int(row.argmax()) if s.temperature == 0 else draw(cut(row, s), self.random.random())
        if self.seen is not None:
            self.seen[chosen] = True
        if self.written is not None:
            self.written[chosen] += 1
        return chosen


def need_finite(logits: Tensor) -> None:
    """PunaError for a row that nothing can be said by."""
    need(math.isfinite(logits.max()), "the logits hold no finite greatest number: the weights may be damaged")


def discourage_seen(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """CTRL's rule: what stood in prompt or answer gets l/penalty where l > 0, else l·penalty."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def discourage_written(logits: Tensor, times: Tensor, presence: float, frequency: float) -> Tensor:
    """OpenAI's rule, over the answer only: l - presence·[written at all] - frequency·(times written)."""
    return logits - presence * (times > 0) - frequency * times


def cut(logits: Tensor, s: Sampling) -> Tensor:
    """Logits at this temperature, minus infinity for what top-k, top-p and min-p rule out."""
    row = (logits - logits.max()) / s.temperature  # the greatest is 0, so no temperature overflows
    if 0 < s.top_k < len(row):
        row = top_k(row, s.top_k)
    if s.top_p < 1:
        row = top_p(row, s.top_p)
    return min_p(row, s.min_p) if s.min_p > 0 else row


def top_k(logits: Tensor, k: int) -> Tensor:
    """Only the k greatest."""
    return _only(logits, best(logits, k))


def top_p(logits: Tensor, p: float) -> Tensor:
    """Sort by probability, greatest first; drop a token when those before it already sum to more than p.

    Exact without sorting the vocabulary: the head of the order is enlarged until the first dropped token
    is in it.
    """
    total, width = logits.logsumexp(-1), 64
    while True:
        shares = (logits.topk(min(width, len(logits))).values - total).exp()
        count = int((shares.cumsum(0) - shares <= p).sum())
        if count < width or width >= len(logits):
            return _only(logits, best(logits, count))
        width *= 16


def min_p(logits: Tensor, share: float) -> Tensor:
    """Only tokens with at least this share of the best token's probability."""
    return logits.masked_fill(logits < logits.max() + math.log(share), -math.inf)


def draw(logits: Tensor, uniform: float) -> int:
    """Inverse transform: the first id where the running sum of probabilities passes `uniform`, of [0, 1)."""
    running = logits.softmax(-1).cumsum(0)
    return int(torch.searchsorted(running, uniform * running[-1], right=True))


def best(logits: Tensor, k: int) -> Tensor:
    """The ids of the k greatest, greatest first; among equals the lower id first."""
    border = logits.topk(k).values[-1]
    above = (logits > border).nonzero()[:, 0]
    level = (logits == border).nonzero()[: k - len(above), 0]
    ids = torch.cat((above, level))
    return ids[logits[ids].sort(descending=True, stable=True).indices]


def score(logits: Tensor, chosen: int, alternatives: int, size: int) -> TokenScore:
    """How probable the model itself holds `chosen`, and its best alternatives: log_softmax of the raw logits.

    Alternatives come from the first `size` ids; what follows pads the vocabulary and has no text.
    """
    row = logits.double().log_softmax(-1)
    ids = best(row[:size], min(alternatives, size)) if alternatives else row.new_empty(0).long()
    return TokenScore(chosen, float(row[chosen]), tuple(zip(ids.tolist(), row[ids].tolist(), strict=True)))


def _only(logits: Tensor, ids: Tensor) -> Tensor:
    kept = torch.full_like(logits, -math.inf)
    kept[ids] = logits[ids]
    return kept
