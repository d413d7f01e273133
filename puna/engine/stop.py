"""Where an answer ends by its text: stop strings, found while the text streams, wherever tokens divide it.

The text ends before the stop string that is complete first (of two complete at once, the longer). What may
still become a stop string is held back. Each stop string is followed by Knuth, Morris and Pratt's
automaton, so every character costs a constant on average, whatever strings a client sends.
"""

from collections.abc import Sequence


class Stops:
    """Follows one answer's text. `push` gives what may be shown; once `found` is true nothing more may be."""

    def __init__(self, strings: Sequence[str]):
        self.strings = tuple(strings)
        self.tables = tuple(_fallbacks(string) for string in self.strings)
        self.matched = [0] * len(self.strings)  # of each stop string, how much the text now ends with
        self.held, self.found = "", False

    def push(self, text: str) -> str:
        """Take new text; give the part, old or new, that no stop string can begin in."""
        self.held += text
        if not self.strings:
            return self._release(0)
        start = len(self.held) - len(text)
        for at in range(start, len(self.held)):
            self._follow(self.held[at])
            complete = [n for n, s in zip(self.matched, self.strings, strict=True) if n == len(s)]
            if complete:
                self.found = True
                self.held, shown = "", self.held[: at + 1 - max(complete)]
                return shown
        return self._release(max(self.matched))

    def finish(self) -> str:
        """The text is over: what was held back did not become a stop string."""
        return self._release(0)

    def _release(self, hold: int) -> str:
        cut = len(self.held) - hold
        shown, self.held = self.held[:cut], self.held[cut:]
        return shown

    def _follow(self, character: str) -> None:
        for index, (string, table) in enumerate(zip(self.strings, self.tables, strict=True)):
            length = self.matched[index]
            while length and string[length] != character:
                length = table[length - 1]
            self.matched[index] = length + (string[length] == character)


def _fallbacks(string: str) -> list[int]:
    """For each beginning of the string: the length of its longest proper beginning that it also ends with."""
    table, length = [0] * len(string), 0
    for at in range(1, len(string)):
        while length and string[at] != string[length]:
            length = table[length - 1]
        length += string[at] == string[length]
        table[at] = length
    return table
