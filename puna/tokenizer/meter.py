"""What a template may spend, and what values cost: one unit, and one per 16 characters or element."""

import threading
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from jinja2.utils import Namespace

from puna.errors import TokenizerError, need

CHARACTERS = 16  # to a unit
WIDEST = 4_096  # bits of an integer


class Exhausted(TokenizerError):
    """The template asked for more than it may spend."""


class Meter(threading.local):
    """What the render on this thread may still spend, and the branches it went through."""

    left = 0.0
    reached: set[int] = set()

    def pay(self, units: float) -> None:
        self.left -= units
        if self.left < 0:
            raise Exhausted(
                "the chat template does not end, or wants more memory than a conversation can need"
            )

    def weigh(self, value: Any) -> float:
        """Pay for reading all of `value`, walked as the tree that it prints; the units paid."""
        paid, waiting = 0.0, [value]
        while waiting:
            value = waiting.pop()
            units: float = 1
            if isinstance(value, str):
                units = 1 + len(value) / CHARACTERS
            elif isinstance(value, int):
                need(
                    value.bit_length() <= WIDEST,
                    "the chat template makes an integer too large",
                    error=Exhausted,
                )
            elif isinstance(value, dict):
                waiting += [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)):
                waiting += value
            elif isinstance(value, Namespace):
                waiting.append(attributes_of(value))
            elif isinstance(value, range):
                units += len(value)
            self.pay(units)
            paid += units
        return paid

    def size(self, value: Any) -> Any:
        """Pay for having made `value`, not for what it refers to; the value."""
        if isinstance(value, str):
            self.pay(1 + len(value) / CHARACTERS)
        elif isinstance(value, (list, tuple, dict)):
            self.pay(1 + len(value))
        elif isinstance(value, int):
            self.weigh(value)
        return value

    def each(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.pay(1)
            yield item


def attributes_of(namespace: Namespace) -> dict[str, Any]:
    return object.__getattribute__(namespace, "_Namespace__attrs")
