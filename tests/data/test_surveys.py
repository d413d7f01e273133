"""Stages that look at the whole run before they answer, and what a run leaves for the next one."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_stages import Count, Made, SameText, Short, recipe

from puna.data.classify.rank import Rank
from puna.data.classify.scores import Cut
from puna.data.corpus import CorpusDivergence
from puna.data.dedup.exact import SameText as RealSameText
from puna.data.dedup.index import Index
from puna.data.dedup.urls import SameAddress
from puna.data.filters.outliers import WordDivergence, counts_of, write_counts
from puna.data.mix import COPIES, Mixing, copies, weights
from puna.data.pipeline import last_kept, receipts_of, result, run
from puna.data.runners import Pool
from puna.data.stage import Annotation
from puna.data.tally import summed


class Spoken(Annotation):
    """Two languages by the length of a text, and tokens as many as words."""

    name = "toy.spoken"
    writes = {"lang": pa.string(), "tokens": pa.uint32()}

    def __call__(self, table):
        sizes = [len(text.split()) for text in table["text"].to_pylist()]
        table = table.append_column("lang", pa.array(["en" if size % 3 else "de" for size in sizes]))
        return table.append_column("tokens", pa.array(sizes, pa.uint32()))


def kept(out):
    return pa.concat_tables([pq.read_table(path) for path in result(out)])


MIX = Mixing.read(
    {
        "parts": [
            {"name": "english", "where": {"lang": ["en"]}, "weight": 1},
            {"name": "other", "weight": 3, "epochs": 2},
        ],
        "seed": 3,
    },
    "mix",
)


def test_a_mix_in_a_run_takes_what_counting_and_solving_by_hand_take(tmp_path):
    run(recipe(stages=(Spoken(), SameText(), MIX)), tmp_path)
    table = kept(tmp_path)
    plain = table.drop_columns([COPIES])
    assert table[COPIES].to_pylist() == copies(MIX, weights(MIX, MIX.count(plain)))(plain)[COPIES].to_pylist()
    assert set(table[COPIES].to_pylist()) == {0, 1, 2}
    text = json.loads((tmp_path / "run.json").read_text())
    assert text["stages"][-1]["name"] == "mix"


def test_surveys_answer_alike_whoever_asks(tmp_path):
    stages = (Spoken(), CorpusDivergence(least_words=5), SameText(), MIX)
    many = recipe(stages=stages, partitions=4, shard_bytes=3000)
    digest = run(many, tmp_path / "inline")
    assert run(many, tmp_path / "pool", Pool(2)) == digest
    for step in json.loads((tmp_path / "inline" / "run.json").read_text())["steps"]:
        for one in range(3):
            run(many, tmp_path / "shards", shard=(one, 3), step=step)
    assert run(many, tmp_path / "shards") == digest


def test_a_divergence_by_the_run_is_that_by_a_file_of_its_counts(tmp_path):
    run(recipe(stages=(Spoken(),), partitions=2), tmp_path / "plain")
    table, files = kept(tmp_path / "plain"), {}
    for lang in ("en", "de"):
        files[lang] = str(tmp_path / f"{lang}.npy")
        mine = table.filter(pa.compute.equal(table["lang"], lang))
        write_counts(files[lang], counts_of(mine))
    expected = WordDivergence(counts=files, least_words=5)(table)
    stages = (Spoken(), CorpusDivergence(least_words=5))
    run(recipe(stages=stages, partitions=2), tmp_path / "own")
    assert kept(tmp_path / "own")["q.kl"].to_pylist() == pytest.approx(
        expected["q.kl"].to_pylist(), nan_ok=True
    )
    run(recipe(stages=(Spoken(), CorpusDivergence(languages=("de",), least_words=5))), tmp_path / "german")
    german = kept(tmp_path / "german")
    assert {
        lang for lang, kl in zip(*(german[n].to_pylist() for n in ("lang", "q.kl")), strict=True) if kl
    } == {"de"}


def test_a_run_leaves_an_index_by_which_the_next_one_drops_what_is_known(tmp_path):
    first, second = Made(name="one", pieces=2), Made(name="two", pieces=4)
    index = Index(near=None)
    run(recipe(sources=(first,), stages=(RealSameText(), index), partitions=2), tmp_path / "one")
    known = (str(tmp_path / "one"),)
    stages = (SameAddress(earlier=known), RealSameText(earlier=known))
    run(recipe(sources=(second,), stages=stages), tmp_path / "two")
    old, new = kept(tmp_path / "one"), kept(tmp_path / "two")
    assert not set(old["text"].to_pylist()) & set(new["text"].to_pylist())
    assert not set(old["url"].to_pylist()) & set(new["url"].to_pylist())
    alone = recipe(sources=(second,), stages=(RealSameText(),))
    run(alone, tmp_path / "alone")
    unseen = {row["text"] for row in kept(tmp_path / "alone").to_pylist()} - set(old["text"].to_pylist())
    assert set(new["text"].to_pylist()) == unseen


def test_tallies_count_every_document_that_stayed_or_went(tmp_path):
    run(recipe(stages=(Spoken(), Count(), Short(), SameText())), tmp_path)
    receipts = receipts_of(tmp_path)
    left = sum(receipt.rows_in for receipt in receipts["00-read"])
    for step in ("00-read", "03-toy.same"):
        drops = sum((Counter(receipt.drops) for receipt in receipts[step]), Counter())
        by_reason = {row["reason"]: row for row in tallied(tmp_path, step, "reason")}
        stayed = by_reason.pop("")
        assert {reason: row["documents"] for reason, row in by_reason.items()} == drops and drops
        assert drops.total() + stayed["documents"] == left
        left = stayed["documents"]
    table = kept(tmp_path)
    assert (left, stayed["bytes"]) == (len(table), sum(map(len, table["text"].to_pylist())))
    assert stayed["tokens"] == sum(table["tokens"].to_pylist()) == sum(r.tokens for r in last_kept(tmp_path))
    counted = Counter(table["lang"].to_pylist())
    rows = tallied(tmp_path, "03-toy.same", "reason", "lang")
    assert {row["lang"]: row["documents"] for row in rows if not row["reason"]} == counted


def tallied(out, step, *keys):
    """The tallies of a step, by some of their keys."""
    parts = [pq.read_table(path) for path in sorted((out / step / "tally").iterdir())]
    return summed(pa.concat_tables(parts), keys).to_pylist()


class Scored(Annotation):
    """A score by what the text is, for some; negative ones too."""

    name = "toy.scored"
    writes = {"q.web": pa.float32()}

    def __call__(self, table):
        scores = [len(text) / 50 - 2 for text in table["text"].to_pylist()]
        masked = [len(text) % 7 == 0 for text in table["text"].to_pylist()]
        return table.append_column("q.web", pa.array(scores, pa.float32(), mask=np.array(masked)))


def test_a_rank_is_the_share_that_scores_less_and_a_cut_takes_a_share(tmp_path):
    stages = (Spoken(), Scored(), Rank(score="web", by="lang"))
    run(recipe(stages=stages, partitions=4, shard_bytes=3000), tmp_path / "ranked")
    rows = kept(tmp_path / "ranked").to_pylist()
    for lang in ("en", "de"):
        scores = [row["q.web"] for row in rows if row["lang"] == lang and row["q.web"] is not None]
        for row in rows:
            if row["lang"] == lang and row["q.web"] is not None:
                below = sum(score < row["q.web"] for score in scores) / len(scores)
                assert row["q.web.rank"] == pytest.approx(below, abs=2 / len(scores))
    assert all(row["q.web.rank"] is None for row in rows if row["q.web"] is None)
    run(recipe(stages=(*stages, Cut(score="web.rank", below=0.3))), tmp_path / "cut")
    left = kept(tmp_path / "cut")
    scored = sum(row["q.web"] is not None for row in rows)
    assert len(left) - (len(rows) - scored) == pytest.approx(0.7 * scored, rel=0.1)
