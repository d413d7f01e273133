"""Text that copies, with guesses and without, in turns: tokens a second of the same tokens, as JSON.

    python -m bench.speculation [--model smollm2] [--rounds 5] [--threads 2] [--speculate ngram]

Prompts are made of Python's own library. again: the beginning of a file twice, then it goes on a third time;
rename, repeat: chat about a function; json: a list to be reformatted; quote: a text to be corrected; plain:
questions that copy nothing, where guesses must cost nothing. Greedy; a ratio above 1 is in favour of guesses.
"""

import argparse
import colorsys
import fnmatch
import heapq
import inspect
import json
import shlex
import statistics
import sys
import textwrap
from dataclasses import dataclass, field

from bench.machine import facts
from puna import hub
from puna.engine.draft import Drafts
from puna.engine.load import Session, open_chat, open_drafts
from puna.engine.request import Request, Sampling, Usage
from puna.hardware import cores
from puna.messages import Message

WRITTEN = 256  # tokens at most
FILES = (heapq, shlex, textwrap, fnmatch)
FUNCTIONS = (
    (colorsys.rgb_to_hls, "maxc", "top"),
    (statistics.median, "data", "values"),
    (textwrap.dedent, "text", "page"),
    (shlex.quote, "s", "word"),
)
TEXT = (
    "The puna is the high gras land of the central Andes, where llamas and vicuñas graze above the tree "
    "line. Its nights are colt and its sun is strong. People have kept llamas there for thousands of years, "
    "for wool, for meat and to carry loads over the passes."
)
ROWS = [
    {"name": name, "kind": kind, "size": 7 * size}
    for size, (name, kind) in enumerate(
        [("llama", "camelid"), ("puma", "cat"), ("condor", "bird"), ("vicuna", "camelid"), ("fox", "dog")]
    )
]
QUESTIONS = (
    "Why is the sky blue?",
    "Write a short story about a llama in the mountains.",
    "What are good habits for learning a language?",
    "Who was Ada Lovelace?",
)


def prompts(session: Session) -> dict[str, list[list[int]]]:
    """Ids by kind of work."""
    encode = session.tokenizer.encode

    def asked(text: str) -> list[int]:
        return list(session.template.render([Message(role="user", content=text)]).ids)

    def again(text: str) -> list[int]:
        whole, gap = encode(text[:3000]), encode("\n\n\n")
        return [*whole, *gap, *whole, *gap, *whole[: len(whole) // 4]]

    def code(function: object) -> str:
        return f"\n\n```python\n{inspect.getsource(function)[:1500]}\n```"  # type: ignore[arg-type]

    return {
        "again": [again(inspect.getsource(file)) for file in FILES],
        "rename": [
            asked(f"Repeat this code with `{a}` changed to `{b}`:" + code(f)) for f, a, b in FUNCTIONS
        ],
        "repeat": [asked("Repeat this code exactly:" + code(f)) for f, _, _ in FUNCTIONS],
        "json": [asked("Reformat this JSON with one field a line:\n\n" + json.dumps(ROWS))],
        "quote": [asked("Correct the spelling of this text and repeat it:\n\n" + TEXT)],
        "plain": [asked(question) for question in QUESTIONS],
    }


@dataclass
class Seen:
    """Of one kind of work: a round's tokens a second without and with guesses, and how these fared."""

    rates: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    usages: list[Usage] = field(default_factory=list)

    def told(self) -> dict[str, object]:
        best, median = ([kind(rates) for rates in self.rates] for kind in (max, statistics.median))
        written = sum(usage.completion_tokens for usage in self.usages)
        accepted = sum(usage.accepted_tokens for usage in self.usages)
        guessed = sum(usage.guessed_tokens for usage in self.usages)
        sides = {
            name: {"best": round(best[side], 1), "median": round(median[side], 1)}
            for side, name in enumerate(("off_tokens_s", "on_tokens_s"))
        }
        return sides | {
            "ratio": {"best": round(best[1] / best[0], 3), "median": round(median[1] / median[0], 3)},
            "tokens_a_step": round(written / (written - accepted), 2),
            "guesses_right": round(accepted / max(1, guessed), 2),
        }


def write(session: Session, ids: list[int], drafts: Drafts | None) -> tuple[list[int], Usage]:
    session.engine.drafts = drafts
    ends = frozenset(session.template.stop_ids)
    request = Request(ids=tuple(ids), sampling=Sampling(temperature=0), max_tokens=WRITTEN, stop_ids=ends)
    events = list(session.engine.submit(request))
    assert events[-1].usage is not None and events[-1].finish != "error", events[-1].problem
    return [id for event in events for id in event.ids], events[-1].usage


def measure(session: Session, drafts: Drafts | None, rounds: int) -> dict[str, object]:
    """Every prompt is read once before, so that all that is timed is writing."""
    seen: dict[str, Seen] = {}
    for kind, some in prompts(session).items():
        seen[kind] = Seen()
        wanted = [write(session, ids, None)[0] for ids in some]
        for _ in range(rounds):
            seconds = [0.0, 0.0]
            for ids, text in zip(some, wanted, strict=True):
                for side, who in enumerate((None, drafts)):
                    written, usage = write(session, ids, who)
                    assert written == text, "guesses changed what was written"
                    seconds[side] += usage.total_s - usage.first_token_s
                    seen[kind].usages += [usage] * side
            for rates, taken in zip(seen[kind].rates, seconds, strict=True):
                rates.append(sum(len(text) - 1 for text in wanted) / taken)
        print(kind, seen[kind].told(), file=sys.stderr)
    return {kind: found.told() for kind, found in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--speculate", default="ngram")
    chosen = parser.parse_args()
    session = open_chat(chosen.model, threads=chosen.threads, speculate="off")
    drafts = open_drafts(chosen.speculate, session.engine, session.tokenizer, "auto", chosen.threads)
    about = {"bench": "speculation", "model": chosen.model, "speculate": chosen.speculate}
    results = measure(session, drafts, chosen.rounds)
    session.close()
    print(json.dumps(about | {"threads": chosen.threads} | facts() | {"results": results}))


if __name__ == "__main__":
    main()
