"""How probable a model holds given answers, without letting it write: one of several is chosen by the odds.

Each token of an answer is asked for by force (a bias that nothing outweighs); its log-probability is the
model's own all the same. What was read of the prompt is kept from one request to the next.
"""

from collections.abc import Sequence
from typing import Protocol

from puna.engine.engine import Stream
from puna.engine.request import Event, Request, Sampling
from puna.errors import RequestError, need

_FORCE = 1e9


class Answers(Protocol):
    """What serves requests, as far as it is needed here."""

    def submit(self, request: Request) -> Stream: ...


def log_chances(engine: Answers, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[float]:
    """For each answer, given as ids, the log-probability that exactly these follow the prompt."""
    known: dict[tuple[int, ...], float] = {}  # beginnings of answers, for those that begin alike
    totals = []
    for answer in answers:
        total = 0.0
        for place in range(len(answer)):
            begun = tuple(answer[: place + 1])
            if begun not in known:
                known[begun] = _log_chance(engine, (*prompt, *begun[:-1]), begun[-1])
            total += known[begun]
        totals.append(total)
    return totals


def _log_chance(engine: Answers, ids: tuple[int, ...], following: int) -> float:
    forced = Sampling(temperature=0, logit_bias={following: _FORCE})
    stream = engine.submit(Request(ids=ids, sampling=forced, max_tokens=1, logprobs=0))
    events: list[Event] = list(stream)
    need(events[-1].finish != "error", events[-1].problem, error=RequestError)
    scores = [score for event in events for score in event.scores]
    need(scores, "the request was cancelled", error=RequestError)
    assert scores[0].id == following
    return scores[0].logprob
