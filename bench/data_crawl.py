"""WARC to filtered text with language and signatures: pages a second of one core, as one line of JSON.

    python -m bench.data_crawl CRAWL.warc.gz [--kb 80] [--rounds 3]

With --kb the smallest pages are left out until those that remain have so many kB on average. Seconds are CPU
seconds of one thread; beside ours stands what resiliparse takes to find the same pages' main content.
"""

import argparse
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from bench.machine import facts
from puna.data.chain import Chain
from puna.data.dedup.minhash import MinHash, signatures
from puna.data.document import text_buffers
from puna.data.filters.c4 import C4, C4Lines
from puna.data.filters.fineweb import FineWeb
from puna.data.filters.gopher import GopherQuality, GopherRepetition
from puna.data.filters.language import LanguageGate, LanguageOf
from puna.data.quarantine import Watch
from puna.data.sources.warc import Warc

STAGES = (LanguageOf(), LanguageGate(), GopherQuality(), GopherRepetition(), C4Lines(), C4(), FineWeb())


def large_pages(crawl: Path, mean: int, folder: Path) -> tuple[Path, list[bytes]]:
    """A crawl of the largest pages whose mean is at least so many bytes, or all; and their bytes."""
    pages = []
    with crawl.open("rb") as stream:
        for record in ArchiveIterator(stream, WarcRecordType.response):
            pages.append((record.headers["WARC-Target-URI"], record.reader.read()))
    pages.sort(key=lambda page: len(page[1]))
    total = sum(len(body) for _, body in pages)
    while len(pages) > 1 and total < mean * len(pages):
        total -= len(pages.pop(0)[1])
    path = folder / "crawl.warc.gz"
    with path.open("wb") as out:
        for url, body in pages:
            http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
            head = (
                f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:x:{url}>\r\n"
                f"WARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
                "Content-Type: application/http; msgtype=response\r\n"
                f"Content-Length: {len(http)}\r\n\r\n"
            )
            out.write(gzip.compress(head.encode() + http + b"\r\n\r\n", 6, mtime=0))
    return path, [body for _, body in pages]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def whole(path: Path) -> int:
    """How many documents are left, each with its signature."""
    chain, left = Chain(STAGES, "filter", 0.0, 0, Watch()), 0
    for table in Warc(name="crawl", paths=(str(path),)).tables(str(path)):
        kept = chain.run(table)
        left += len(signatures(*text_buffers(kept), MinHash()))
    return left


def bare(bodies: list[bytes]) -> None:
    for body in bodies:
        extract_plain_text(bytes_to_str(body, detect_encoding(body)), main_content=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crawl", type=Path)
    parser.add_argument("--kb", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path, bodies = large_pages(given.crawl, given.kb * 1000, Path(folder))
        left = whole(path)
        taken: tuple[list[float], list[float], list[float]] = ([], [], [])
        for _ in range(given.rounds):
            taken[0].append(seconds(lambda: whole(path)))
            taken[1].append(seconds(lambda: list(Warc(name="crawl", paths=(str(path),)).tables(str(path)))))
            taken[2].append(seconds(lambda: bare(bodies)))
    names = ("whole", "reading_and_extraction", "resiliparse_main_content_alone")
    rates = {
        name: {
            "best": round(len(bodies) / min(each), 1),
            "median": round(len(bodies) / statistics.median(each), 1),
        }
        for name, each in zip(names, taken, strict=True)
    }
    said = {
        "pages": len(bodies),
        "mean_kb": round(sum(map(len, bodies)) / len(bodies) / 1000, 1),
        "left": left,
    }
    print(
        json.dumps(
            {"bench": "data_crawl"}
            | said
            | {"pages_a_second_a_core": rates}
            | facts("fastwarc", "resiliparse")
        )
    )


if __name__ == "__main__":
    main()
