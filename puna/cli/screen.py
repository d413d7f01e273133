"""What reaches a person: text on streams that may be terminals or pipes.

A model may write escape sequences that move the cursor, change the title or set the clipboard. On a
terminal, control characters other than newline and tab are left out (what follows an escape stays, as
harmless letters). A pipe or a file gets every character, because a program reads it.
"""

import os
from dataclasses import dataclass
from typing import TextIO

CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}  # C0, DEL, C1


def clean(text: str) -> str:
    """Without control characters, except newline and tab."""
    return text.translate(CONTROL)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def can_move(stream: TextIO | None) -> bool:
    """Whether it is a terminal that understands cursor movement."""
    return is_terminal(stream) and os.environ.get("TERM", "dumb") not in ("dumb", "")


@dataclass
class Screen:
    """`out` gets what the model says, `notes` (usually stderr) remarks; on a terminal both meet."""

    out: TextIO
    notes: TextIO
    at_line_start: bool = True

    def write(self, text: str) -> None:
        """A piece of the answer, at once."""
        self._put(self.out, text)

    def end_line(self) -> None:
        if not self.at_line_start:
            self.write("\n")

    def aside(self, text: str) -> None:
        """What belongs to the dialogue but is not the answer: not in `out` when that is a file or a pipe."""
        self._put(self.out if is_terminal(self.out) else self.notes, text)

    def line(self, text: str = "") -> None:
        """A whole line of the dialogue."""
        self.end_line()
        self.aside(text + "\n")

    def note(self, text: str) -> None:
        """A remark about the dialogue: errors, figures."""
        self.end_line()
        self.notes.write(clean(text) + "\n")
        self.notes.flush()

    def _put(self, stream: TextIO, text: str) -> None:
        shown = clean(text) if is_terminal(stream) else text
        if shown:
            stream.write(shown)
            stream.flush()
            self.at_line_start = shown.endswith("\n")
