"""Which adapters requests may name, and when the weights of one may go: after the last request that has it.

A name stands for a number, which is never used again: what was read with an adapter is not found with
another. Names change from any thread, weights only on the engine's.
"""

import difflib
from collections.abc import Container

from puna.engine.pages import Pages
from puna.engine.step import Runner
from puna.errors import RequestError, need
from puna.model.lora import Adapter


class Adapters:
    """The adapters of one engine, whose lock guards all but `put`."""

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
        if name not in self.numbers:
            near = difflib.get_close_matches(name, self.numbers, n=1) or [*self.numbers][:3]
            tries = f"\n  try: {', '.join(map(repr, near))}" if near else ""
            raise RequestError(
                f"there is no adapter {name!r} here{tries}", 404, "adapter_not_found", "adapter"
            )
        return self.numbers[name]

    def put(self, name: str, adapter: Adapter) -> None:
        """Read its weights into the runner; from then on it has a name."""
        need(name and name not in self.numbers, f"an adapter {name!r} is there already", "another name")
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
