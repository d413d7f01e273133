"""The command `puna`: one table of verbs, and the border where errors become sentences and exit codes.

A verb is one line here and one short file beside this one, imported when it is called, so `puna --help`
starts in a blink. Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C, 141 the reader of a
pipe went away.
"""

import os
import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, UnusedCliTokensError

from puna import __version__
from puna.cli.screen import clean
from puna.errors import PunaError

# name: (what it does, examples). puna.cli.<name>:<name> does it; of two words, puna.cli.<first>:<second>. A
# third entry names the file, where a room's verbs fill more than one; with a colon it is an application
# of its own, with verbs below it and its own examples.
VERBS: dict[str, tuple[str, ...]] = {
    "chat": (
        "Talk to a model, or ask it one thing.",
        'puna chat\npuna chat model.gguf -p "Why is the sky blue?" --temperature 0\n'
        'puna chat -p "Sum this up:" < notes.txt',
    ),
    "serve": (
        "Serve a model to OpenAI clients.",
        "puna serve smollm2 --port 8000",
    ),
    "look": (
        "Tell what a model, a vocabulary, a run of data or a token shard is, and where it comes from.",
        "puna look smollm2\npuna look model.gguf --json\npuna look run",
    ),
    "export": (
        "Write a model in the layout of other tools.",
        "puna export smollm2 --to hf --out smollm2-hf\npuna export meta-folder --to gguf --dtype bf16",
    ),
    "quantize": (
        "Write a model in fewer bits.",
        "puna quantize model-folder --to q4_k_m",
    ),
    "bench": (
        "Measure how fast a model is here, beside llama.cpp.",
        "puna bench smollm2\npuna bench model.gguf --rounds 10 --depth 4096 --json result.json",
    ),
    "data plan": (
        "Tell what a recipe will take.",
        "puna data plan web.toml\npuna data plan web.toml --documents 3000000000 --pieces 90000",
    ),
    "data run": (
        "Carry out a recipe: raw pages in, clean documents or token shards out.",
        "puna data run web.toml --out run\npuna data run web.toml --out run --shard 3/64 --step 00-read",
    ),
    "data report": (
        "Tell what a run kept and dropped, and why.",
        "puna data report run\npuna data report run --open",
    ),
    "data explain": (
        "Tell why a document was kept or dropped.",
        "puna data explain run https://example.com/page",
    ),
    "data diff": ("Tell what two runs do differently.", "puna data diff before after"),
    "data verify": ("Hash every file of a run again.", "puna data verify run"),
    "data launch": (
        "Print a file that runs a recipe on a cluster.",
        "puna data launch web.toml slurm --out /shared/run --shards 64",
    ),
    "data benchmarks": (
        "Gather the benchmarks that training data must not hold.",
        "puna data benchmarks benchmarks.toml --out benchmarks.runs\n"
        "puna data benchmarks folder --out benchmarks.runs",
        "data_models",
    ),
    "data classifier": (
        "Train a classifier of texts from a recipe, or measure one.",
        "puna data classifier quality --root texts --out quality.safetensors\n"
        "puna data classifier quality --root texts --measure quality.safetensors",
        "data_models",
    ),
    "data label": (
        "Label texts by asking a model.",
        "puna data label pages.jsonl --prompt prompt.toml --out labels.jsonl\n"
        "puna data label run --prompt prompt.toml --model smollm2 --most 500 --out labels.jsonl",
        "data_models",
    ),
    "train": (
        "Train a model on token shards.",
        "",
        "train:app",
    ),
    "plan": (
        "Tell what training or serving a model takes, before it is paid for.",
        "puna plan 70b --gpus 256 --tokens 15e12\npuna plan 8b --serve --gpu h100\npuna plan nano.toml\n"
        "puna plan 405b --gpus 16384 --dry-run",
    ),
    "tokenizer train": (
        "Learn a vocabulary from texts.",
        "puna tokenizer train corpus.jsonl --size 8192 --out my-tokenizer",
    ),
    "tokenizer measure": (
        "Tell what a vocabulary makes of texts.",
        "puna tokenizer measure my-tokenizer notes.txt --against smollm2",
    ),
}
GROUPS = {  # the first words of verbs that have two
    "data": "Raw web to audited shards.",
    "tokenizer": "Learn a vocabulary, or judge one.",
}


def application() -> App:
    """The command line, its verbs not yet imported."""
    app = App(
        name="puna",
        help="Own a language model, from raw text to chat. Every verb has its own --help.",
        help_epilogue="Any verb takes --debug, which shows where an error came from.",
        version=f"puna {__version__}",
        help_format="plaintext",
        help_formatter="plain",
        default_parameter=Parameter(negative=()),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    groups = {"": app}
    for name, (what, examples, *file) in VERBS.items():
        group, _, verb = name.rpartition(" ")
        home = file[0] if file else group or verb
        if group not in groups:
            groups[group] = App(name=group, help=GROUPS[group])
            app.command(groups[group])
        if ":" in home:
            groups[group].command(f"puna.cli.{home}", name=verb, help=what)
            continue
        shown = "For example:\n  " + examples.replace("\n", "\n  ")
        groups[group].command(f"puna.cli.{home}:{verb}", name=verb, help=what, help_epilogue=shown)
    return app


def main(words: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words, debug = _without_debug(sys.argv[1:] if words is None else words)
    if not debug:
        sys.excepthook = _bug
    _ready_streams()
    try:
        done = application()(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return done or 0
    except CycloptsError as mistake:
        return _failed(_usage(mistake), 2, debug)
    except PunaError as problem:
        return _failed(str(problem), problem.exit_code, debug)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return 141
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        return _failed(f"{where}{problem.strerror or problem}", 1, debug)
    except MemoryError:
        return _failed("not enough memory\n  try: a smaller model or a smaller --context", 1, debug)


def _ready_streams() -> None:
    """Streams that can be written whatever the caller closed, and whatever encoding the terminal has."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for the life of the process)
        elif isinstance(stream, TextIOWrapper) and name != "stderr":
            stream.reconfigure(errors="replace")


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    end = words.index("--") if "--" in words else len(words)
    return [word for word in words[:end] if word != "--debug"] + words[end:], "--debug" in words[:end]


def _usage(mistake: CycloptsError) -> str:
    """What is wrong with the words, and where to read how they should be."""
    what = str(mistake)
    if isinstance(mistake, UnusedCliTokensError):
        extra = " ".join(mistake.unused_tokens or [])
        what = f"{extra!r} is too much here (a text of several words needs quotes)"
    verb = " ".join(mistake.command_chain or ())
    return f"{what}\n  try: {' '.join(filter(None, ('puna', verb, '--help')))}"


def _failed(what: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"puna: {clean(what)}", file=sys.stderr)
    return code


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For what nobody foresaw: Python exits with 1 after this."""
    last = traceback.extract_tb(trace)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
    what = f"this is a bug in Puna: {kind.__name__}: {error}{where}"
    print(f"puna: {clean(what)}\n  try: the same with --debug, and report what it shows", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
