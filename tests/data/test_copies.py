"""Copies by address, by text and by meaning: one stays, by a total order."""

import numpy as np
import pyarrow as pa
import pytest

from puna.data.dedup.exact import SameText
from puna.data.dedup.semantic import SameMeaning, kmeans
from puna.data.dedup.urls import TRACKING, SameAddress, canonical
from puna.data.document import make_id
from puna.errors import DataError
from tests.data.planted import random_words, table
from tests.data.rounds import dealt, decided, survivors

SAME = [  # spellings of one address
    [
        "http://example.org",
        "HTTP://EXAMPLE.org:80/",
        "https://example.org:443/#top",
        "http://example.org./?",
        " http://Example.Org/ ",
    ],
    [
        "https://a.b/x?q=1",
        "https://a.b/x?utm_source=m&q=1",
        "https://a.b/x?q=1&fbclid=Z#part",
        "http://a.b/x?q=1&UTM_Term=t",
    ],
    ["http://a.b/%7euser/%e4", "http://a.b/~user/%E4"],
    ["http://[::1]:80/a", "http://[::1]/a"],
]
OTHER = [
    "http://a.b/x?q=2",
    "http://a.b/X?q=1",
    "http://a.b:8080/x?q=1",
    "http://u@a.b/x?q=1",
    "http://[::1]:81/a",
    "http://a.b/x?q=1&q=2",
    "http://www.a.b/x?q=1",
    "http://a.b/x?q=1#!/user/bfj",
    "http://a.b/x?q=1#/room/2",
    "http://[::",
    "ftp://a.b/x?q=1",
]
NONE = ["", " ", "//a.b/x", "a/b/c.txt", "/a/b#c.py", "::::", "%zz", "?", "http:///", "http:", "mailto:a@b.c"]


def name(number):
    return make_id("planted", str(number))


def form(url):
    return canonical(url, SameAddress().names())


def test_addresses_of_one_page_are_one_and_others_are_not():
    forms = [{form(url) for url in urls} for urls in SAME] + [{form(url)} for url in OTHER]
    assert all(len(found) == 1 for found in forms)
    assert len(set.union(*forms)) == len(forms)
    assert all(form(form(url)) == form(url) for url in [*OTHER, *(u for urls in SAME for u in urls)])
    assert [form(url) for url in NONE] == [""] * len(NONE)
    assert canonical("https://a.b", SameAddress().names(), one_scheme=False) == "https://a.b/"
    assert "utm_*" in TRACKING


def test_a_hostile_address_takes_no_time():
    for url in (
        "http://" + "%" * 10**6,
        "http://a?" + "&=" * 10**6,
        "http://" + "[" * 10**6,
        "http://" + "@:" * 10**6,
    ):
        assert form(url)


def test_the_latest_visit_stays_and_of_equal_dates_the_smaller_id():
    urls = ["http://a.b/", "https://a.b", "http://a.b/#x", "", "", "http://c.d/", "http://c.d"]
    dates = ["2025", "2026-03-01T10:00:00Z", "2026-02", "", "", "2026", "2026"]
    rows = table([str(n) for n in range(7)], dates, urls)
    gone, notes = decided(SameAddress(), dealt(rows, 3))
    kept, other = sorted([name(5), name(6)])
    assert gone == {n: ("dedup.url.older", 3, name(1)) for n in (name(0), name(2))} | {
        other: ("dedup.url.older", 2, kept)
    }
    assert notes == {name(1): 3, kept: 2}


def test_equal_texts_are_one_document_whatever_the_blanks_and_the_form_of_unicode():
    texts = ["Café au  lait\n", "Cafe\u0301 au lait", "Café au lait", "cafe au lait", "", "", "\n"]
    gone, notes = decided(SameText(), dealt(table(texts), 3))
    assert len(gone) == 4 and name(3) not in gone and name(0) not in gone
    assert sorted(notes.values()) == [3, 3]
    assert len(decided(SameText(normalise=False), [table(texts)])[0]) == 1


@pytest.mark.parametrize(
    "stage", [SameText(), SameAddress(), SameMeaning(clusters=3)], ids=lambda stage: stage.name
)
def test_decisions_do_not_depend_on_order_and_a_second_run_removes_nothing(stage):
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 40, 150)
    texts = [f"text {kind}" for kind in kinds]
    dates = [f"20{n:02}" for n in rng.integers(0, 30, 150)]
    rows = table(texts, dates, [f"http://a.b/{kind}" for kind in kinds])
    centres = rng.normal(size=(40, 8))
    rows = rows.append_column("embedding", pa.array(list(centres[kinds] + rng.normal(size=(150, 8)) * 0.01)))
    once = decided(stage, [rows], 1)
    assert len(once[0]) == 150 - len(set(kinds))
    for count, partitions in ((3, 2), (9, 16)):
        shards = dealt(rows, count, rng)
        assert decided(stage, shards, partitions) == once
        assert decided(stage, survivors(shards, once[0]))[0] == {}
    assert decided(stage, [rows.slice(0, 0)]) == ({}, {})


def test_every_document_that_goes_for_its_meaning_lies_near_one_that_stays():
    rng = np.random.default_rng(2)
    vectors = np.repeat(rng.normal(size=(150, 16)), 20, axis=0) + rng.normal(size=(3000, 16)) * 0.2
    rows = table([" ".join(random_words(rng, 3)) for _ in range(3000)])
    rows = rows.append_column("embedding", pa.array(list(vectors.astype(np.float32))))
    gone, _ = decided(SameMeaning(clusters=2), dealt(rows, 3))
    unit = dict(
        zip(rows["id"].to_pylist(), vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True)
    )
    assert len(gone) > 1000
    for member, (_, value, kept) in gone.items():
        assert kept not in gone
        assert value == pytest.approx(unit[member] @ unit[kept], abs=1e-5) and value >= 0.95 - 1e-6
    whole = decided(SameMeaning(clusters=1), [rows])[0]
    stay = np.array([v for i, v in unit.items() if i not in whole])
    cosines = stay @ stay.T - np.eye(len(stay))
    assert cosines.max() < 0.95 + 1e-6


def test_a_small_sample_serves_shards_that_have_no_part_in_it():
    rng = np.random.default_rng(4)
    vectors = np.repeat(rng.normal(size=(20, 8)), 2, axis=0)
    rows = table([str(number) for number in range(40)]).append_column("embedding", pa.array(list(vectors)))
    for one_in in (10, 10**9):
        once = decided(SameMeaning(clusters=3, one_in=one_in), [rows])
        assert len(once[0]) == 20
        assert decided(SameMeaning(clusters=3, one_in=one_in), dealt(rows, 8, rng), 16) == once


def test_kmeans_finds_the_centres_of_clear_clusters():
    rng = np.random.default_rng(3)
    centres = np.eye(4, dtype=np.float32)
    points = centres[np.arange(200) % 4] + rng.normal(size=(200, 4)).astype(np.float32) * 0.05
    found = kmeans(points / np.linalg.norm(points, axis=1, keepdims=True), 4, 5)
    np.testing.assert_allclose(found, centres, atol=0.05)


def test_embeddings_that_are_no_vectors_are_refused():
    rows = table(["a", "b"])
    for bad, said in (([[1.0], [1.0, 2.0]], "different sizes"), ([[1.0], [float("nan")]], "not finite")):
        with pytest.raises(DataError, match=said):
            decided(SameMeaning(), [rows.append_column("embedding", pa.array(bad))])
