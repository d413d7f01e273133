"""Any document's fate is told, with value and sibling; two runs are compared; a plan is made, also on paper."""

import pyarrow.parquet as pq
import pytest
from toy_stages import Count, Made, SameText, Short, recipe, survivors

from puna.data.estimate import Size, plan, rates
from puna.data.explain import ANSWERS, diff, explain, left_out
from puna.data.kinds import STAGES
from puna.data.pipeline import receipts_of, run
from puna.data.report import costs
from puna.data.sources.jsonl import Jsonl
from puna.errors import DataError

FAMILIES = ("source", "shard", "emit", "reduce", "write")  # of what the engine does itself


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    run(recipe(), folder)
    return folder


def test_every_document_has_one_fate(out):
    kept = survivors(Made())
    for row in range(0, 60, 7):
        [fate] = explain(out, f"http://x.org/2/{row}")
        words = len(Made().row(2, row)["text"].split())
        if fate["url"] in kept:
            assert fate["kept"].startswith("10-toy.verified/kept/")
        elif words < 8:
            assert (fate["dropped"], fate["reason"], fate["value"]) == (
                "00-read",
                "toy.short.few_words",
                words,
            )
        else:
            assert (fate["stage"], fate["reason"]) == ("toy.same", "toy.same.text")
            [sibling] = explain(out, fate["sibling"])
            assert sibling["url"] in kept and "kept" in sibling


def test_what_was_never_there_has_no_fate_and_no_run_is_an_error(out, tmp_path):
    assert explain(out, "http://x.org/9/9") == []
    with pytest.raises(DataError, match="holds no run"):
        explain(tmp_path, "x")


def test_two_runs_differ_by_the_documents_of_the_stage_that_changed(out, tmp_path):
    assert diff(out, out)["only_first"] == {"documents": 0, "examples": []}
    run(recipe(stages=(Count(), Short(few=12), SameText())), tmp_path)
    said, lost = diff(out, tmp_path), survivors(Made()) - survivors(Made(), 12)
    assert said["only_first"]["documents"] == len(lost) and said["only_second"]["documents"] == 0
    assert {explain(out, name)[0]["url"] for name in said["only_first"]["examples"]} <= lost
    assert set(said["drops"]) == {"toy.short.few_words"}


def test_a_crawl_of_three_billion_pages_is_planned_on_paper():
    crawl = Size(documents=3_000_000_000, text_bytes=15 * 10**12, pieces=90_000)
    facts = {"partitions": None, "shard_bytes": 128 << 20, "group_bytes": 16 << 20}
    said = plan(recipe(**facts), crawl)
    assert said["partitions"] == 16_384 and said["memory_mb_per_worker"] < 1000
    assert [step["tasks"] for step in said["steps"]][:3] == [90_000, 111_759, 16_384]
    half = plan(recipe(**facts), Size(documents=1, text_bytes=crawl.text_bytes // 2, pieces=45_000))
    assert half["core_hours"] == pytest.approx(said["core_hours"] / 2, rel=0.01)


def test_receipts_replace_the_rates_of_the_package(out):
    known, measured = rates()["text_mb_s"], rates(out)["text_mb_s"]
    assert measured["toy.count"] > 0 and "toy.count" not in known
    spent = costs(receipts_of(out))["00-read"]
    assert measured["toy.count"] == pytest.approx(spent["bytes"] / 1e6 / spent["stage_s"]["toy.count"])
    assert plan(recipe(), run=out)["tasks"] > 0


def test_the_threshold_the_sibling_and_both_texts_come_with_the_answer(out):
    copies = [
        fate for row in range(0, 60, 5) if "dropped" in (fate := explain(out, f"http://x.org/1/{row}")[0])
    ]
    assert len(copies) > 2
    for fate in copies:
        assert fate["kept_instead"]["id"] == fate["sibling"] != fate["id"]
        assert fate["kept_instead"]["text"] == fate["text"] and fate["characters"] == len(fate["text"])
        assert fate["settings"][0]["name"] == "toy.same"
    assert explain(out, copies[0]["id"]) == [copies[0]]


def test_only_the_key_is_read_where_a_document_is_not(out, monkeypatch):
    wanted, read = f"http://x.org/3/{7}", pq.ParquetFile.read_row_group
    columns = []

    def noting(file, group, names=None, **more):
        columns.append(tuple(names or ["all"]))
        return read(file, group, names, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    [fate] = explain(out, wanted)
    groups = sum(pq.ParquetFile(path).num_row_groups for path in out.glob("*/[kd]*/*.parquet"))
    assert fate["url"] == wanted and len(columns) < groups and columns.count(("url",)) >= len(columns) - 2


def test_an_address_of_many_documents_has_a_bounded_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Made, "row", lambda self, piece, row, made=Made.row: made(self, piece, row) | {"url": "same"}
    )
    run(recipe(stages=(Count(), Short())), tmp_path)
    assert len(explain(tmp_path, "same")) == ANSWERS


def test_what_sources_left_out_is_counted(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a word or two"}\nbroken\n{"text": ""}\n')
    source = Jsonl(name="lines", paths=(str(tmp_path / "in.jsonl"),))
    run(recipe(sources=(source,), stages=()), tmp_path / "out")
    assert sum(left_out(tmp_path / "out").values()) == 2


def test_every_stage_and_source_has_a_rate_of_its_own_or_of_its_family():
    known = rates()["text_mb_s"]
    assert [
        name for name in STAGES if name.partition(".")[0] not in {key.partition(".")[0] for key in known}
    ] == []
    unused = [
        key
        for key in known
        if key and key.partition(".")[0] not in {*FAMILIES, *(s.partition(".")[0] for s in STAGES)}
    ]
    assert unused == [] and all(rate > 0 for rate in known.values())
    assert known["source.pages"] == known["source.warc"] < known["source"]  # where HTML is read
