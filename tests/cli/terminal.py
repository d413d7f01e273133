"""A program in a real pseudo-terminal: type at it, wait for what it shows."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

SCRIPT = Path(__file__).with_name("tiny_puna.py")
ROOT = Path(__file__).parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    """A clean one: a home of its own, the package importable, no colours decided from outside."""
    here = {
        key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS") if key in os.environ
    }
    return {**here, "HOME": str(home), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **more}


class Terminal:
    def __init__(self, *words: str, home: Path, term: str = "xterm-256color", **more: str):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment(home, TERM=term, PROMPT_TOOLKIT_NO_CPR="1", **more),
        )
        os.close(theirs)
        self.ours, self.all, self.seen = ours, b"", 0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode("utf-8", "surrogateescape"))

    def wait_for(self, pattern: str, timeout_s: float = 30) -> str:
        """What was shown up to and with the pattern, from where the last wait ended."""
        end = time.monotonic() + timeout_s
        while True:
            found = re.search(pattern, self.all[self.seen :].decode("utf-8", "replace"))
            if found:
                text = self.all[self.seen :].decode("utf-8", "replace")
                self.seen += len(text[: found.end()].encode())
                return text[: found.end()]
            assert self._more(end), f"{pattern!r} not shown in {self.all[self.seen :]!r}"

    def end(self, timeout_s: float = 30) -> int:
        """Wait until the program ends; its exit code."""
        end = time.monotonic() + timeout_s
        while self._more(end):
            pass
        return self.process.wait(timeout=max(1, end - time.monotonic()))

    def _more(self, end: float) -> bool:
        ready, _, _ = select.select([self.ours], [], [], max(0, end - time.monotonic()))
        try:
            piece = os.read(self.ours, 65536) if ready else b""
        except OSError:  # EIO: the other side is gone
            piece = b""
        self.all += piece
        return bool(piece)
