"""What a line that begins with / does in a chat: one table, one small function each."""

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from puna.cli.answer import parsed, sentence
from puna.cli.conversation import load, save
from puna.cli.sitting import Sitting, reply
from puna.errors import PunaError, need

MORE_HELP = """
Enter sends. For more lines: Alt-Enter (or Esc, Enter), a \\ at the end of a line, or a block between \"\"\".
Ctrl-C stops an answer, Ctrl-D leaves, Ctrl-R searches what you typed before.
Begin with a space to send a line that starts with /."""


class Leave(Exception):
    """The user wants to go."""


def obey(sitting: Sitting, line: str) -> None:
    """Do the command on this line. PunaError says what is wrong with it."""
    name, rest = [*line[1:].split(maxsplit=1), "", ""][:2]
    if name not in COMMANDS:
        same = [known for known in COMMANDS if name and known.startswith(name)]
        near = same or difflib.get_close_matches(name.lower(), COMMANDS, n=1, cutoff=0.5)
        hint = f"; did you mean /{near[0]}?" if near else ""
        raise PunaError(
            f"/{name}: no such command{hint}\n  try: /help, or a space before / to send it to the model"
        )
    COMMANDS[name][0](sitting, rest.strip())


def _help(sitting: Sitting, rest: str) -> None:
    width = max(len(f"/{name} {usage}") for name, (_, usage, _) in COMMANDS.items())
    for name, (_, usage, what) in COMMANDS.items():
        sitting.screen.line(f"{f'/{name} {usage}':{width}}  {what}")
    sitting.screen.line(MORE_HELP.strip("\n"))


def _system(sitting: Sitting, rest: str) -> None:
    if rest:
        text = "" if rest == "none" else rest
        sitting.talk = replace(sitting.talk, system=text)
    sitting.screen.line(f"system: {sitting.talk.system or 'none (the template may bring its own)'}")


def _set(sitting: Sitting, rest: str) -> None:
    name, _, text = rest.partition(" ")
    name, text = name.replace("-", "_"), text.strip()
    if text:
        usual = sitting.usual.values()
        value = usual.get(name) if text == "default" else parsed(name, text)
        sitting.wishes = sitting.wishes.but({name: value}, "/set")
    elif name:
        sitting.wishes.but({name: sitting.wishes.values().get(name)}, "/set")  # is there such a setting?
    for key, value in sitting.wishes.values().items():
        if name in ("", key):
            sitting.screen.line(f"{key:18}  {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "none" if value is None or value == {} else str(value)


def _save(sitting: Sitting, rest: str) -> None:
    path = _path(rest, "/save")
    save(sitting.talk, path, sitting.session.name)
    sitting.screen.line(f"saved {len(sitting.talk.messages())} messages to {path}")


def _load(sitting: Sitting, rest: str) -> None:
    path = _path(rest, "/load")
    sitting.talk, sitting.last = load(path), None
    turns = sitting.talk.turns
    sitting.screen.line(f"loaded {len(sitting.talk.messages())} messages from {path}")
    for turn in turns[-2:]:
        cut = " [cut]" if turn.cut else ""
        sitting.screen.line(f"{turn.message.role}: {turn.message.content}{cut}")


def _path(rest: str, command: str) -> Path:
    need(rest, f"{command}: a file name is needed", f"{command} talk.json")
    return Path(os.path.expanduser(rest))  # leaves ~nobody alone


def _regenerate(sitting: Sitting, rest: str) -> None:
    sampling = sitting.wishes.sampling
    if sampling.temperature == 0 or sampling.seed is not None:
        fixed = "temperature 0" if sampling.temperature == 0 else f"seed {sampling.seed}"
        sitting.screen.note(f"with {fixed} the answer will be the same; /set changes that")
    reply(sitting, sitting.talk.unanswered())


def _undo(sitting: Sitting, rest: str) -> None:
    question = sitting.talk.last_question()
    sitting.talk, sitting.last = sitting.talk.undone(), None
    first, _, more = question.partition("\n")
    sitting.screen.line(f"taken back: {first}{' ...' if more else ''}")


def _clear(sitting: Sitting, rest: str) -> None:
    talk = sitting.talk
    sitting.talk, sitting.last = replace(talk, turns=()), None
    kept = [what for what, there in (("the system text", talk.system), ("the files", talk.files)) if there]
    sitting.screen.line("a new conversation" + (f" with {' and '.join(kept)}" if kept else ""))


def _stats(sitting: Sitting, rest: str) -> None:
    if sitting.talk.turns:
        taken = len(sitting.session.template.render(sitting.talk.messages()).ids)
        sitting.screen.line(f"conversation: {taken:,} of {sitting.context:,} tokens")
    said = sentence(sitting.last.usage) if sitting.last else "none yet"
    sitting.screen.line(f"last answer: {said}")


def _quit(sitting: Sitting, rest: str) -> None:
    raise Leave


COMMANDS: dict[str, tuple[Callable[[Sitting, str], None], str, str]] = {
    "help": (_help, "", "this list"),
    "system": (_system, "[TEXT | none]", "show or change the system text"),
    "set": (_set, "[NAME [VALUE | default]]", "show or change how answers are drawn"),
    "save": (_save, "FILE", "keep the conversation in a JSON file"),
    "load": (_load, "FILE", "go on with a saved conversation"),
    "regenerate": (_regenerate, "", "answer the last question again"),
    "undo": (_undo, "", "take back the last question and its answer"),
    "clear": (_clear, "", "begin a new conversation; the system text and files stay"),
    "stats": (_stats, "", "tokens and times of the last answer"),
    "quit": (_quit, "", "leave (Ctrl-D does too)"),
}
