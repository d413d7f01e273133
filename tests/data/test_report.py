"""The report's numbers are the documents': counted where they left, by stage, reason, language and domain."""

from collections import Counter
from itertools import pairwise
from typing import ClassVar

import pyarrow as pa
import pytest
from reported import HOSTILE, Known
from toy_stages import Count, SameText, Short, recipe, survivors

from puna.data.kinds import STAGES
from puna.data.outline import outline, read_run
from puna.data.page.page import page
from puna.data.pipeline import run
from puna.data.report import report
from puna.data.samples import samples
from puna.data.stage import Annotation
from puna.data.store import Store
from puna.data.tallies import OTHERS, Sums
from puna.data.thresholds import THRESHOLDS, threshold


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    run(recipe(sources=(Known(),)), folder)
    return folder


def rows():
    source = Known()
    return [source.row(piece, row) for piece in range(source.pieces) for row in range(source.rows)]


def test_the_funnel_has_one_line_a_stage_and_loses_nobody(out):
    stages = report(out)["stages"]
    assert [s["stage"] for s in stages] == [
        "read",
        "toy.count",
        "toy.short",
        "toy.same",
        "toy.fragile",
        "toy.verified",
    ]
    assert stages[0]["documents_in"] == 240
    for before, after in pairwise(stages):
        assert after["documents_in"] == before["documents_left"]
    for stage in stages:
        assert stage["documents_in"] == stage["documents_left"] + stage["documents_dropped"]
        assert stage["cpu_s"] >= 0 and stage["peak_mb"] > 0
    assert stages[-1]["documents_left"] == len(survivors(Known()))


def test_every_count_is_that_of_the_documents(out):
    said, all_rows = report(out), rows()
    kept = survivors(Known())
    for name, column in (("lang", "lang"), ("domain", "host"), ("licence", "licence"), ("optout", "optout")):
        read, stayed = (
            Counter(r[column] or "" for r in all_rows),
            Counter(r[column] or "" for r in all_rows if r["url"] in kept),
        )
        found = said[f"by_{name}"]
        assert {row[name]: row["read"] for row in found} == read
        assert {row[name]: row["kept"] for row in found if row["kept"]} == stayed
    assert said["read"]["bytes"] == sum(len(row["text"].encode()) for row in all_rows)
    assert said["kept"]["bytes"] == sum(len(row["text"].encode()) for row in all_rows if row["url"] in kept)
    few = [row for row in all_rows if len(row["text"].split()) < 8]
    cells = [r for r in said["funnel"] if r["reason"] == "toy.short.few_words"]
    assert {(r["lang"], r["domain"]): r["documents"] for r in cells} == Counter(
        (r["lang"], r["host"]) for r in few
    )


def test_what_nobody_counted_is_not_zero(out):
    said = report(out)
    assert said["kept"]["tokens"] is None and said["funnel"][0]["tokens"] is None
    assert {stage["tokens_left"] for stage in said["stages"]} == {None}


def test_all_but_the_largest_domains_are_summed(out):
    few, all_of_them = report(out, domains=1), report(out)
    assert {row["domain"] for row in few["by_domain"]} == {"big.org", OTHERS}
    for key in ("read", "kept"):
        assert sum(r[key] for r in few["by_domain"]) == sum(r[key] for r in all_of_them["by_domain"])


def test_a_race_keeps_its_leaders_however_many_run():
    race = Sums(["domain"], 3)

    for start in range(50):
        names = [f"d{n}" for n in range(start, start + 30)] + ["often"] * 5
        once = pa.array([1] * len(names), pa.int64())
        race.add(pa.table({"domain": names, "documents": once, "bytes": once, "tokens": once}))
    assert race.table()["domain"].to_pylist()[0] == "often" and len(race.table()) == 3


def test_a_run_that_stopped_halfway_is_reported_as_such(tmp_path):
    run(recipe(sources=(Known(),)), tmp_path, step="00-read")
    said = report(tmp_path)
    assert len(said["unfinished"]) == 10 and "00-read" not in said["unfinished"]
    assert said["read"]["documents"] == 240 and [s["stage"] for s in said["stages"]] == [
        "read",
        "toy.count",
        "toy.short",
    ]


def test_a_run_in_which_nothing_is_done_has_a_report(tmp_path):
    run(recipe(sources=(Known(),)), tmp_path, shard=(7, 8), step="00-read")
    said = report(tmp_path)
    assert said["read"] is None and said["stages"] == []


