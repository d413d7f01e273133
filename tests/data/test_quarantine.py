"""One bad document is found and set aside; all others are treated as if it had never been there."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_pipeline import tree, urls
from toy_stages import Count, Fragile, Made, Short, recipe, survivors

from puna.data.pipeline import receipts_of, run
from puna.data.quarantine import Hunt, Spot
from puna.data.runners import Pool
from puna.data.stage import KEEP, Annotation, Gate, Verdict
from puna.errors import DataError


def dropped(out, reason):
    gone = pa.concat_tables([pq.read_table(path) for path in sorted(out.rglob("dropped/*.parquet"))])
    return sorted(
        url
        for url, why in zip(gone["url"].to_pylist(), gone["reason"].to_pylist(), strict=True)
        if why == reason
    )


@pytest.fixture
def raising():
    return recipe(sources=(Made(bad={"1:13": "RAISE", "1:14": "RAISE", "2:59": "RAISE"}, words=60),))


def test_documents_on_which_a_stage_raises_leave_with_its_name(raising, tmp_path):
    run(raising, tmp_path)
    bad = [f"http://x.org/{piece}/{row}" for piece, row in ((1, 13), (1, 14), (2, 59))]
    assert dropped(tmp_path, "error.toy.fragile") == bad
    assert set(urls(tmp_path)) == survivors(raising.sources[0]) - set(bad)


def test_annotate_sets_aside_what_a_stage_cannot_answer_for(raising, tmp_path):
    run(raising.model_copy(update={"mode": "annotate"}), tmp_path)
    assert len(dropped(tmp_path, "error.toy.fragile")) == 3 and len(urls(tmp_path)) == 237


def test_a_stage_that_fails_on_most_documents_is_itself_at_fault(tmp_path):
    bad = {f"{piece}:{row}": "RAISE" for piece in range(4) for row in range(60)}
    with pytest.raises(DataError, match=r"toy.fragile fails on .* of .* documents: ValueError"):
        run(recipe(sources=(Made(bad=bad),), group_bytes=9_000), tmp_path)


def test_a_document_that_kills_its_process_is_the_only_one_set_aside(tmp_path):
    source = Made(bad={"1:13": "KILL", "1:22": "KILL"}, words=60, pieces=2)
    killing = recipe(sources=(source,), stages=(Count(), Short(), Fragile()))
    first = run(killing, tmp_path / "a", Pool(2))
    assert dropped(tmp_path / "a", "error.toy.fragile") == ["http://x.org/1/13", "http://x.org/1/22"]
    assert len(urls(tmp_path / "a")) + len(dropped(tmp_path / "a", "toy.short.few_words")) == 118
    held = tmp_path / "a/00-read/quarantine/000001.json"
    assert [len(ids) for ids in json.loads(held.read_text())["poison"].values()] == [2]
    shutil.copytree(held.parent, tmp_path / "b/00-read/quarantine")
    assert run(killing, tmp_path / "b") == first  # in this process: what is known to kill is not tried
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


class Slips(Gate):
    """Kills its process once: the first that finds no mark."""

    name = "toy.slips"
    reasons = ("toy.slips.never",)
    mark: str

    def __call__(self, table):
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Verdict(np.full(len(table), KEEP, np.int16), np.zeros(len(table), np.float32))


def test_a_worker_killed_by_chance_costs_no_document(tmp_path):
    slips = recipe(stages=(Count(), Slips(mark=str(tmp_path / "mark"))))
    first = run(slips, tmp_path / "a", Pool(2))
    assert (tmp_path / "mark").exists() and len(urls(tmp_path / "a")) == 240
    assert run(slips, tmp_path / "b") == first and tree(tmp_path / "a") == tree(tmp_path / "b")


class Deadly(Made):
    """A source whose reader dies in one piece."""

    def tables(self, piece):
        if piece == "piece-2":
            os._exit(3)
        return super().tables(piece)


def test_a_piece_that_kills_its_reader_is_named_and_the_others_are_done(tmp_path):
    with pytest.raises(
        DataError, match=r"(?s)1 of 4 tasks failed.*000002: its process died 3 times \(exit code 3\)"
    ):
        run(recipe(sources=(Deadly(),), stages=()), tmp_path, Pool(1))
    assert len(receipts_of(tmp_path)["00-read"]) == 3


def test_a_reader_that_dies_is_named_after_three_deaths(tmp_path):
    hunt, task = Hunt(), "00-read/000004"
    for _ in range(2):
        assert hunt.died(Spot(7), task, "exit code -11") is False
    with pytest.raises(DataError, match=r"00-read/000004: its process died 3 times .* over reading, batch 7"):
        hunt.died(Spot(7), task, "exit code -11")


def test_deaths_that_no_single_document_explains_end_the_hunt():
    hunt = Hunt()
    for _ in range(2):  # two batches that only kill as a whole
        assert not hunt.died(Spot(0, "s", 0, 8), "t", "") and not hunt.died(Spot(1, "s", 0, 8), "t", "")
    with pytest.raises(DataError, match="over s, batch 0"):
        hunt.died(Spot(0, "s", 0, 8), "t", "")


def test_a_hunt_halves_what_died_and_needs_two_deaths_of_one_document():
    hunt = Hunt()
    assert not hunt.died(None, "t", "") and hunt.narrow is None
    assert not hunt.died(Spot(0, "s", 0, 8), "t", "") and hunt.narrow == Spot(0, "s", 0, 8)
    last = Spot(0, "s", 5, 6, "00" * 16)
    assert not hunt.died(last, "t", "") and hunt.died(last, "t", "")
    assert hunt.poison == {"s": {bytes(16)}} and hunt.narrow is None


class Loses(Annotation):
    name = "toy.loses"

    def __call__(self, table):
        return table.slice(1)


class Silent(Gate):
    name = "toy.silent"
    reasons = ("toy.silent.never",)

    def __call__(self, table):
        return None


class Blind(Annotation):
    name = "toy.blind"
    reads = ("t.nowhere",)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Loses(), "does not answer with the rows"),
        (Silent(), "one verdict a document"),
        (Blind(), "t.nowhere"),
    ],
)
def test_a_stage_that_breaks_its_promise_is_named(tmp_path, stage, said):
    with pytest.raises(DataError, match=f"{stage.name}.*{said}"):
        run(recipe(stages=(stage,)), tmp_path)
