"""Labels from a model that was asked: the prompt stands in the recipe, the answer holds a score of 0 to 5.

Asking is done by whoever has a model: `ask` takes prompts and gives answers in their order. Requests are rows
of a table, so they may also be written, answered elsewhere, and read back.
"""

import re
from collections.abc import Callable, Iterable

import pyarrow as pa
from pydantic import Field, model_validator

from puna.errors import DataError, need
from puna.settings import Settings

REQUESTS = pa.schema(
    [pa.field("id", pa.binary(16), nullable=False), pa.field("prompt", pa.large_string(), nullable=False)]
)
LABELS = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("score", pa.float32()),  # null where the answer gave none
        pa.field("answer", pa.large_string(), nullable=False),
    ]
)
TEXT = "{text}"
_NUMBER = r"(?<![\d.])(-?\d{1,3}(?:\.\d{1,6})?)(?![\d.]*\d)"
_AFTER_WORD = re.compile(rf"(?:score|rating)\W{{0,12}}?(?:is\W{{1,4}}|of\W{{1,4}})?{_NUMBER}", re.I)
_LAST = re.compile(rf"{_NUMBER}(?:\s*/\s*\d+|\s+(?:out\s+of\s+\d+|points?))?\W*\Z", re.I)
_TAIL = 1000  # characters of an answer, from its end, that are searched


class LabelPrompt(Settings):
    """What a model is asked about a text."""

    prompt: str  # holds {text} once
    most_characters: int = Field(6000, ge=1)  # of the text
    low: float = 0.0
    high: float = 5.0

    @model_validator(mode="after")
    def the_text_has_one_place(self) -> "LabelPrompt":
        count = self.prompt.count(TEXT)
        need(count == 1, f"the prompt holds {TEXT} {count} times", "write it once", error=DataError)
        need(self.low < self.high, f"scores from {self.low:g} to {self.high:g}", error=DataError)
        return self

    def requests(self, table: pa.Table) -> pa.Table:
        """Rows (id, prompt) for a table of documents."""
        before, after = self.prompt.split(TEXT)
        texts = (text[: self.most_characters] for text in table["text"].to_pylist())
        prompts = [before + text + after for text in texts]
        return pa.table([table["id"], pa.array(prompts, pa.large_string())], schema=REQUESTS)

    def score(self, answer: str) -> float | None:
        """The last number after "score" or "rating"; else one that ends the answer; else None."""
        tail = answer[-_TAIL:]
        named = _AFTER_WORD.findall(tail)
        last = _LAST.search(tail)
        said = named[-1] if named else last.group(1) if last else None
        value = float(said) if said is not None else self.low - 1
        return value if self.low <= value <= self.high else None

    def labels(self, requests: pa.Table, answers: Iterable[str]) -> pa.Table:
        """Rows (id, score, answer) from the answers to all requests, in their order."""
        given = list(answers)
        same = len(given) == len(requests)
        need(same, f"{len(given)} answers to {len(requests)} requests", error=DataError)
        scores = [self.score(answer) for answer in given]
        columns = [requests["id"], pa.array(scores, pa.float32()), pa.array(given, pa.large_string())]
        return pa.table(columns, schema=LABELS)


def label(
    table: pa.Table, how: LabelPrompt, ask: Callable[[list[str]], Iterable[str]], at_once: int = 256
) -> pa.Table:
    """Ask about every document; rows (id, score, answer) in their order."""
    parts = [LABELS.empty_table()]
    for start in range(0, len(table), at_once):
        requests = how.requests(table.slice(start, at_once))
        parts.append(how.labels(requests, ask(requests["prompt"].to_pylist())))
    return pa.concat_tables(parts)
