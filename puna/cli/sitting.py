"""One person at one model: what a sitting remembers, and how a question becomes an answer on the screen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from puna.cli.answer import Answer, Wishes, ask, sentence
from puna.cli.conversation import Conversation
from puna.cli.screen import Screen

if TYPE_CHECKING:
    from puna.engine.load import Session

FULL = "/undo takes the last question back, /save keeps the conversation, /clear begins anew"


@dataclass
class Sitting:
    """Everything that a command may look at or replace."""

    session: "Session"
    screen: Screen
    talk: Conversation
    wishes: Wishes
    context: int  # tokens the model remembers
    stats: bool = False  # after every answer
    last: Answer | None = None

    def __post_init__(self):
        self.usual = self.wishes  # for /set NAME default


def reply(sitting: Sitting, talk: Conversation) -> None:
    """Answer the question that `talk` ends with; if anything was said, it is the conversation now."""
    screen = sitting.screen
    answer = ask(sitting.session, talk.messages(), sitting.wishes, sitting.context, screen.write)
    screen.end_line()
    if answer.text or answer.finish == "stop":
        sitting.talk, sitting.last = talk.answered(answer.text, answer.finish), answer
    remark = _remark(answer, sitting)
    if remark:
        screen.line(f"[{remark}]")
    if sitting.stats:
        screen.note(sentence(answer.usage))


def _remark(answer: Answer, sitting: Sitting) -> str:
    """Why the answer is not whole, and what to do about it."""
    if answer.finish == "stop":
        return "" if answer.text else "an empty answer: /regenerate asks again"
    most = sitting.wishes.max_tokens
    if answer.finish == "cancelled":
        why = "stopped"
    elif answer.finish == "error":
        why = f"failed: {answer.problem}"
    elif most is not None and len(answer.ids) >= most:
        why = f"cut after {most:,} tokens: /set max_tokens allows more"
    else:
        why = f"cut: the model remembers {sitting.context:,} tokens and they are full: {FULL}"
    return why if answer.text else f"{why}; the question was taken back"
