"""Documents to framed ids in an Arrow column, against bare tiktoken on the same texts, as one line of JSON.

    python -m bench.data_tokenize [--text FILE] [--rounds 5] [--characters 2000] [MODEL]

MB/s is UTF-8 text a second of one core's time. Both take turns, A B A B, on documents of about so many
characters. Without --text they are the source code of Python's own library.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import tiktoken

from bench.machine import facts
from bench.tokenizer import text_of
from puna import hub
from puna.data.tokenize import CountTokens, loaded


def documents(text: str, characters: int) -> pa.Table:
    """The text as rows, each to the end of its line."""
    rows, at = [], 0
    while at < len(text):
        end = text.find("\n", at + characters) + 1 or len(text)
        rows.append(text[at:end])
        at = end
    return pa.table({"text": pa.array(rows, pa.large_string())})


def measure(path: Path, table: pa.Table, rounds: int) -> dict[str, object]:
    """MB/s of each, best and median, and what share of tiktoken's time ours takes."""
    stage, tokenizer = CountTokens(tokenizer=path, bos=False, eos=False), loaded(path)
    bare = tiktoken.Encoding(
        "bare", pat_str=tokenizer.split.pattern, mergeable_ranks=tokenizer.pieces.ranks, special_tokens={}
    )
    texts = table["text"].to_pylist()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        taken[0].append(_seconds(lambda: stage.ids(table)))
        taken[1].append(_seconds(lambda: [bare.encode_ordinary(text) for text in texts]))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    ours, theirs = (
        {"best": round(megabytes / min(each), 2), "median": round(megabytes / statistics.median(each), 2)}
        for each in taken
    )
    ratios = {name: round(theirs[name] / ours[name], 3) for name in ours}
    return {"ours_mb_s": ours, "tiktoken_mb_s": theirs, "time_ratio": ratios}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=hub.DEFAULT, help="a MODEL, or a tokenizer.model")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--characters", type=int, default=2000)
    chosen = parser.parse_args()
    path = Path(chosen.model)
    path = path if path.name == "tokenizer.model" else hub.find(chosen.model).path
    table = documents(text_of(chosen.text), chosen.characters)
    about = {"bench": "data.tokenize", **facts("tiktoken", "pyarrow"), "kind": loaded(path).split.name}
    about |= {"documents": len(table)}
    print(json.dumps(about | measure(path, table, chosen.rounds)))


if __name__ == "__main__":
    main()
