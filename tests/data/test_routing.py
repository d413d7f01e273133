"""Documents find the stages made for their kind: `classify` names it in a column, `where` reads that column."""

import json

import pyarrow.parquet as pq
import pytest

from puna.data.classify.scores import Classify
from puna.data.document import documents, make_id
from puna.data.kinds import SOURCES, STAGES
from puna.data.pipeline import result, run
from puna.data.recipe import read_recipe
from puna.data.report import report

PROSE = "Rain fell on the grassland for nine days, and the herders waited for it to end before they crossed the river. "
CODE = "def area(width, height):\n    if width < 0:\n        raise ValueError(width)\n    return width * height\n"
RECIPE = """
[source.pages]
kind = "jsonl"
paths = ["pages.jsonl"]
[stage.classify]
model = "kinds"
score = "kind"
column = "kind"
margin = 0.2
[stage."quality.gopher"]
where = { kind = ["prose"] }
least_words = 50
"""


def test_a_kind_sends_documents_to_their_own_rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = {"short prose": PROSE, "prose": PROSE * 5, "code": CODE * 3, "short code": CODE}
    lines = [json.dumps({"url": name, "text": text}) for name, text in texts.items()]
    (tmp_path / "pages.jsonl").write_text("\n".join(lines))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    run(read_recipe("recipe.toml", SOURCES, STAGES), "out")
    kept = [row for name in result("out") for row in pq.read_table(name).to_pylist()]
    assert {row["url"]: row["kind"] for row in kept} == {
        "prose": "prose",
        "code": "code",
        "short code": "code",
    }
    assert {row["reason"]: row["documents"] for row in report("out")["reasons"]} == {
        "quality.gopher.few_words": 1
    }


@pytest.mark.parametrize("label", ["", "code"])
def test_a_kind_that_does_not_lead_is_null(label):
    rows = [
        {"id": make_id("t", text), "source": "t", "url": "", "date": "", "text": text}
        for text in (PROSE, CODE)
    ]
    table = documents(rows)
    for margin, kinds in ((0.0, ["prose", "code"]), (1.0, [None, None])):
        stage = Classify(model="kinds", score="k", label=label, column="kind", margin=margin)
        found = stage(table)
        assert found["kind"].to_pylist() == kinds
        assert {name: found.schema.field(name).type for name in stage.writes} == stage.writes
