"""`puna chat`: talk to a model in a terminal, or ask it one thing from a script."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from puna.cli.answer import Wishes
from puna.cli.commands import COMMANDS
from puna.cli.conversation import Conversation
from puna.cli.flags import Answering, Forming, Loading, Telling, given_text, read_stream, read_text
from puna.cli.keyboard import reader
from puna.cli.once import answer_once
from puna.cli.opening import opened
from puna.cli.repl import converse
from puna.cli.screen import Screen, is_terminal
from puna.cli.sitting import Sitting
from puna.errors import need
from puna.hub import DEFAULT

HOW = "puna chat -p QUESTION"
Text = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


def chat(
    model: str = DEFAULT,
    /,
    *,
    prompt: Annotated[Text, Parameter(name=("--prompt", "-p"))] = None,
    file: Annotated[tuple[Path, ...], Parameter(show_default=False)] = (),
    system: Text = None,
    adapter: Path | None = None,
    telling: Telling = Telling(),  # noqa: B008 (frozen)
    forming: Forming = Forming(),  # noqa: B008
    answering: Answering = Answering(),  # noqa: B008
    loading: Loading = Loading(),  # noqa: B008
) -> int:
    """Talk to a model, or ask it one thing.

    Parameters
    ----------
    model
        A folder, a .gguf file, smollm2, or hf:org/name.
    prompt
        Ask this once. Text piped in follows it, or stands alone.
    file
        A text file the model reads first; may be repeated.
    system
        What the model is told about its part.
    adapter
        A folder with a LoRA adapter as PEFT saves it; the model answers with it.
    """
    Wishes().but(answering.given(), "chat")  # before minutes of loading
    files = tuple((path.name, read_text(path)) for path in file)
    talk = Conversation(system=given_text(system, "--system") or "", files=files)
    question = _question(given_text(prompt, "--prompt"))
    need(question or question is None or files, "there is no question: the input is empty", HOW)
    form = forming.asked()
    need(question is not None or not form, "the form is that of one answer, not of a conversation", HOW)
    need(
        question is not None or not telling.json,
        "--json needs one question, not a conversation",
        HOW + " --json",
    )
    adapters = {str(adapter): adapter.expanduser()} if adapter else {}
    with opened(model, loading, adapters) as session:
        wishes = Wishes(sampling=session.defaults, adapter=next(iter(adapters), None))
        wishes = wishes.but(answering.given(), "chat")
        context = min(loading.context or sys.maxsize, session.config.max_position_embeddings)
        screen = Screen(sys.stdout, sys.stderr)
        sitting = Sitting(session, screen, talk, wishes, context, stats=telling.stats)
        if question is not None:
            return answer_once(sitting, question, form, as_json=telling.json)
        converse(sitting, reader(sys.stdin, screen, COMMANDS))
        return 0


def _question(prompt: str | None) -> str | None:
    """What to ask once: the prompt, then what is piped in. None when a person sits at the terminal."""
    if is_terminal(sys.stdin):
        return prompt
    piped = read_stream(sys.stdin.buffer, "standard input")
    return "\n\n".join(part for part in (prompt, piped.strip("\n")) if part)
