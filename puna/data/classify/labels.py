"""Labels from a model that was asked: the question stands in a recipe, and every label says who gave it.

    system = "You judge texts."
    user = "Is this text safe for children?\n\n{text}\n\nAnswer with one word: safe or unsafe."
    answers = ["safe", "unsafe"]

`how = "score"` compares how probable the model holds each allowed answer, so that even a small model gives a
valid label with its probability; valid is not right. `how = "write"` reads what it writes, which may be none
of the allowed. Asking is done by whoever has a model: this room hands over messages and takes what was said.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from puna.errors import DataError, need
from puna.messages import Message
from puna.settings import Settings

PROMPTS = Path(__file__).parent / "prompts"
TEXT = "{text}"
_NUMBER = r"(?<![\d.])(-?\d{1,3}(?:\.\d{1,6})?)(?![\d.]*\d)"
_AFTER_WORD = re.compile(rf"(?:score|rating)\W{{0,12}}?(?:is\W{{1,4}}|of\W{{1,4}})?{_NUMBER}", re.I)
_LAST = re.compile(rf"{_NUMBER}(?:\s*/\s*\d+|\s+(?:out\s+of\s+\d+|points?))?\W*\Z", re.I)
_TAIL = 1000  # characters of an answer, from its end, that are searched


class LabelPrompt(Settings):
    """What a model is asked about a text, and how its answer is taken."""

    system: str = ""
    user: str  # holds {text} once
    answers: tuple[str, ...] = ()  # allowed; none: a number from low to high ends what is written
    low: float = 0.0
    high: float = 5.0
    how: Literal["score", "write"] = "score"
    most_characters: int = Field(6000, ge=1)  # of the text
    most_tokens: int = Field(256, ge=1)  # of a written answer
    temperature: float = Field(0.0, ge=0, le=100)  # of a written answer; 0: always the likeliest token
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def it_can_be_asked(self) -> "LabelPrompt":
        count = self.user.count(TEXT)
        need(count == 1, f"the prompt holds {TEXT} {count} times", "write it once", error=DataError)
        need(self.low < self.high, f"scores from {self.low:g} to {self.high:g}", error=DataError)
        known = {_plain(answer) for answer in self.answers}
        good = len(known) == len(self.answers) != 1 and "" not in known
        need(good, f"answers {list(self.answers)}: two at least, all different", error=DataError)
        choice = self.answers or self.how == "write"
        need(choice, "there is nothing to choose from", 'answers = [...], or how = "write"', DataError)
        return self

    def fingerprint(self) -> str:
        """SHA-256 of all that decides what is asked."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def seen(self, text: str) -> str:
        """As much of a text as the model gets."""
        return text[: self.most_characters]

    def messages(self, text: str) -> list[Message]:
        """What is said to the model about a text."""
        before, after = self.user.split(TEXT)
        said = [Message(role="system", content=self.system)] if self.system else []
        return [*said, Message(role="user", content=before + self.seen(text) + after)]

    def label(self, written: str) -> str | None:
        """The allowed answer that all of it is, or its first or last line, or what follows a colon there.

        "It is not toxic" is therefore no answer, which is better than the wrong one.
        """
        if not self.answers:
            value = self.score(written)
            return None if value is None else f"{value:g}"
        allowed = {_plain(answer): answer for answer in self.answers}
        lines = [line for line in written[-_TAIL:].split("\n") if line.strip()] or [""]
        for line in (written[-_TAIL:], lines[0], lines[-1]):
            for words in (line, line.rpartition(":")[2]):
                if _plain(words) in allowed:
                    return allowed[_plain(words)]
        return None

    def score(self, answer: str) -> float | None:
        """The last number after "score" or "rating"; else one that ends the answer; else None."""
        tail = answer[-_TAIL:]
        named = _AFTER_WORD.findall(tail)
        last = _LAST.search(tail)
        said = named[-1] if named else last.group(1) if last else None
        value = float(said) if said is not None else self.low - 1
        return value if self.low <= value <= self.high else None


@dataclass(frozen=True)
class Said:
    """What a model said to one question."""

    text: str = ""  # what it wrote
    logprobs: tuple[float, ...] = ()  # where answers were scored: of each allowed one, in their order
    problem: str = ""  # why it said nothing: the text is longer than its memory


Ask = Callable[[LabelPrompt, list[Message]], Said]


def read_prompt(path: str | Path) -> LabelPrompt:
    """The prompt in a TOML file; a plain name is one of those that come with Puna."""
    path = PROMPTS / f"{path}.toml" if (PROMPTS / f"{path}.toml").is_file() else Path(path)
    shipped = ", ".join(sorted(one.stem for one in PROMPTS.glob("*.toml")))
    need(path.is_file(), f"{path}: there is no such prompt", f"a TOML file, or {shipped}", error=DataError)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise DataError(f"{path}: not TOML: {problem}") from None
    return LabelPrompt.read(values, str(path))


def label(text: str, how: LabelPrompt, ask: Ask) -> dict[str, Any]:
    """Ask about one text: its label (None where the answer is none of the allowed), and the raw answer."""
    said = ask(how, how.messages(text))
    if said.problem:
        return {"label": None, "answer": "", "problem": said.problem}
    if how.how == "write":
        return {"label": how.label(said.text), "answer": said.text}
    chances = shares(said.logprobs)
    need(len(chances) == len(how.answers), "an answer was not scored", error=DataError)
    best = how.answers[max(range(len(chances)), key=chances.__getitem__)]
    rounded = {answer: round(chance, 4) for answer, chance in zip(how.answers, chances, strict=True)}
    return {"label": best, "answer": best, "chances": rounded}


def shares(logprobs: Sequence[float]) -> list[float]:
    """The probabilities of answers when it must be one of them."""
    most = max(logprobs)
    powers = [math.exp(one - most) for one in logprobs]
    return [power / sum(powers) for power in powers]


def _plain(words: str) -> str:
    """Case, and signs around the words, do not matter."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", words).casefold()
