"""One question, one answer, then done: `puna chat -p` and pipes."""

import json
from dataclasses import asdict

from puna.cli.answer import Answer, ask, sentence
from puna.cli.sitting import Sitting
from puna.engine.request import Grammar

CODES = {"stop": 0, "length": 0, "error": 1, "cancelled": 130}


def answer_once(sitting: Sitting, question: str, form: Grammar | None, as_json: bool) -> int:
    """Write the answer and return the exit code. JSON comes whole, text as it is made."""
    screen, messages = sitting.screen, sitting.talk.said(question).messages()
    show = _nothing if as_json else screen.write
    answer = ask(sitting.session, messages, sitting.wishes, sitting.context, show, form)
    if as_json:
        screen.write(json.dumps(record(answer, sitting.session.name)) + "\n")
    elif answer.finish != "error" and not answer.text.endswith("\n"):
        screen.write("\n")
    if answer.finish == "error":
        screen.note(f"puna: {answer.problem}")
    if sitting.stats:
        screen.note(sentence(answer.usage))
    return CODES[answer.finish]


def _nothing(text: str) -> None:
    """JSON is written when it is whole."""


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
