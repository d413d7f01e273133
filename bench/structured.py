"""What a form costs: answers bound to a JSON schema against free ones, in turns, tokens a second, as JSON.

    python -m bench.structured [--model smollm2] [--rounds 10] [--threads 2]

Each answer is drawn at temperature 1 from the same prompt; bound ones are parsed and held against the schema.
A step is the median time between two tokens, so answers of all lengths compare. Above 1: bound is slower.
"""

import argparse
import json
import statistics
import time
from itertools import pairwise

import jsonschema

from bench.machine import facts
from puna import hub
from puna.engine.load import open_chat
from puna.engine.request import Grammar, Request, Sampling
from puna.hardware import cores
from puna.messages import Message

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "legs": {"type": "integer", "minimum": 0, "maximum": 100},
        "colours": {
            "type": "array",
            "items": {"enum": ["white", "brown", "black"]},
            "minItems": 1,
            "maxItems": 9,
        },
        "habits": {
            "type": "array",
            "items": {"type": "string", "maxLength": 80},
            "minItems": 3,
            "maxItems": 5,
        },
    },
    "required": ["name", "legs", "colours", "habits"],
    "additionalProperties": False,
}
MOST = 256  # tokens of a free answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=cores())
    given = parser.parse_args()
    session = open_chat(given.model, threads=given.threads, speculate="off")
    prompt = session.template.render([Message(role="user", content="Describe a llama as JSON.")]).ids
    grammar = Grammar.of_schema(SCHEMA)
    stops = frozenset(session.template.stop_ids)

    def answer(seed: int, form: Grammar | None) -> tuple[float, str]:
        """The median step in seconds, and the text."""
        marks, text = [], ""
        sampling = Sampling(temperature=1.0, seed=seed)
        room = None if form else MOST
        request = Request(ids=tuple(prompt), sampling=sampling, max_tokens=room, stop_ids=stops, grammar=form)
        for event in session.engine.submit(request):
            marks.append(time.perf_counter())
            text += event.text
        return statistics.median(b - a for a, b in pairwise(marks)), text

    steps: dict[str, list[float]] = {"free": [], "bound": []}
    valid = 0
    answer(0, grammar)  # the vocabulary's tree is built once
    for seed in range(given.rounds):
        steps["free"].append(answer(seed, None)[0])
        step, text = answer(seed, grammar)
        steps["bound"].append(step)
        jsonschema.validate(json.loads(text), SCHEMA)
        valid += 1
    session.close()
    about = {"bench": "structured", "model": given.model, "threads": given.threads, "rounds": given.rounds}
    results: dict[str, object] = {
        name: {"best_ms": round(min(times) * 1e3, 3), "median_ms": round(statistics.median(times) * 1e3, 3)}
        for name, times in steps.items()
    }
    results["ratio"] = {
        "best": round(min(steps["bound"]) / min(steps["free"]), 4),
        "median": round(statistics.median(steps["bound"]) / statistics.median(steps["free"]), 4),
    }
    print(json.dumps(about | facts("llguidance") | results | {"valid": valid}))


if __name__ == "__main__":
    main()
