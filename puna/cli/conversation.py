"""A conversation as a value: who said what, and the file it is kept in. Nothing here prints or knows a model.

It is never changed, only replaced by a new one, so a question that fails simply is not kept. The file is
JSON in the OpenAI shape, `{"model": ..., "messages": [{"role", "content"}, ...]}`; an answer that was cut
says so in `finish`.
"""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from puna.errors import ConfigError, DataError, PunaError, need
from puna.messages import Message, messages_from_openai
from puna.model.config import read_json

MOST_BYTES = 2**24  # of one conversation file
CUTS = ("cancelled", "length", "error")  # how an answer ends that the model did not end


@dataclass(frozen=True)
class Turn:
    """One message; `cut` says why an answer is not whole."""

    message: Message
    cut: str = ""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """`files` are (name, text) pairs that the model reads before the first question."""

    system: str = ""
    files: tuple[tuple[str, str], ...] = ()
    turns: tuple[Turn, ...] = ()

    def messages(self) -> list[Message]:
        """All of it, as the template renders it."""
        return [turn.message for turn in self._all()]

    def said(self, text: str) -> Self:
        """The user said this."""
        return self._with(*self.turns, Turn(Message(role="user", content=text)))

    def answered(self, text: str, finish: str = "stop") -> Self:
        """The assistant said this, and ended for this reason."""
        return self._with(*self.turns, Turn(Message(role="assistant", content=text), _cut(finish)))

    def unanswered(self) -> Self:
        """Up to the last question, without its answer."""
        return self._with(*self.turns[: self._last_question() + 1])

    def undone(self) -> Self:
        """Without the last question and all that followed."""
        return self._with(*self.turns[: self._last_question()])

    def last_question(self) -> str:
        return self.turns[self._last_question()].message.content

    def _last_question(self) -> int:
        roles = [turn.message.role for turn in self.turns]
        need("user" in roles, "nothing was asked yet", error=DataError)
        return len(roles) - 1 - roles[::-1].index("user")

    def _with(self, *turns: Turn) -> Self:
        return replace(self, turns=turns)

    def _all(self) -> list[Turn]:
        system = [Turn(Message(role="system", content=self.system))] if self.system else []
        turns, files = list(self.turns), list(map(_quoted, self.files))
        first = next((n for n, turn in enumerate(turns) if turn.message.role == "user"), None)
        if files and first is not None:
            asked = turns[first].message
            turns[first] = Turn(replace(asked, content="\n\n".join(filter(None, [*files, asked.content]))))
        return system + turns


def save(talk: Conversation, path: Path, model: str) -> None:
    """Write the file whole or not at all. Replaces an earlier conversation, never a file of another kind."""
    need(talk.turns, "nothing was said yet, so there is nothing to save", error=DataError)
    if path.exists():
        try:
            load(path)
        except PunaError:
            raise DataError(f"{path}: exists and is not a conversation\n  try: another name") from None
    text = json.dumps(to_json(talk, model), ensure_ascii=False, indent=1)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8", errors="replace") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise DataError(f"{path}: not saved ({problem.strerror})") from None


def load(path: Path) -> Conversation:
    """A saved conversation, or any list of messages in the OpenAI shape; DataError says what is wrong."""
    try:
        return from_json(read_json(path, MOST_BYTES), str(path))
    except ConfigError as problem:
        raise DataError(str(problem)) from None
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None


def to_json(talk: Conversation, model: str) -> dict[str, Any]:
    items = [turn.message.to_openai() | ({"finish": turn.cut} if turn.cut else {}) for turn in talk._all()]
    return {"model": model, "messages": items}


def from_json(values: Any, where: str) -> Conversation:
    items = values.get("messages") if isinstance(values, dict) else values
    messages = messages_from_openai(items, f"{where}: messages")
    system = messages[0].content if messages[0].role == "system" else ""
    rest = messages[1:] if messages[0].role == "system" else messages
    for message in rest:
        need(message.role != "system", f"{where}: a system message must be the first", error=DataError)
    for n, message in enumerate(messages):
        half = re.search("[\ud800-\udfff]", message.content)
        need(not half, f"{where}: messages[{n}]: holds half a character (a surrogate)", error=DataError)
    cuts = [_checked_cut(item.get("finish"), where) for item in items[len(items) - len(rest) :]]
    return Conversation(system=system, turns=tuple(map(Turn, rest, cuts)))


def _checked_cut(finish: Any, where: str) -> str:
    need(finish in (None, "stop", *CUTS), f"{where}: finish {finish!r} is unknown", error=DataError)
    return _cut(finish)


def _cut(finish: str | None) -> str:
    return finish if finish in CUTS else ""


def _quoted(file: tuple[str, str]) -> str:
    name, text = file
    return f"--- {name} ---\n{text.rstrip()}\n--- end of {name} ---"
