"""What is asked of the engine and what comes back: one request, a stream of events. No torch here.

The life of a request: `engine.submit(Request(...))` gives a stream; each `Event` carries the ids, text and
log-probabilities that are new; the last one carries `finish`. `engine.cancel(request)` ends it early.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from puna.settings import Settings

if TYPE_CHECKING:
    import numpy as np

Finish = Literal["stop", "length", "cancelled", "error"]
Embed = Literal["mean", "last"]


class Sampling(Settings):
    """How the next token is drawn: by default from the model's distribution; temperature 0 takes the best."""

    temperature: float = Field(1.0, ge=0, le=100)
    top_k: int = Field(0, ge=0)  # 0: no limit
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, le=1)  # keep what has at least this share of the best token's probability
    repetition_penalty: float = Field(1.0, gt=0, le=100)  # above 1, seen tokens become less likely
    presence_penalty: float = Field(0.0, ge=-100, le=100)  # subtracted once from each token already written
    frequency_penalty: float = Field(0.0, ge=-100, le=100)  # subtracted once for each time it was written
    logit_bias: Mapping[int, float] = {}  # added to the logits, by token id
    seed: int | None = Field(None, ge=0, lt=2**63)  # None: a fresh one each time


@dataclass(frozen=True)
class Grammar:
    """What an answer must be, from its first character to its last. `text` is what `kind` says:

    a JSON schema, a regular expression (Rust's syntax), or a grammar (Lark's syntax, or GBNF).
    """

    kind: Literal["json", "regex", "grammar"]
    text: str

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any] | bool) -> Self:
        return cls("json", json.dumps(schema))

    @classmethod
    def of_choices(cls, choices: Sequence[str]) -> Self:
        """Exactly one of these texts."""
        return cls("grammar", "start: " + " | ".join(json.dumps(choice) for choice in choices))


@dataclass(frozen=True, kw_only=True)
class Request:
    """Continue `ids`. Text ends before one of `stop`; an id of `stop_ids` ends it and is not text."""

    ids: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None  # None: as far as the context reaches
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None  # None: none; n: the chosen token's and the n best alternatives'
    prompt_logprobs: bool = False  # also score the prompt itself, reported in the first event
    embed: Embed | None = None  # the prompt as a vector, in place of text: needs max_tokens 0
    adapter: str | None = None  # by the name it was added with
    grammar: Grammar | None = None  # then the answer ends when it is whole, with "stop"
    special_text: bool = False  # whether special tokens appear in the text
    priority: int = 0  # larger first; a request of less priority may have to stop and go on later
    prediction: tuple[int, ...] = ()  # what the answer may be like: a source of guesses, never more
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class TokenScore:
    """One written token: its log-probability under the model itself (before temperature and penalties)."""

    id: int
    logprob: float
    best: tuple[tuple[int, float], ...] = ()  # (id, logprob) of the best alternatives, best first


@dataclass(frozen=True)
class Usage:
    """What a request took; seconds are wall time since it was submitted."""

    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, already in memory from an earlier request
    completion_tokens: int = 0
    first_token_s: float = 0.0
    total_s: float = 0.0
    guessed_tokens: int = 0  # read ahead of their turn, as what may come next
    accepted_tokens: int = 0  # of those, right: written without a step of their own


@dataclass(frozen=True)
class Event:
    """What is new: of one step, so several ids where guesses were right.

    `text` never holds half a character or the beginning of a stop string.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    scores: tuple[TokenScore, ...] = ()  # one for each id, where asked for
    starts: tuple[int, ...] = ()  # of each id, how much of `text` came before it
    prompt_scores: tuple[TokenScore | None, ...] = ()  # first event only; None for the first token
    # (D,) fp32: the last hidden states of all ids of the prompt, their mean or the last one; not normalised
    embedding: "np.ndarray | None" = field(default=None, compare=False)
    finish: Finish | None = None
    problem: str = ""  # with finish "error"
    usage: Usage | None = None  # with finish
