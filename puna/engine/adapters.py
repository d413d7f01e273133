"""Which adapters requests may name, and when the weights of one may go: after the last request that has it.

A name stands for a number, which is never used again: what was read with an adapter is not found with
another. All but the names is asked and changed by the engine's thread, between two steps.
"""

import difflib
from collections.abc import Container

from puna.engine.pages import Pages
from puna.engine.step import Runner
from puna.errors import RequestError, need
from puna.model.lora import Adapter


class Adapters:
    """The adapters of one engine, which holds its lock while one comes to be used, leaves or is dropped."""

    def __init__(self, runner: Runner, pages: Pages):
        self.runner, self.pages = runner, pages
        self.numbers: dict[str, int] = {}
        self._leaving: list[int] = []
        self._last = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may name."""
        return tuple(self.numbers)

    def number(self, name: str | None) -> int:
        """0: none; RequestError for a name that is not there."""
        if name is None:
            return 0
        number, known = self.numbers.get(name), self.names
        if number is None:
            near = difflib.get_close_matches(name, known, n=1) or known[:3]
            tries = f"\n  try: {', '.join(map(repr, near))}" if near else ""
            said = f"there is no adapter {name!r} here{tries}"
            raise RequestError(said, 404, "adapter_not_found", "adapter")
        return number

    def put(self, name: str, adapter: Adapter) -> None:
        """Read its weights into the runner; from then on it has a name."""
        need(name, "an adapter without a name cannot be asked for")
        need(name not in self.numbers, f"an adapter {name!r} is there already", "another name")
        self._last += 1
        self.runner.put_adapter(self._last, adapter)
        self.numbers[name] = self._last

    def leave(self, name: str) -> None:
        """Nobody may name it any more."""
        self._leaving.append(self.number(name))
        del self.numbers[name]

    def drop(self, used: Container[int]) -> None:
        """Free what nobody may name and no request uses."""
        for number in self._leaving:
            if number not in used:
                self.runner.drop_adapter(number)
                self.pages.drop(number)
        self._leaving = [number for number in self._leaving if number in used]
