"""What every way of writing a conversation has in common: the `Dialect` that a Template renders with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from puna.errors import TokenizerError, need
from puna.messages import ROLES, Message, Tool
from puna.tokenizer.spans import Kind, Part

TEMPLATES = Path(__file__).parent / "templates"


class Dialect(Protocol):
    """One chat format. Options carry the names that Jinja templates know them by, such as `date_string`."""

    @property
    def name(self) -> str: ...

    @property
    def apart(self) -> bool: ...  # whether texts that stand side by side are encoded each alone

    @property
    def stops(self) -> tuple[str, ...]: ...  # the special tokens that end a message

    @property
    def options(self) -> frozenset[str]: ...

    @property
    def jinja(self) -> str: ...

    def parts(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: Mapping[str, Any]
    ) -> tuple[list[Part], bool]:
        """The conversation as parts, and whether their kinds are certain."""
        ...


def special(name: str, kind: Kind, message: int | None = None) -> Part:
    return Part(kind, name, message, special=True)


def check(dialect: Dialect, messages: Sequence[Message], options: Mapping[str, Any]) -> None:
    """TokenizerError where a conversation, whatever the format, cannot be written."""
    need(messages, "a conversation of no messages cannot be rendered", error=TokenizerError)
    for index, message in enumerate(messages):
        known = message.role in ROLES and (not message.calls or message.role == "assistant")
        need(
            known,
            f"messages[{index}]: role {message.role!r}, or tool calls that are not the assistant's",
            f"roles are {', '.join(ROLES)}",
            TokenizerError,
        )
    unknown = sorted(set(options) - dialect.options)
    need(
        not unknown,
        f"the chat format {dialect.name} has no option {', '.join(unknown)}",
        f"it has {', '.join(sorted(dialect.options)) or 'none'}",
        TokenizerError,
    )
