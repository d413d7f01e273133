"""Hostile input through a whole recipe, by the command line: a run ends in bounded time and memory, keeps what
is good, and its report says what was left out and why."""

import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hostile_files import (
    GOOD,
    Case,
    all_texts,
    bomb,
    damaged_archive,
    letters,
    lines,
    malformed_lines,
    odd_archives,
    odd_code,
    odd_folder,
    odd_pages,
    odd_parquet,
    odd_zip,
    strange_lines,
    written,
)
from hostile_texts import texts
from storm import Peak, begun, carried_out, done, vocabulary

from puna.data.pipeline import receipts_of, verify
from puna.data.report import report

SOURCE = '[source."{name}"]\nkind = "{kind}"\npaths = ["{name}"]\n{more}\n'
RECIPE = """
mode = "annotate"
partitions = 2
{sources}
[stage."urls.hosts"]
[stage."urls.lists"]
[stage."language.of"]
[stage."language.gate"]
[stage."quality.gopher"]
[stage."quality.gopher_repetition"]
[stage."quality.fineweb"]
[stage."coverage.ngrams"]
[stage."coverage.gate"]
[stage."words.dirty"]
[stage."words.gate"]
[stage."safety.words"]
[stage."safety.words_gate"]
[stage."dedup.url"]
[stage."dedup.exact"]
[stage."dedup.near"]
settle_rounds = 2
[stage."pii.mask"]
[stage."pii.gate"]
[stage."secrets.mask"]
[stage."secrets.gate"]
[stage."dedup.lines"]
[stage."dedup.passages"]
[stage."coverage.lines"]
[stage."quality.c4_lines"]
[stage."quality.c4"]
[stage."tokens.shards"]
tokenizer = "vocabulary"
"""
SMALL_DAMAGE, LARGE_DAMAGE = damaged_archive(120, 100), damaged_archive(1000, 100)
CASES = [
    Case("bomb", "jsonl", partial(bomb, ending=".gz", mb=40), 1, {"too_long": 1}),
    Case("bomb.zst", "jsonl", partial(bomb, ending=".zst", mb=100), 1, {"too_long": 1}),
    Case("strange", "jsonl", written("a.jsonl", strange_lines()), 17),
    Case("malformed", "jsonl", written("a.jsonl", malformed_lines()), 1, {"malformed": 8, "no_text": 4}),
    Case("empty", "jsonl", written("a.jsonl", b""), 0),
    Case("blank", "jsonl", written("a.jsonl", b"\n" * 1_000_000), 0),
    Case("letters", "jsonl", written("a.jsonl", letters(3000)), 3000),
    Case("texts", "jsonl", written("a.jsonl", all_texts(40_000)), len(texts(1000))),
    Case("folder", "text", odd_folder, 3),
    Case("code", "code", odd_code, 6, {}, "skip = []"),
    Case("zip", "pages", odd_zip, 1, {"unsafe_name": 5, "too_long": 1}),
    Case(
        "pages",
        "pages",
        odd_pages,
        1,
        {"too_long": 1, "too_deep": 1, "too_many_tags": 1, "too_many_attributes": 1},
    ),
    Case("parquet", "parquet", odd_parquet, 5, {"no_text": 12, "malformed": 2}),
    Case("archives", "warc", odd_archives, 100, {"too_long": 4, "malformed": 10, "truncated": 1}),
    Case("damaged", "warc", written("a.warc.gz", SMALL_DAMAGE[0]), SMALL_DAMAGE[1], {"damaged": 40}),
]
LARGE = [
    Case("bomb", "jsonl", partial(bomb, ending=".gz", mb=2000), 1, {"too_long": 1}),
    Case("bomb.zst", "jsonl", partial(bomb, ending=".zst", mb=2000), 1, {"too_long": 1}),
    Case("long lines", "jsonl", written("a.jsonl", lines(*[{"text": "a " * 50_000_000}] * 2, {"text": GOOD})), 1, {"too_long": 2}),
    Case("long text", "text", written("a.txt", b"a " * 50_000_000), 0, {"too_long": 1}),
    Case("long part", "text", written("a.txt", b"a " * 50_000_000 + b"\n\nb"), 1, {"too_long": 1}, 'split = "blank_lines"'),
    Case("letters", "jsonl", written("a.jsonl", letters(100_000)), 100_000),
    Case("texts", "jsonl", written("a.jsonl", all_texts(5_000_000)), len(texts(1000)), {}, "document_bytes = 40_000_000"),
    Case("damaged", "warc", written("a.warc.gz", LARGE_DAMAGE[0]), LARGE_DAMAGE[1], {"damaged": 60}),
]  # fmt: skip


