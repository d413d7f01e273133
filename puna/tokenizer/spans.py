"""A conversation as parts, and parts as token ids that remember who said what.

A renderer writes parts: either one special token, or plain text, each with its kind and the message it
belongs to. Only `encode` turns parts into ids, and it never lets plain text become a special token. So the
barrier between what people write and what the format means stands in one function.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Literal, Protocol

Kind = Literal["format", "header", "content", "call", "end"]


class Vocabulary(Protocol):
    """What a renderer needs from a tokenizer."""

    specials: dict[str, int]
    bos_id: int | None
    eos_id: int | None
    stop_ids: frozenset[int]
    chat_template: str | None

    def encode(self, text: str, special: bool = False) -> list[int]: ...
    def decode(self, ids: Sequence[int], special: bool = True) -> str: ...
    def bytes_of(self, id: int) -> bytes: ...


@dataclass(frozen=True)
class Part:
    """A piece of the rendered conversation; `special` means that `text` is the name of one special token."""

    kind: Kind
    text: str
    message: int | None = None
    special: bool = False


@dataclass(frozen=True)
class Span:
    """ids[start:stop] are of one kind and belong to one message (None: to the template itself).

    format   what the template adds: begin of text, dates, tool definitions
    header   who speaks
    content  what was said
    call     a tool call by the assistant
    end      the token that closes the message
    """

    kind: Kind
    start: int
    stop: int
    message: int | None


@dataclass(frozen=True)
class Rendered:
    """Token ids and the spans that tile them. Not `exact_spans`: all that a message holds may be called
    format.
    """

    ids: list[int]
    spans: list[Span]
    exact_spans: bool = True


def encode(vocabulary: Vocabulary, parts: Iterable[Part], apart: bool = False) -> Rendered:
    """Ids of the parts. Neighbouring texts are read as one text, or each `apart` as Meta's code does."""
    ids: list[int] = []
    spans: list[Span] = []
    exact = True
    for special, run in groupby(parts, key=lambda part: part.special):
        together = list(run)
        for piece in [[part] for part in together] if special or apart else [together]:
            new = [vocabulary.specials[piece[0].text]] if special else vocabulary.encode(_joined(piece))
            lengths = [len(new)] if len(piece) == 1 else _lengths(vocabulary, piece, new)
            if lengths is None:
                exact, piece, lengths = False, [Part("format", "", piece[0].message)], [len(new)]
            for part, length in zip(piece, lengths, strict=True):
                _extend(spans, part, length)
            ids += new
    return Rendered(ids, spans, exact)


def text_of(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts)


def _joined(parts: Iterable[Part]) -> str:
    """Their text, with halves of surrogate pairs replaced as every encoder does, so that bytes can be
    counted.
    """
    return "".join(_whole(part.text) for part in parts)


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lengths(vocabulary: Vocabulary, parts: Sequence[Part], ids: Sequence[int]) -> list[int] | None:
    """How many ids each part has; a token belongs where its first byte lies. None where bytes cannot tell."""
    starts = [0]
    for id in ids:
        starts.append(starts[-1] + len(vocabulary.bytes_of(id)))
    ends, total = [], 0
    for part in parts:
        total += len(_whole(part.text).encode())
        ends.append(total)
    if starts.pop() != total:  # some bytes have no token in this vocabulary
        alone = [vocabulary.encode(part.text) for part in parts]
        return [len(one) for one in alone] if list(chain(*alone)) == list(ids) else None
    counts = [0] * len(parts)
    at = 0
    for start in starts:
        while start >= ends[at]:
            at += 1
        counts[at] += 1
    return counts


def _extend(spans: list[Span], part: Part, length: int) -> None:
    start = spans[-1].stop if spans else 0
    if spans and (spans[-1].kind, spans[-1].message) == (part.kind, part.message):
        spans[-1] = Span(part.kind, spans[-1].start, start + length, part.message)
    elif length:
        spans.append(Span(part.kind, start, start + length, part.message))
