"""The chat itself: read a text, do the command or answer the question, until the person leaves."""

from puna.cli.answer import on_interrupt
from puna.cli.commands import Leave, obey
from puna.cli.keyboard import Read
from puna.cli.sitting import Sitting, reply
from puna.errors import PunaError

HINT = "Ctrl-D or /quit leaves, /help tells more"


def converse(sitting: Sitting, read: Read) -> None:
    """Go on until /quit or the end of input. A problem is told and the chat goes on; Ctrl-C never ends it."""
    sitting.screen.line(f"{sitting.session.name}. {HINT}.")
    while True:
        try:
            text = read()
            with on_interrupt(lambda: None):  # pressing again while an answer stops must not lose it
                turn(sitting, text)
        except (EOFError, Leave):
            sitting.screen.end_line()
            return
        except KeyboardInterrupt:
            sitting.screen.line(f"({HINT})")
        except PunaError as problem:
            sitting.screen.note(str(problem))


def turn(sitting: Sitting, text: str) -> None:
    """One text from the person. Bytes from the terminal that are no characters become question marks."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if text.startswith("/"):
        obey(sitting, text)
    elif text.strip():
        reply(sitting, sitting.talk.said(text.removeprefix(" ") if text.startswith(" /") else text))
