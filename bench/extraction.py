"""Main text of article pages against gold, ours beside trafilatura and Resiliparse, as one line of JSON.

    python -m bench.extraction PAGES [--rounds 3] [--alone]

PAGES holds html/NAME.html.gz and ground-truth.json {NAME: {"articleBody": text}}. Words are runs of \\w.
Precision and recall of a page count shingles of four words, each as often as it occurs; the figures are their
means over pages, and F1 is the harmonic mean of these two. Rules were tuned on pages whose sha256 of the name
begins with an even byte; the others are held out. `--alone` leaves the peers out, which need trafilatura.
"""

import argparse
import gzip
import hashlib
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text

from bench.machine import facts
from puna.data.extract.charset import decode
from puna.data.extract.page import Extract, defined

WORD = re.compile(r"\w+")
Extractor = Callable[[bytes], str]


def shingles(text: str, size: int = 4) -> Counter[tuple[str, ...]]:
    """Every run of so many words, counted."""
    words = WORD.findall(text)
    return Counter(
        tuple(words[at : at + size]) for at in range(max(len(words) - size + 1, min(len(words), 1)))
    )


def score(found: str, gold: str) -> tuple[float, float]:
    """Precision and recall of one page."""
    ours, theirs = shingles(found), shingles(gold)
    shared = (ours & theirs).total()
    return shared / max(ours.total(), 1), shared / max(theirs.total(), 1)


def even(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def measure(extract: Extractor, pages: dict[str, tuple[bytes, str]], rounds: int) -> dict[str, object]:
    """Scores of both halves, and pages and megabytes a second of CPU, the median of some rounds."""
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        found = {name: extract(html) for name, (html, _) in pages.items()}
        rates.append(len(pages) / (time.process_time() - start))
    scores = {name: score(found[name], gold) for name, (_, gold) in pages.items()}
    halves = {"tuned": [n for n in pages if even(n)], "held_out": [n for n in pages if not even(n)]}
    parts = {
        half: _mean([scores[name] for name in names]) for half, names in (halves | {"all": [*pages]}).items()
    }
    size = statistics.fmean(len(html) for html, _ in pages.values()) / 1e6
    rate = statistics.median(rates)
    return {"pages_s": round(rate, 1), "megabytes_s": round(rate * size, 1), **parts}


def _mean(scores: list[tuple[float, float]]) -> dict[str, float]:
    precision, recall = (statistics.fmean(column) for column in zip(*scores, strict=True))
    f1 = 2 * precision * recall / (precision + recall)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(f1, 4),
        "pages": len(scores),
    }


def extractors() -> dict[str, Extractor]:
    """Ours: the twin that works here, and the definition, whose scores are the same."""
    return {
        "puna": lambda html: Extract().page(html).text,
        "puna_definition": lambda html: defined(Extract(), decode(html)).text,
    }


def peers() -> dict[str, Extractor]:
    import trafilatura

    main = {"preserve_formatting": True, "main_content": True}
    bare = {**main, "comments": False, "post_meta": False, "alt_texts": False}
    return {
        "trafilatura": lambda html: trafilatura.extract(html, include_comments=False) or "",
        "trafilatura_precision": lambda html: (
            trafilatura.extract(html, include_comments=False, favor_precision=True) or ""
        ),
        "resiliparse": lambda html: extract_plain_text(decode(html), **main),
        "resiliparse_bare": lambda html: extract_plain_text(decode(html), **bare),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    chosen = parser.parse_args()
    gold = json.loads((chosen.pages / "ground-truth.json").read_text())
    pages = {
        name: (gzip.decompress((chosen.pages / "html" / f"{name}.html.gz").read_bytes()), said["articleBody"])
        for name, said in sorted(gold.items())
    }
    found = extractors() if chosen.alone else extractors() | peers()
    results = {name: measure(extract, pages, chosen.rounds) for name, extract in found.items()}
    print(json.dumps({"bench": "extraction", **facts("resiliparse", "trafilatura"), "results": results}))


if __name__ == "__main__":
    main()
