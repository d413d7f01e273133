"""Encoding speed of Puna's Tokenizer against bare tiktoken on the same ranks and rule, as one line of JSON.

    python -m bench.tokenizer [--text FILE] [--rounds 7] [MODEL]

Both encode the same text in turns, A B A B. Without --text it is the source code of Python's own library.
"""

import argparse
import json
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import tiktoken

from bench.machine import facts
from puna import hub
from puna.tokenizer.formats import load
from puna.tokenizer.tokenizer import Tokenizer

MEGABYTES = 5


def text_of(path: Path | None) -> str:
    """About 5 MB of text."""
    files = [path] if path else sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    parts: list[str] = []
    size = 0
    while size < MEGABYTES * 2**20:
        for file in files:
            parts.append(file.read_text("utf-8", "replace"))
            size += file.stat().st_size
            if size >= MEGABYTES * 2**20:
                break
    return "".join(parts)


def measure(tokenizer: Tokenizer, text: str, rounds: int) -> dict[str, object]:
    """Seconds of each, best and median, and what share of tiktoken's time ours takes."""
    bare = tiktoken.Encoding(
        "bare", pat_str=tokenizer.split.pattern, mergeable_ranks=tokenizer.pieces.ranks, special_tokens={}
    )
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for taken, encode in zip(times, (tokenizer.encode, bare.encode_ordinary), strict=True):
            taken.append(_seconds(encode, text))
    ours, theirs = ({"best": min(taken), "median": statistics.median(taken)} for taken in times)
    ratios = {name: round(ours[name] / theirs[name], 3) for name in ours}
    return {"ours_s": ours, "tiktoken_s": theirs, "ratio": ratios}


def _seconds(encode: Callable[[str], list[int]], text: str) -> float:
    start = time.perf_counter()
    encode(text)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=hub.DEFAULT, help="a MODEL, or a tokenizer.model")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    text, start = text_of(chosen.text), time.perf_counter()
    path = Path(chosen.model)
    tokenizer = load(path if path.name == "tokenizer.model" else hub.find(chosen.model).path)
    load_s = time.perf_counter() - start
    about = {"bench": "tokenizer.encode", **facts("tiktoken"), "load_s": round(load_s, 3)}
    about |= {"kind": tokenizer.split.name, "characters": len(text), "bytes": len(text.encode())}
    print(json.dumps(about | measure(tokenizer, text, chosen.rounds)))


if __name__ == "__main__":
    main()
