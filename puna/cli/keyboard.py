"""Lines from a person: an editor in a real terminal, plain lines elsewhere, the same rules in both.

A text is whole when Enter may send it: not after a trailing backslash, not inside a block of triple quotes.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from puna.cli.screen import Screen, can_move

Read = Callable[[], str]  # the next text; EOFError at the end, KeyboardInterrupt for Ctrl-C
ASK, MORE, BLOCK = "> ", ". ", '"""'


def in_block(text: str) -> bool:
    """Whether it begins a block of triple quotes that has not ended."""
    stripped = text.strip()
    ended = len(stripped) >= 2 * len(BLOCK) and stripped.endswith(BLOCK)
    return stripped.startswith(BLOCK) and not ended


def is_whole(text: str) -> bool:
    """Whether Enter sends this text, rather than beginning its next line."""
    if text.strip().startswith(BLOCK):
        return not in_block(text)
    return (len(text) - len(text.rstrip("\\"))) % 2 == 0


def next_line(text: str) -> str:
    """A text that is not whole, ready for its next line. Only the last backslash was a sign; others stay."""
    return (text if in_block(text) else text[:-1]) + "\n"


def meant(text: str) -> str:
    """What was typed, without the quotes of a block."""
    stripped = text.strip()
    if stripped.startswith(BLOCK) and not in_block(text):
        return stripped[len(BLOCK) : -len(BLOCK)].strip("\n")
    return text


def history_file() -> Path:
    """Where typed lines are remembered: the XDG state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return folder / "puna" / "chat_history"


def reader(stdin: TextIO, screen: Screen, commands: Iterable[str]) -> Read:
    """The best way to read lines from this terminal."""
    if can_move(stdin) and can_move(screen.out):
        return edited(screen, commands)
    return plain(stdin, screen)


def plain(stdin: TextIO, screen: Screen) -> Read:
    """Lines as they come, for dumb terminals and pipes."""

    def read() -> str:
        text, sign = "", ASK
        while True:
            screen.aside(sign)
            line = stdin.readline()
            screen.at_line_start = True  # the person's Enter
            if not line and not text:
                raise EOFError
            text += line.rstrip("\r\n")
            if is_whole(text):
                return meant(text)
            if not line:
                return text.removesuffix("\n")
            text, sign = next_line(text), MORE

    return read


def edited(screen: Screen, commands: Iterable[str]) -> Read:
    """Lines from an editor with history, search, pasting of many lines and completion of commands."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.document import Document
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import has_focus
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys, typing = KeyBindings(), has_focus(DEFAULT_BUFFER)  # not while searching

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            text = next_line(buffer.text)
            buffer.document = Document(text, len(text))

    @keys.add("escape", "enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    prompt: PromptSession[str] = PromptSession(
        ASK,
        multiline=True,
        prompt_continuation=MORE,
        key_bindings=keys,
        history=history(screen) or InMemoryHistory(),
        completer=WordCompleter([f"/{name}" for name in commands], sentence=True),
        complete_while_typing=False,
    )
    return lambda: meant(prompt.prompt())


def history(screen: Screen):
    """History in a file that only its owner reads, or None and a word about it."""
    from prompt_toolkit.history import FileHistory

    try:
        path = history_file()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except (OSError, RuntimeError) as problem:  # RuntimeError: there is no home
        screen.note(f"what you type is not remembered: {problem}")
        return None
    return FileHistory(path)
