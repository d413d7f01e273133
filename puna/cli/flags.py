"""Flags that several verbs share, and text that comes from files, pipes and the command line."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from cyclopts import Parameter
from cyclopts.validators import Number

from puna.engine.request import Grammar
from puna.errors import DataError, need
from puna.kernels.llama import Cache

MOST_BYTES = 2**24  # of one text: more than the longest context holds
Count = Annotated[int | None, Parameter(validator=Number(gte=1))]


@Parameter(name="*", group="Model")
@dataclass(frozen=True, kw_only=True)
class Loading:
    """How the model is opened."""

    dtype: str = "auto"
    """auto: weights as the file holds them, by the native step; f32, bf16 or f16: those numbers, by torch."""
    threads: Count = None
    """Processor threads; all cores if not given."""
    context: Count = None
    """Most tokens to remember; the model's own limit if not given."""
    speculate: str = "auto"
    """Who guesses what comes next, so that it comes sooner: off, ngram (by what was read), a small MODEL."""
    cache: Cache = "bf16"
    """What keys and values are kept in: int8 takes about half the memory, so twice the context fits."""


@Parameter(name="*", group="Answer")
@dataclass(frozen=True, kw_only=True)
class Answering:
    """How answers are written. What is not given is the model's own default."""

    temperature: float | None = None
    """0 always takes the best token; higher is more varied."""
    top_k: int | None = None
    """Draw from the k best tokens; 0 for no limit."""
    top_p: float | None = None
    """Draw from the best tokens that hold this share together."""
    min_p: float | None = None
    """Drop tokens below this share of the best one's probability."""
    repetition_penalty: float | None = None
    """Above 1, tokens seen before become less likely."""
    presence_penalty: float | None = None
    """Taken once from a token already written."""
    frequency_penalty: float | None = None
    """Taken each time a token was written."""
    seed: int | None = None
    """The same seed gives the same answer."""
    max_tokens: int | None = None
    """Most tokens of one answer."""
    stop: Annotated[tuple[str, ...] | None, Parameter(allow_leading_hyphen=True)] = None
    """End the answer before this text; may be repeated."""

    def given(self) -> dict[str, Any]:
        """What the user asked for, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@Parameter(name="*", group="Form")
@dataclass(frozen=True, kw_only=True)
class Forming:
    """What one answer must be, whatever the model would rather write."""

    json_schema: Path | None = None
    """JSON that this file's schema allows."""
    regex: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """Text that this regular expression matches, in Rust's syntax."""
    grammar: Path | None = None
    """Text of this file's grammar, in Lark's syntax or GBNF."""

    def asked(self) -> Grammar | None:
        """The form that was asked for; one at most."""
        files = {"json": self.json_schema, "grammar": self.grammar}
        forms = [Grammar(kind, read_text(path)) for kind, path in files.items() if path is not None]
        forms += [Grammar("regex", self.regex)] if self.regex is not None else []
        need(len(forms) < 2, "an answer has one form: --json-schema, --regex or --grammar")
        return forms[0] if forms else None


@Parameter(name="*", group="Output")
@dataclass(frozen=True, kw_only=True)
class Telling:
    """What is written beside an answer, or instead of it."""

    json: bool = False
    """One JSON object instead of text, for -p and pipes."""
    stats: bool = False
    """Tokens and times of each answer, on stderr."""


def read_text(path: Path) -> str:
    """A text file as it is put into a conversation."""
    need(path.exists(), f"{path}: no such file", error=DataError)
    need(not path.is_dir(), f"{path}: a folder; a text file is needed", error=DataError)
    with open(path, "rb") as file:
        return read_stream(file, str(path))


def read_stream(file: BinaryIO, where: str) -> str:
    """All text of a binary stream; DataError if it is not UTF-8 or longer than any context."""
    content = file.read(MOST_BYTES + 1)
    need(
        len(content) <= MOST_BYTES,
        f"{where}: over {MOST_BYTES // 2**20} MiB of text, more than any context holds",
        "a part of it",
        DataError,
    )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: not UTF-8 text ({problem.reason} at byte {problem.start:,})") from None
    need("\0" not in text, f"{where}: holds zero bytes, so it is no text", error=DataError)
    return text


def given_text(text: str | None, where: str) -> str | None:
    """Text from the command line; DataError if its bytes were not UTF-8."""
    whole = not text or text.encode("utf-8", "ignore").decode() == text
    need(whole, f"{where}: not UTF-8 text", error=DataError)
    return text
