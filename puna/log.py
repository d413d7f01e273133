"""What happened, as records: `event("step", loss=2.1)` goes to every listener; a console line or a file is a
listener.

Rooms below `cli` never print. They tell events; who runs them decides what becomes of these.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[dict], None]
_listeners: list[Listener] = []


def event(kind: str, **facts: object) -> None:
    """Tell every listener that something of this kind happened."""
    if _listeners:
        record = {"event": kind, "time": time.time(), **facts}
        for listener in tuple(_listeners):
            listener(record)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(record)` for each event while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
