"""One question, one answer, then done: `puna chat -p` and pipes."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from puna.cli.answer import Answer, Wishes, ask, sentence
from puna.cli.conversation import Conversation
from puna.cli.screen import Screen

if TYPE_CHECKING:
    from puna.engine.load import Session

CODES = {"stop": 0, "length": 0, "error": 1, "cancelled": 130}


def answer_once(
    session: "Session",
    talk: Conversation,
    wishes: Wishes,
    screen: Screen,
    *,
    context: int,
    as_json: bool = False,
    stats: bool = False,
) -> int:
    """Write the answer to `talk` and return the exit code. JSON comes whole, text as it is made."""
    answer = ask(session, talk.messages(), wishes, context, (lambda text: None) if as_json else screen.write)
    if as_json:
        screen.line(json.dumps(record(answer, session.name), ensure_ascii=False))
    elif answer.text or answer.finish == "stop":
        screen.line() if screen.at_line_start and not answer.text else screen.end_line()
    if answer.finish == "error":
        screen.note(f"puna: {answer.problem}")
    if stats:
        screen.note(sentence(answer.usage))
    return CODES[answer.finish]


def record(answer: Answer, model: str) -> dict[str, object]:
    """What --json prints."""
    return {
        "model": model,
        "text": answer.text,
        "ids": list(answer.ids),
        "finish": answer.finish,
        **({"problem": answer.problem} if answer.problem else {}),
        "usage": asdict(answer.usage),
    }
