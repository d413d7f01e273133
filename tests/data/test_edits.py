"""Lines and passages that many documents share are cut out, exactly those, and nothing else changes."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from puna.data.dedup.lines import FrequentLines
from puna.data.dedup.substrings import SharedPassages
from tests.data.planted import random_words, table
from tests.data.rounds import dealt, edited, run


def texts(shards):
    return {
        i: t for rows in shards for i, t in zip(*(rows[c].to_pylist() for c in ("id", "text")), strict=True)
    }


def pages(rng, count):
    menu = [f"  Menu entry {n}, ünïcode \t" for n in range(30)]
    pages = []
    for _ in range(count):
        own = [" ".join(random_words(rng, 5)) for _ in range(rng.integers(0, 6))]
        lines = [*own, *rng.choice(menu, rng.integers(0, 4)), "", "   "]
        pages.append("\n".join(rng.permutation(lines)) + "\n" * int(rng.integers(0, 2)))
    return table(pages)


@pytest.mark.parametrize("most", [1, 6, 10])
def test_a_line_stays_if_it_stands_up_to_so_many_times_and_goes_if_once_more(most):
    rows = pages(np.random.default_rng(1), 120)
    before = texts([rows])
    times = Counter(line.strip() for text in before.values() for line in text.split("\n") if line.strip())
    assert {most, most + 1} <= set(times.values()) or most == 10
    after = texts(edited(FrequentLines(most=most), dealt(rows, 3)))
    for name, text in before.items():
        kept = [line for line in text.splitlines(keepends=True) if times[line.strip()] <= most]
        assert after[name] == "".join(kept)


def test_lines_are_counted_in_buckets_of_documents():
    rows = table(["the same line\nand its own " + str(n) for n in range(40)])
    for buckets, gone in ((1, 40), (40, 0)):
        after = texts(edited(FrequentLines(buckets=buckets), dealt(rows, 2)))
        assert sum("the same line" not in text for text in after.values()) == gone


def test_lines_cut_do_not_depend_on_shards_or_partitions():
    rows, rng = pages(np.random.default_rng(2), 150), np.random.default_rng(3)
    once = texts(edited(FrequentLines(buckets=2), [rows], 1))
    for count, partitions in ((3, 4), (8, 32)):
        assert texts(edited(FrequentLines(buckets=2), dealt(rows, count, rng), partitions)) == once


def test_a_second_run_of_lines_cuts_nothing_more():
    shards = edited(FrequentLines(), dealt(pages(np.random.default_rng(4), 120), 2))
    assert texts(edited(FrequentLines(), shards)) == texts(shards)


def passages(rng, count=60):
    """Documents of own words, a third of them with one of five passages of 200 words in the middle."""
    shared = [random_words(rng, 200) for _ in range(5)]
    made = []
    for number in range(count):
        own = random_words(rng, 120)
        middle = shared[number % 5] if number % 3 == 0 else []
        made.append(([*own[:60], *middle, *own[60:]], middle))
    return table([" ".join(words) for words, _ in made]), made


def test_a_shared_passage_stays_in_the_best_document_and_goes_from_the_others():
    rows, made = passages(np.random.default_rng(5))
    before, after = texts([rows]), texts(edited(SharedPassages(), dealt(rows, 4)))
    whole = dict(zip(before, made, strict=True))
    best = {}
    for name, (_, middle) in whole.items():
        if middle:
            order = (-len(before[name].encode()), name)
            best[tuple(middle)] = min(best.get(tuple(middle), order), order)
    for name, (words, middle) in whole.items():
        left = after[name].split()
        if not middle or best[tuple(middle)][1] == name:
            assert after[name] == before[name]
            continue
        assert left[:60] == words[:60] and left[-60:] == words[-60:]
        remains = left[60:-60]
        assert len(remains) < 80, "most of the 200 words are gone"
        rest = iter(middle)
        assert all(word in rest for word in remains), "what is left is in order"


def test_a_group_of_rows_is_cut_as_in_its_whole_shard():
    rows, _ = passages(np.random.default_rng(5))
    stage = SharedPassages()
    side = run(stage, [rows])[0]
    parts = [stage.apply(part, side) for part in (rows.slice(0, 7), rows.slice(7))]
    assert texts(parts) == texts([stage.apply(rows, side)]) != texts([rows])


def test_a_short_shared_passage_and_repeats_within_a_document_stay():
    rng = np.random.default_rng(6)
    phrase = random_words(rng, 45)
    shared = [" ".join([*random_words(rng, 80), *phrase, *random_words(rng, 80)]) for _ in range(10)]
    own = [" ".join(random_words(rng, 60) * 5), "again and " * 500, "", "\n", "one"]
    rows = table(shared + own)
    assert texts(edited(SharedPassages(), dealt(rows, 3))) == texts([rows])


def test_passages_cut_do_not_depend_on_shards_or_partitions_and_a_second_run_cuts_nothing_more():
    rows, _ = passages(np.random.default_rng(7), 90)
    once = edited(SharedPassages(), [rows], 1)
    assert texts(edited(SharedPassages(), dealt(rows, 5, np.random.default_rng(8)), 16)) == texts(once)
    assert texts(edited(SharedPassages(), once)) == texts(once)


def test_only_passages_of_the_given_length_are_cut():
    rows, _ = passages(np.random.default_rng(9))
    assert texts(edited(SharedPassages(fewest=201), [rows])) == texts([rows])
    assert texts(edited(SharedPassages(fewest=120), [rows])) != texts([rows])


@pytest.mark.parametrize(
    "stage", [FrequentLines(most=1, longest=1000), SharedPassages(longest=1000)], ids=lambda s: s.name
)
def test_a_document_longer_than_the_limit_is_left_alone_and_makes_no_other_lose(stage):
    rng = np.random.default_rng(10)
    line = " ".join(random_words(rng, 80))
    long = "\n".join([line, *(" ".join(random_words(rng, 50)) for _ in range(10))])
    rows = table([long, line, "own"])
    assert texts(edited(stage, [rows])) == texts([rows])


@pytest.mark.parametrize("stage", [FrequentLines(), SharedPassages()], ids=lambda stage: stage.name)
def test_no_documents_are_no_trouble(stage):
    assert edited(stage, [table([])])[0].num_rows == 0
    columns = table(["a"]).append_column("q", pa.array([1.0]))
    assert edited(stage, [columns, columns.slice(1)])[0].equals(columns)
