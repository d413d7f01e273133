"""How much memory a worker of the data room takes, step by step, for more and more text: one line of JSON.

    python -m bench.data_memory [--gb 0.2 0.6] [--workers 1] [--out FOLDER]

Documents are made up from 40,000 words at Zipf's frequencies, a tenth of them near copies of others, half of
the files JSONL.zst and half WARC.gz. The recipe has every stage that a crawl would meet. Each step has a pool
of its own, so that its receipts tell its own peak.
"""

import argparse
import gzip
import json
import operator
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard

from bench.machine import facts
from puna.data.kinds import SOURCES, STAGES
from puna.data.pipeline import receipts_of, run
from puna.data.recipe import read_recipe
from puna.data.runners import Pool
from puna.data.steps import steps_of
from puna.tokenizer.formats import to_hf
from puna.tokenizer.merges import from_ranks
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import LLAMA3
from puna.tokenizer.tokenizer import Tokenizer

FILE = 256 << 20  # bytes of text in one file
COMMON = (
    *(
        "the",
        "of",
        "and",
        "to",
        "in",
        "is",
        "that",
        "for",
        "it",
        "as",
        "was",
        "with",
        "be",
        "by",
        "on",
        "not",
    ),
    *("he", "his", "but", "at", "are", "this", "have", "from", "or", "had", "an"),
)
RECIPE = """
[source.lines]
kind = "jsonl"
paths = ["{folder}/lines"]
[source.crawl]
kind = "warc"
paths = ["{folder}/crawl"]
[stage."urls.hosts"]
[stage."urls.lists"]
[stage."language.of"]
[stage."quality.gopher"]
[stage."quality.gopher_repetition"]
[stage."quality.fineweb"]
[stage."coverage.ngrams"]
[stage."coverage.gate"]
[stage."words.dirty"]
[stage."words.gate"]
[stage."safety.words"]
[stage."safety.words_gate"]
[stage."pii.mask"]
[stage."secrets.mask"]
[stage."dedup.url"]
[stage."dedup.exact"]
[stage."dedup.near"]
[stage."dedup.lines"]
[stage."dedup.passages"]
[stage."tokens.shards"]
tokenizer = "{folder}/vocabulary"
"""


def words(count: int = 40_000) -> list[str]:
    """The commonest as they are, others of two to four syllables."""
    dice = random.Random(0)
    made = dict.fromkeys(COMMON)
    while len(made) < count:
        made[
            "".join(dice.choice("bcdfglmnprstv") + dice.choice("aeiou") for _ in range(dice.randrange(2, 5)))
        ] = None
    return list(made)


class Writer:
    """Texts that never end, the same ones for the same number."""

    def __init__(self, number: int):
        self.dice, self.words = np.random.default_rng(number), words()
        shares = 1 / np.arange(2, len(self.words) + 2)
        self.sums = np.cumsum(shares / shares.sum())
        self.last: list[str] = []

    def text(self) -> str:
        """A few paragraphs of sentences of about 12 words."""
        if self.last and self.dice.random() < 0.1:  # the one before, with two words changed
            for at in self.dice.integers(0, len(self.last), 2):
                self.last[at] = "otherwise"
            return " ".join(self.last)
        drawn = np.searchsorted(self.sums, self.dice.random(int(self.dice.integers(100, 1300)) + 2))
        said = list(operator.itemgetter(*np.minimum(drawn, len(self.words) - 1).tolist())(self.words))
        for at in range(11, len(said), 12):
            said[at] += "." if at % 60 != 59 else ".\n"
        self.last = said
        return " ".join(said)


def made(number: int, most: int) -> Iterator[tuple[str, str]]:
    """(address, text) of about so many bytes."""
    writer, size, count = Writer(number), 0, 0
    while size < most:
        text = writer.text()
        yield f"https://example.org/{number}/{count}", text
        size, count = size + len(text), count + 1


def as_lines(path: Path, number: int, most: int) -> None:
    with zstandard.open(path.with_suffix(".jsonl.zst"), "wb") as file:
        for url, text in made(number, most):
            file.write(json.dumps({"url": url, "text": text, "date": "2026-11-21"}).encode() + b"\n")


def as_crawl(path: Path, number: int, most: int) -> None:
    with path.with_suffix(".warc.gz").open("wb") as file:
        for url, text in made(number, most):
            body = "".join(f"<p>{part}</p>" for part in text.split("\n"))
            page = f"<html><head><title>T</title></head><body><main>{body}</main></body></html>".encode()
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
            head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\n"
            head += "WARC-Date: 2026-11-21T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
            record = f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + answer + b"\r\n\r\n"
            file.write(gzip.compress(record, 1))


def build(folder: Path, text_bytes: int) -> Path:
    """Files of so much text, a vocabulary of the commonest words, a recipe."""
    files = max(2, -(-text_bytes // FILE))
    for number in range(files):
        kind, write = (("lines", as_lines), ("crawl", as_crawl))[number % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write(folder / kind / f"{number:04}", number, text_bytes // files)
    prefixes = {f" {word}"[:end].encode(): None for word in words(5000) for end in range(2, len(word) + 2)}
    ranks = [bytes([byte]) for byte in range(256)] + list(prefixes)
    specials = Specials.gathered(
        {"<|begin|>": len(ranks), "<|end|>": len(ranks) + 1}, bos=len(ranks), eos=len(ranks) + 1
    )
    to_hf(Tokenizer(from_ranks(ranks), LLAMA3, specials), folder / "vocabulary")
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder))
    return folder / "recipe.toml"


def measure(folder: Path, text_bytes: int, workers: int) -> dict[str, object]:
    begun = time.monotonic()
    recipe = read_recipe(build(folder, text_bytes), SOURCES, STAGES)
    made_in, out = time.monotonic() - begun, folder / "out"
    for step in steps_of(recipe):
        run(recipe, out, Pool(workers), step=step.name, trust=True)
    peaks = {step: max(r.rss_mb for r in receipts) for step, receipts in receipts_of(out).items()}
    worst = max(peaks, key=peaks.__getitem__)
    return {
        "text_bytes": sum(receipt.bytes for receipt in receipts_of(out)["00-read"]),
        "documents": sum(receipt.rows_in for receipt in receipts_of(out)["00-read"]),
        "peak_mb_per_worker": peaks[worst],
        "at": worst,
        "disk_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "made_s": round(made_in, 1),
        "run_s": round(time.monotonic() - begun - made_in, 1),
        "peak_mb_by_step": peaks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, nargs="+", default=[0.2, 0.6])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the files go; else a folder that is deleted")
    chosen, sizes = parser.parse_args(), []
    for size in chosen.gb:
        with tempfile.TemporaryDirectory(dir=chosen.out) as folder:
            sizes.append(measure(Path(folder).resolve(), int(size * 1e9), chosen.workers))
    about = {"bench": "data_memory", "workers": chosen.workers, "sizes": sizes}
    print(json.dumps(about | facts("numpy", "pyarrow", "fastwarc", "resiliparse")))


if __name__ == "__main__":
    main()
