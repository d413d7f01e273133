"""Lines from a person: an editor in a real terminal, plain lines in a dumb one or a pipe, the same rules in both.

A text is whole when Enter may send it: not after a trailing backslash, not inside a block of triple quotes.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from puna.cli.screen import Screen, can_move

Read = Callable[[], str]  # the next text; EOFError at the end, KeyboardInterrupt for Ctrl-C
ASK, MORE, BLOCK = "> ", ". ", '"""'


def is_whole(text: str) -> bool:
    """Whether Enter sends this text, rather than beginning its next line."""
    stripped = text.strip()
    if stripped.startswith(BLOCK):
        return len(stripped) >= 2 * len(BLOCK) and stripped.endswith(BLOCK)
    return (len(text) - len(text.rstrip("\\"))) % 2 == 0


def meant(text: str) -> str:
    """What was typed, without the signs that only held its lines together."""
    stripped = text.strip()
    if stripped.startswith(BLOCK) and is_whole(text):
        return stripped[len(BLOCK) : -len(BLOCK)].strip("\n")
    return text.replace("\\\n", "\n")


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
        lines: list[str] = []
        while not lines or not is_whole("\n".join(lines)):
            screen.write(MORE if lines else ASK)
            line = stdin.readline()
            screen.at_line_start = True  # the person's Enter
            if not line and not lines:
                raise EOFError
            if not line:
                break
            lines.append(line.rstrip("\r\n"))
        return meant("\n".join(lines))

    return read


def edited(screen: Screen, commands: Iterable[str]) -> Read:
    """Lines from an editor with history, search, pasting of many lines and completion of commands."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import has_focus
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys, typing = KeyBindings(), has_focus(DEFAULT_BUFFER)  # not while searching

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        buffer.validate_and_handle() if is_whole(buffer.text) else buffer.insert_text("\n")

    @keys.add("escape", "enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    prompt: PromptSession[str] = PromptSession(
        ASK,
        multiline=True,
        prompt_continuation=MORE,
        key_bindings=keys,
        history=_kept(screen) or InMemoryHistory(),
        completer=WordCompleter([f"/{name}" for name in commands], sentence=True),
        complete_while_typing=False,
    )
    return lambda: meant(prompt.prompt())


def _kept(screen: Screen):
    """History in a file that only its owner reads, or None and a word about it."""
    from prompt_toolkit.history import FileHistory

    path = history_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError as problem:
        screen.note(f"what you type is not remembered: {path}: {problem.strerror}")
        return None
    return FileHistory(path)
