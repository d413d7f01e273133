"""Our text kernels and gates against datatrove on the same documents, in turns, as one line of JSON.

    python -m bench.data_kernels [--rounds 5] [--documents 200] [--text FILE]

Gates: Gopher repetition, Gopher quality, C4, FineWeb, each seeing what the one before kept. Signatures: 112
MinHash values over runs of five words. Rates are documents a second of one core (CPU time), or MB of text a
second under `rates`, stages without a contender. The documents are about 2,000 characters each, of FILE, or
of the docstrings of Python's standard library. A ratio above 1 is in our favour.
"""

import argparse
import ast
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from bench.machine import facts
from puna.data.benchmark_runs import BenchmarkSettings, build_runs
from puna.data.benchmarks import Benchmark
from puna.data.decontaminate import Decontaminate
from puna.data.dedup.lines import FrequentLines
from puna.data.dedup.minhash import MinHash
from puna.data.dedup.substrings import SharedPassages
from puna.data.dedup.verify import Rules, verified
from puna.data.document import documents, make_id, text_buffers
from puna.data.filters.c4 import C4, C4Lines
from puna.data.filters.coverage import NgramCoverage
from puna.data.filters.fineweb import FineWeb
from puna.data.filters.gopher import GopherQuality, GopherRepetition
from puna.data.stage import KEEP
from puna.kernels.alike import minhash
from puna.kernels.text import choose

SIZE, LEAST_SECONDS = 2_000, 0.2


def our_gates(table: pa.Table) -> int:
    quality = GopherQuality(alphabetic_of="words_and_symbols")
    for gate in (GopherRepetition(), quality, C4(), FineWeb()):
        table = C4Lines()(table) if isinstance(gate, C4) else table
        table = table.filter(pa.array(gate(table).codes == KEEP))
    return len(table)


def their_gates() -> Callable[[list[str]], int]:
    gates = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()]

    def run(texts: list[str]) -> int:
        pages = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
        return sum(all(gate.filter(page) is True for gate in gates) for page in pages)

    return run


def our_signatures(table: pa.Table) -> int:
    return len(minhash(*text_buffers(table)))


def their_signatures() -> Callable[[list[str]], int]:
    signer = MinhashDedupSignature(output_folder="/dev/null")
    return lambda texts: sum(bool(signer.get_signature(signer.get_shingles(text))) for text in texts)


def quiz(folder: str) -> str:
    """A file of the runs of 2,000 made questions; the documents hold none of them."""
    rows = [{"q": " ".join(f"w{i * j % 7919}" for j in range(1, 40))} for i in range(1, 2001)]
    path = Path(folder, "quiz.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = Benchmark(name="quiz", path=str(path), fields=(("q",),))
    runs = str(Path(folder, "runs.safetensors"))
    build_runs(BenchmarkSettings(benchmarks=(made,))).save(runs)
    return runs


def our_verification(table: pa.Table) -> Callable[[], int]:
    """Each document compared in full with a copy of itself."""
    ids = pa.array([make_id("copy", str(i)) for i in range(len(table))], pa.binary(16))
    copies = table.set_column(0, table.schema.field(0), ids)
    pairs = pa.table({"member": ids, "head": table["id"]})
    return lambda: len(verified(pairs, copies, table, MinHash(), Rules()))


def our_rates(table: pa.Table, rounds: int) -> dict[str, float]:
    """MB of text a second of what has no contender here; of verification, of both sides."""
    with tempfile.TemporaryDirectory() as folder:
        clean, lines = Decontaminate(runs=quiz(folder)), FrequentLines(most=1)
        rows = lines.emit(table, 0).sort_by("key")
        frequent = rows.slice(0, max(1, len(rows) // 20)).select(["shard", "key"])
        contests = {
            "decontaminate": lambda: len(clean(table).codes),
            "verification": our_verification(table),
            "lines_count": lambda: len(lines.emit(table, 0)),
            "lines_cut": lambda: len(lines.apply(table, frequent)),
            "passages_windows": lambda: len(SharedPassages().emit(table, 0)),
            "coverage": lambda: len(NgramCoverage()(table)),
        }
        megabytes = pc.sum(pc.binary_length(table["text"])).as_py() / 1e6
        sizes = {name: megabytes * (1 + (name == "verification")) for name in contests}
        return {
            f"{name}_mb_s": round(statistics.median(rate(run, 1) for _ in range(rounds)) * sizes[name], 1)
            for name, run in contests.items()
        }


def pieces(text: str, count: int) -> list[str]:
    """`count` documents of about SIZE characters, cut between lines."""
    found, piece = [], ""
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= SIZE:
            found, piece = [*found, piece], ""
        if len(found) == count:
            return found
    raise SystemExit(f"the text gives {len(found)} documents of {SIZE} characters, not {count}")


def standard_library() -> str:
    said = []
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        nodes = [node for node in ast.walk(ast.parse(path.read_bytes())) if hasattr(node, "body")]
        said += [
            ast.get_docstring(node) or ""
            for node in nodes
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        ]
    return "\n".join(said)


def rate(run: Callable[[], int], count: int) -> float:
    """Documents a second, over as many runs as take LEAST_SECONDS."""
    start, turns = time.process_time(), 0
    while time.process_time() - start < LEAST_SECONDS:
        run()
        turns += 1
    return turns * count / (time.process_time() - start)


def table_of(texts: list[str]) -> pa.Table:
    rows = [
        {"id": make_id("bench", str(i)), "source": "bench", "url": "", "date": "", "text": text}
        for i, text in enumerate(texts)
    ]
    return documents(rows)


def measure(texts: list[str], rounds: int) -> dict[str, object]:
    table, results = table_of(texts), {}
    contests = {"gates": (our_gates, their_gates()), "signatures": (our_signatures, their_signatures())}
    for name, (ours, theirs) in contests.items():
        kept = {"puna_kept": ours(table), "datatrove_kept": theirs(texts)}  # and everything is warm
        rates = [
            (rate(lambda: ours(table), len(texts)), rate(lambda: theirs(texts), len(texts)))  # noqa: B023
            for _ in range(rounds)
        ]
        mine, other = (statistics.median(side) for side in zip(*rates, strict=True))
        results[name] = {
            "puna_documents_s": round(mine),
            "datatrove_documents_s": round(other, 1),
            "ratio": round(mine / other, 1),
            **(kept if name == "gates" else {}),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--text", type=Path)
    chosen = parser.parse_args()
    text = chosen.text.read_text() if chosen.text else standard_library()
    texts = pieces(text, chosen.documents)
    about = {"bench": "data_kernels", "kernels": choose()[1], "documents": len(texts)}
    results = measure(texts, chosen.rounds)
    rates = {"rates": our_rates(table_of(texts), chosen.rounds)}
    print(json.dumps(about | facts("datatrove", "spacy", "numpy", "pyarrow") | results | rates))


if __name__ == "__main__":
    main()
