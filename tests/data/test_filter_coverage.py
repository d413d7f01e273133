"""What a document says again is measured in runs of words, and lines that only say it again are removed."""

import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.coverage import CoverageGate, NgramCoverage, RepeatedLines
from tests.data.filter_rows import HOSTILE, of_texts, reasons

LINES = st.lists(
    st.lists(st.sampled_from(["a", "bb", "Bb", "ccc", "1", "2", "dd"]), max_size=7).map(" ".join), max_size=6
)


def said_before(words, n, times):
    """Which words stand in a run that came so many times earlier, as a textbook would say it."""
    seen, covered = Counter(), [False] * len(words)
    for i in range(len(words) - n + 1):
        run = tuple(words[i : i + n])
        if seen[run] >= times:
            covered[i : i + n] = [True] * n
        seen[run] += 1
    return covered


def folded(text):
    return [re.sub("[0-9]", "0", word.lower()) for word in text.split()]


@settings(max_examples=100, deadline=None)
@given(st.lists(LINES.map("\n".join), min_size=1, max_size=4), st.integers(1, 4))
def test_coverage_is_that_of_its_definition(texts, n):
    plain = []
    for text in texts:
        words = folded(text)
        covered = sum(len(w) for w, again in zip(words, said_before(words, n, 1), strict=True) if again)
        plain.append(covered / max(1, sum(map(len, words))))
    assert NgramCoverage(n=n)(of_texts(*texts))["q.coverage"].to_pylist() == pytest.approx(plain)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(LINES, min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([0.0, 0.5, 0.6]),
)
def test_lines_go_by_the_definition_and_others_keep_every_byte(documents, n, times, most):
    wanted = []
    for lines in documents:
        marks = iter(said_before(folded("\n".join(lines)), n, times))
        kept = []
        for line in lines:
            words = [(len(word), next(marks)) for word in line.split()]
            if not sum(size for size, again in words if again) > most * sum(size for size, _ in words):
                kept.append(line)
        wanted.append("\n".join(kept).rstrip("\n") if len(kept) < len(lines) else "\n".join(lines))
    table = RepeatedLines(n=n, times=times, most=most)(of_texts(*("\n".join(lines) for lines in documents)))
    assert table["text"].to_pylist() == wanted
    for removed, lines, text in zip(table["q.lines_removed"].to_pylist(), documents, wanted, strict=True):
        assert (removed == 0) == (text == "\n".join(lines))


def test_a_log_shrinks_to_its_first_lines_and_prose_around_it_stays():
    prose = ["The worker failed at night and nobody saw it before the morning.", "Here is what it wrote:"]
    log = [
        f"2026-11-{day:02} 03:{day:02}:59 ERROR worker {day} could not reach the store, trying again"
        for day in range(1, 29)
    ]
    end = ["After that it was restarted and has run well ever since."]
    table = RepeatedLines()(of_texts("\n".join(prose + log + end), "\n".join(prose)))
    assert table["text"].to_pylist() == ["\n".join(prose + log[:2] + end), "\n".join(prose)]
    assert table["q.lines_removed"].to_pylist() == [26, 0]


def test_repetition_in_another_document_is_not_its_own():
    text = "one and the same sentence of more than ten words stands in both of them"
    assert NgramCoverage()(of_texts(text, text))["q.coverage"].to_pylist() == [0, 0]
    assert RepeatedLines(times=1)(of_texts(text, text))["q.lines_removed"].to_pylist() == [0, 0]


def test_a_slice_of_a_table_is_treated_like_a_table():
    texts = ["x", "a b c d e f\na b c d e f\nrest", "a b c d e f"]
    part = RepeatedLines(times=1)(of_texts(*texts).slice(1))
    assert part["text"].to_pylist() == ["a b c d e f\nrest", "a b c d e f"]


def test_the_gate_cuts_at_its_share():
    table = of_texts(*"abc", **{"q.coverage": pa.array([0.05, 0.1, 0.2], pa.float32())})
    assert reasons(CoverageGate(), table) == [None, None, "coverage.ngrams"]
    assert reasons(CoverageGate(most=0.06), table) == [None, "coverage.ngrams", "coverage.ngrams"]


def test_encyclopedias_lose_next_to_nothing():
    folder = Path(__file__).parents[3] / "shared" / "data" / "wikitext2"
    if not folder.is_dir():
        pytest.skip("needs shared/data/wikitext2")
    text = next(path for path in sorted(folder.iterdir()) if "test" in path.name).read_text()
    articles = re.split(r"\n = [^=\n]+ = \n", text)[1:]
    table = RepeatedLines()(of_texts(*articles))
    lost = 1 - sum(map(len, table["text"].to_pylist())) / sum(map(len, articles))
    assert len(articles) > 50 and lost < 0.002


def test_hostile_text_is_measured():
    assert (
        len(NgramCoverage()(of_texts(*HOSTILE))) == len(RepeatedLines()(of_texts(*HOSTILE))) == len(HOSTILE)
    )