def test_stages_find_their_steps():
    names = [
        "00-read", "01-near.a.emit", "02-near.a", "03-near", "04-near.b.emit", "05-near.b", "06-near",
        "07-mix.count.emit", "08-mix.count", "09-mix", "10-index.urls.emit", "11-index.urls",
        "12-index.texts.emit", "13-index.texts", "14-shards.emit", "15-shards",
    ]  # fmt: skip
    stages = [
        {"name": n} for n in ("gate", "near", "near", "gate", "gate", "mix", "mix.copies", "index", "shards")
    ]
    lines = outline({"steps": names, "stages": stages})
    assert [(line.stage, line.map, len(line.steps)) for line in lines] == [
        ("", "00-read", 1), ("gate", "00-read", 0), ("near", "03-near", 3), ("near", "06-near", 3),
        ("gate", "06-near", 0), ("mix", "09-mix", 3), ("mix.copies", "09-mix", 0), ("index", "", 4), ("shards", "", 2),
    ]  # fmt: skip
    assert len(lines[4].settings) == 2


def test_every_threshold_is_a_setting_of_a_stage_that_gives_the_reason():
    for reason, setting in THRESHOLDS.items():
        name, _, place = setting.partition(".")
        fields = [
            stage.model_fields[name].default
            for stage in STAGES.values()
            if name in stage.model_fields and reason in _reasons(stage)
        ]
        assert fields, reason
        assert all(isinstance(value[int(place)] if place else value, int | float) for value in fields), reason


def _reasons(stage):
    return stage.reasons if isinstance(getattr(stage, "reasons", None), tuple) else ()


def test_a_threshold_is_told_only_where_it_is_one():
    gopher = STAGES["quality.gopher_repetition"]()
    settings = {"name": gopher.name} | gopher.model_dump(mode="json")
    said = threshold("quality.gopher_repetition.duplicate_10_grams", [settings])
    assert said == {"setting": "most_duplicate_grams.5", "value": 0.1, "drops": "above", "by": None}
    other = settings | {"most_duplicate_grams": [1, 1, 1, 1, 1, 1]}
    assert threshold("quality.gopher_repetition.duplicate_10_grams", [settings, other]) is None
    cut = {"name": "cut", "score": "edu", "below": 2.5, "above": None}
    assert threshold("quality.edu", [cut, cut | {"score": "fun"}])["value"] == 2.5
    language = STAGES["language.gate"]()
    said = threshold("language.unsure", [{"name": language.name} | language.model_dump(mode="json")])
    assert said["value"] == 0.65 and said["by"] == "least_of"


def test_hostile_names_are_only_names(out):
    said = report(out)
    assert f"{HOSTILE}.org" in {row["domain"] for row in said["by_domain"]}
    assert said["recipe"] == read_run(Store.at(out))


def test_the_same_run_has_the_same_report(out, tmp_path):
    run(recipe(sources=(Known(),)), tmp_path)
    one, other = report(out), report(tmp_path)
    for key in ("reasons", "funnel", "by_lang", "by_domain", "by_source"):
        assert one[key] == other[key]


def test_a_stage_that_stands_twice_in_a_chain_has_one_line(tmp_path):
    run(recipe(sources=(Known(),), stages=(Count(), Short(few=5), Short(few=8), SameText())), tmp_path)
    stages = {stage["stage"]: stage for stage in report(tmp_path)["stages"]}
    assert len(stages) == 4 and [s["few"] for s in stages["toy.short"]["settings"]] == [5, 8]


class CountWords(Annotation):
    """Stands for the stage that counts tokens: it writes the column `tokens`."""

    name: ClassVar[str] = "tokens.count"
    writes: ClassVar[dict[str, pa.DataType]] = {"tokens": pa.int32()}

    def __call__(self, table):
        words = [len(text.split()) for text in table["text"].to_pylist()]
        return table.append_column("tokens", pa.array(words, pa.int32()))


def test_tokens_are_told_from_where_they_are_counted(tmp_path):
    stages = (Count(), Short(), CountWords(), SameText())
    run(recipe(sources=(Known(),), stages=stages), tmp_path)
    said = report(tmp_path)
    left = {stage["stage"]: stage["tokens_left"] for stage in said["stages"]}
    words = {row["url"]: len(row["text"].split()) for row in rows()}
    kept = sum(words[url] for url in survivors(Known()))
    long = sum(count for count in words.values() if count >= 8)
    assert left == {
        "read": None,
        "toy.count": None,
        "toy.short": None,
        "tokens.count": long,
        "toy.same": kept,
    }
    assert {row["reason"]: row["tokens"] for row in said["reasons"]} == {
        "toy.short.few_words": None, "toy.same.text": long - kept
    }  # fmt: skip
    assert said["kept"]["tokens"] == kept == sum(row["kept_tokens"] or 0 for row in said["by_domain"])


def test_what_only_annotates_drops_nothing(tmp_path):
    run(recipe(sources=(Known(),), mode="annotate"), tmp_path)
    said = report(tmp_path)
    assert said["kept"]["documents"] == 240 and said["reasons"] == []
    assert "annotates" in page(said, samples(tmp_path), "run")
