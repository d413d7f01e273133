"""Progress is told to terminals as a bar, to logs as a line now and then, and not at all for short work."""

import io
import time

from puna.cli.progress import shown
from puna.log import event


class Pretend(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_short_work_says_nothing_in_a_log():
    log = io.StringIO()
    with shown(log, "loading m"):
        for done in range(11):
            event("load", done=done, of=10)
    assert log.getvalue() == ""


def test_long_work_tells_a_line_now_and_then_and_the_end():
    log = io.StringIO()
    with shown(log, "writing m", every_s=0.05):
        for done in range(11):
            event("write", done=done, of=10)
            event("step", loss=1.0)
            time.sleep(0.02)
    lines = log.getvalue().splitlines()
    assert 2 <= len(lines) <= 6 and lines[-1] == "writing m: 10 of 10"


def test_a_terminal_sees_the_words_at_once_then_a_bar_then_a_clean_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Pretend()
    with shown(screen, "loading \x1b]0;m", patience_s=0):
        assert screen.getvalue() == "\r\x1b[Kloading ]0;m ..."
        event("load", done=1, of=2)
        event("load", done=2, of=2)
    assert (
        "100%" in screen.getvalue()
        and screen.getvalue().endswith("\r\x1b[K")
        and "\x1b]0" not in screen.getvalue()
    )


def test_nobody_listens_afterwards(monkeypatch):
    log = io.StringIO()
    with shown(log, "x", every_s=0):
        event("load", done=1, of=2)
    event("load", done=2, of=2)
    assert log.getvalue() == "x: 1 of 2\n"