def storm(folder: Path, cases: list[Case], seconds: float, mb: float) -> dict[str, tuple[int, Counter]]:
    """Carry out all cases in one run, within bounds: source -> (documents read, what was left out)."""
    for case in cases:
        (folder / case.name).mkdir(parents=True)
        case.make(folder / case.name)
    vocabulary(folder / "vocabulary")
    sources = "".join(SOURCE.format(name=case.name, kind=case.kind, more=case.more) for case in cases)
    (folder / "recipe.toml").write_text(RECIPE.format(sources=sources))
    start = time.monotonic()
    process = begun(folder, "out", "--runner", "pool", "-j", "1")
    peak = Peak(process)
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == 0 and "Traceback" not in said, said[-3000:]
    assert len(said) < 20_000, f"{len(said):,} bytes on stderr: {said[:500]}"
    peak.thread.join()
    print(f"{time.monotonic() - start:.0f} s, {peak.mb:.0f} MB")
    assert peak.mb < mb, f"{peak.mb:.0f} MB"
    return read_of(folder / "out", cases)


def read_of(out: Path, cases: list[Case]) -> dict[str, tuple[int, Counter]]:
    found = {case.name: (0, Counter()) for case in cases}
    for receipt in receipts_of(out)["00-read"]:
        [piece] = receipt.inputs
        name = piece.split("/")[0]
        rows, left = found[name]
        found[name] = rows + receipt.rows_in, left + Counter(receipt.skipped)
    assert sum(sum(left.values()) for _, left in found.values()) == sum(
        report(out)["provenance"]["skipped"].values()
    )
    assert verify(out) == []
    return found


@contextmanager
def removed(folder):
    """The folder, gone afterwards whatever happens: pytest cannot remove what is 1,100 folders deep."""
    try:
        yield folder
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with removed(tmp_path_factory.mktemp("small")) as folder:
        yield storm(folder, CASES, 300, 700)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_good_is_kept_and_all_else_is_left_out_with_a_reason(small, case):
    rows, left = small[case.name]
    if case.kind == "warc":  # how many places a damaged record has is its own affair
        assert rows >= case.kept and all(left[reason] >= count for reason, count in case.left.items()), left
    else:
        assert rows == case.kept and all(left[reason] == count for reason, count in case.left.items()), left


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    with removed(tmp_path_factory.mktemp("large")) as folder:
        yield storm(folder, LARGE, 3600, 1500)


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_large_ones_take_bounded_time_and_memory(large, case):
    test_what_is_good_is_kept_and_all_else_is_left_out_with_a_reason(large, case)


def test_files_that_vanish_while_a_run_reads_are_named_and_the_others_done(tmp_path):
    vocabulary(tmp_path / "vocabulary")
    (tmp_path / "lines").mkdir()
    for number in range(30):
        (tmp_path / "lines" / f"{number:02}.jsonl").write_bytes(letters(2000))
    sources = SOURCE.format(name="lines", kind="jsonl", more="")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(sources=sources))
    process = begun(tmp_path, "out", "--runner", "inline")
    while not done(tmp_path / "out") and process.poll() is None:
        time.sleep(0.002)
    for number in range(20, 30):
        (tmp_path / "lines" / f"{number}.jsonl").unlink()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2 and "Traceback" not in said
    assert "10 of 30 tasks failed, the others are done" in said and "lines/20.jsonl: cannot be read" in said
    assert "take it out of the source, then run again" in said and done(tmp_path / "out") == 20
    carried_out(tmp_path, "out", "--runner", "inline")
    assert verify(tmp_path / "out") == []
