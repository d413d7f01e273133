"""A later run knows what earlier ones kept: nothing comes twice, and nobody goes unverified."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from puna.data.dedup.exact import SameText
from puna.data.dedup.index import Index
from puna.data.dedup.lines import FrequentLines
from puna.data.dedup.near import NearCopies
from puna.data.dedup.semantic import SameMeaning
from puna.data.dedup.substrings import SharedPassages
from puna.data.dedup.urls import SameAddress
from puna.data.document import make_id
from puna.errors import DataError
from tests.data.planted import random_words, replaced, table
from tests.data.rounds import dealt, decided, finished, survivors


def indexed(folder, shards, partitions=4):
    finished(Index(), shards, folder, partitions)
    return (str(folder),)


def named(rows, prefix):
    ids = pa.array([make_id(prefix, str(n)) for n in range(len(rows))], pa.binary(16))
    return rows.set_column(0, rows.schema.field(0), ids)


@pytest.fixture
def crawls():
    """The second holds of the first: 20 exact copies, 20 near ones, 20 halves; and 20 of its own, twice."""
    rng = np.random.default_rng(1)
    first = [random_words(rng, 120) for _ in range(60)]
    own = [random_words(rng, 120) for _ in range(20)]
    near = [replaced(rng, words, 0.01) + ["x1"] * 3 for words in first[20:40]]
    halves = [words[:60] + random_words(rng, 60) for words in first[40:]]
    urls = [f"http://a.b/{n}" for n in range(60)]
    second = [*first[:20], *near, *halves, *own, *own]
    later = [f"http://a.b/{n + 1000}" for n in range(100)]
    later[99] = "https://a.b/7?utm_source=x"
    texts = [[" ".join(words) for words in crawl] for crawl in (first, second)]
    dates = ["2026-01"] * 60, ["2026-02"] * 100
    return named(table(texts[0], dates[0], urls), "first"), named(table(texts[1], dates[1], later), "second")


def test_near_copies_of_what_an_earlier_run_kept_go_and_halves_stay(crawls, tmp_path):
    first, second = crawls
    earlier = indexed(tmp_path, dealt(first, 2))
    gone, notes = decided(NearCopies(earlier=earlier), dealt(second, 3))
    ids = second["id"].to_pylist()
    old = set(first["id"].to_pylist())
    assert {i for i, (*_, kept) in gone.items() if kept in old} == set(ids[:40])
    assert len(set(gone) & set(ids[40:60])) == 0 and len(set(gone) & set(ids[60:])) == 20
    assert all(kept == first["id"].to_pylist()[ids.index(i)] for i, (*_, kept) in gone.items() if kept in old)
    assert set(notes.values()) == {2} and not set(notes) & old


def test_what_an_earlier_run_kept_wins_unless_the_total_order_is_asked(crawls, tmp_path):
    first, second = crawls
    earlier = indexed(tmp_path, dealt(first, 2))
    ids = second["id"].to_pylist()
    longer = decided(NearCopies(earlier=earlier, rebase=True), dealt(second, 3))[0]
    assert not set(longer) & set(ids[20:40]), "the new ones are longer"
    same = decided(SameText(earlier=earlier), dealt(second, 3))[0]
    assert set(ids[:20]) <= set(same) and len(same) == 40
    assert len(decided(SameText(earlier=earlier, rebase=True), dealt(second, 3))[0]) == 20, "later dates win"
    assert set(decided(SameAddress(earlier=earlier), dealt(second, 3))[0]) == {ids[99]}
    assert decided(SameAddress(earlier=earlier, rebase=True), dealt(second, 3))[0] == {}


def test_a_crawl_in_two_runs_leaves_no_copy_of_an_earlier_document(crawls, tmp_path):
    first, second = crawls
    one = indexed(tmp_path / "1", dealt(first, 2), 2)
    gone, _ = decided(NearCopies(earlier=one), dealt(second, 3))
    left = survivors(dealt(second, 3), gone)
    both = one + indexed(tmp_path / "2", left, 8)
    again = named(second, "third")
    third, _ = decided(NearCopies(earlier=both), dealt(again, 4))
    assert len(third) == len(again), "the third crawl brings nothing new"
    for partitions in (1, 16):
        assert (
            decided(NearCopies(earlier=both), dealt(again, 2, np.random.default_rng(2)), partitions)[0]
            == third
        )


def test_a_document_that_comes_again_under_its_own_id_goes(crawls, tmp_path):
    first, _ = crawls
    earlier = indexed(tmp_path, [first])
    assert len(decided(SameText(earlier=earlier), dealt(first, 2))[0]) == len(first)
    assert len(decided(SameAddress(earlier=earlier), dealt(first, 2))[0]) == len(first)


def test_an_index_made_by_other_settings_is_refused(crawls, tmp_path):
    first, second = crawls
    earlier = indexed(tmp_path, [first])
    for stage in (NearCopies(earlier=earlier, within="url"), SameText(earlier=earlier, normalise=False)):
        with pytest.raises(DataError, match="made by"):
            decided(stage, [second])


def test_a_folder_that_is_no_index_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no index of 'urls'"):
        decided(SameAddress(earlier=(str(tmp_path),)), [table(["a"], urls=["http://a.b"])])
    file = tmp_path / "07-dedup.index.urls" / "files" / "urls" / "00000.arrow"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not an Arrow file"):
        decided(SameAddress(earlier=(str(tmp_path),)), [table(["a"], urls=["http://a.b"])])


def test_rounds_can_be_sent_to_other_processes(tmp_path):
    stages = (
        NearCopies(earlier=("x",)),
        SameText(),
        SameAddress(),
        SameMeaning(),
        FrequentLines(),
        SharedPassages(),
    )
    for stage in stages:
        for step in stage.rounds():
            assert pickle.loads(pickle.dumps(step)).name == step.name
    for finish in Index().finishes():
        assert pickle.loads(pickle.dumps(finish)).name == finish.name


def test_a_fingerprint_tells_indexes_apart_by_what_they_hold(tmp_path):
    def fingerprint(texts):
        finished(Index(), [table(texts)], tmp_path, 1)
        return SameText(earlier=(str(tmp_path),)).fingerprint()

    one, other = fingerprint(["one"]), fingerprint(["two"])
    assert one != other and fingerprint(["one"]) == one
    assert SameText().fingerprint() not in (one, other)


def test_the_columns_that_settings_name_are_read():
    assert set(NearCopies(priority="q", within="lang").reads) == {"id", "date", "text", "q", "lang"}
    assert set(Index(near=NearCopies(priority="q")).reads) == {"id", "date", "text", "url", "q"}
    assert set(SameText(priority="q").reads) - set(SameText().reads) == {"q"}
