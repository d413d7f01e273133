"""A MODEL opened for a command: told while it goes, and as soon as Python can."""

import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from puna.cli.flags import Loading
from puna.cli.progress import shown
from puna.log import listening

if TYPE_CHECKING:
    from puna.engine.load import Session

# OpenMP threads that wait give their core away after so many turns. By default they keep it for milliseconds,
# and on a machine that also does something else an answer took five times as long (docs/log.md, 2026-11-21).
SPIN = "1000"


@contextmanager
def opened(model: str, loading: Loading, adapters: Mapping[str, Path] | None = None) -> Iterator["Session"]:
    """The session of a MODEL, closed at the end."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when torch is imported
    chosen: list[dict] = []
    with shown(sys.stderr, f"loading {model}"), _nothing_collected():
        from puna.engine.load import open_chat  # brings numpy, and torch where there is no native step

        with listening(chosen.append):
            session = open_chat(model, **asdict(loading), adapters=adapters)
    _tell_if_slow(chosen)
    try:
        yield session
    finally:
        session.close()


def _tell_if_slow(records: list[dict]) -> None:
    """Once, where torch answers on a CPU though nobody asked for it."""
    for record in records:
        if record["event"] == "runner" and record["slow"]:
            print(f"puna: answers will be slow: {record['reason']}", file=sys.stderr)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No garbage collection meanwhile: of a million new objects that all stay, it finds none in 0.2 s."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
