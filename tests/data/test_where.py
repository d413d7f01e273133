"""A stage may be for some documents only: the others pass by it, in their places."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_stages import Made, SameText, recipe

from puna.data.chain import Chain
from puna.data.classify.rank import Rank
from puna.data.dedup.lines import FrequentLines
from puna.data.document import documents, make_id
from puna.data.filters.gopher import GopherQuality
from puna.data.filters.language import LanguageOf
from puna.data.pipeline import result, run
from puna.data.quarantine import Watch
from puna.data.stage import Annotation
from puna.errors import DataError

FRENCH = "Le plateau est entre deux montagnes et il y fait froid en hiver."


def table():
    rows = [("web", FRENCH), ("code", "x = 1"), ("web", "short"), ("code", "y = 2"), ("books", FRENCH)]
    names = ("id", "source", "url", "date", "text")
    return documents([dict(zip(names, (make_id("t", str(n)), source, "", "", text), strict=True))
                      for n, (source, text) in enumerate(rows)])  # fmt: skip


def through(*stages, mode="filter", rows=None):
    return Chain(stages, mode, 0.0, 0, Watch()).run(table() if rows is None else rows)


def test_a_gate_drops_none_of_those_that_pass_by():
    kept = through(GopherQuality(where={"source": ("web", "books")}))
    assert kept["text"].to_pylist() == ["x = 1", "y = 2"]
    assert through(GopherQuality(where={"source": ("code",)}))["source"].to_pylist() == [
        "web",
        "web",
        "books",
    ]


def test_an_annotation_says_nothing_of_those_that_pass_by_and_rows_keep_their_places():
    made = through(LanguageOf(where={"source": ("web", "books")}))
    assert made["text"].to_pylist() == table()["text"].to_pylist()
    assert made["lang"].to_pylist()[1::2] == [None, None] and made["lang"][0].as_py() == "fr"


@pytest.mark.parametrize("mode", ["filter", "annotate"])
@pytest.mark.parametrize("source", ["web", "nobody"])
def test_columns_are_the_same_for_every_batch(mode, source):
    stages = LanguageOf(where={"source": (source,)}), GopherQuality(where={"source": (source,)})
    schemas = {str(through(*stages, mode=mode, rows=table().slice(start, count)).schema)
               for start, count in ((0, 5), (0, 1), (1, 1), (0, 0))}  # fmt: skip
    assert len(schemas) == 1


def test_nobody_passes_by_where_everybody_is_named():
    everyone = {"source": ("web", "code", "books")}
    assert through(LanguageOf(where=everyone))["lang"].equals(through(LanguageOf())["lang"])


def test_a_column_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="no stage before it writes 'lang'"):
        through(GopherQuality(where={"lang": ("en",)}))
    with pytest.raises(DataError, match=r"toy.same reads the column \['lang'\]"):
        run(recipe(stages=(SameText(where={"lang": ("en",)}),)), tmp_path)


def test_only_those_named_meet_lose_lines_are_measured_or_written(tmp_path):
    sources = Made(name="one", pieces=2), Made(name="two", pieces=2)
    only = {"source": ("one",)}
    run(recipe(sources=sources, stages=(SameText(where=only),)), tmp_path / "removal")
    kept = documents_of(tmp_path / "removal")
    texts = {name: [row["text"] for row in kept if row["source"] == name] for name in ("one", "two")}
    assert len(set(texts["one"])) == len(texts["one"]) < 120 and len(texts["two"]) == 120
    run(recipe(sources=sources, stages=(FrequentLines(most=1, where=only),)), tmp_path / "edit")
    edited = documents_of(tmp_path / "edit")
    assert [row["id"] for row in edited] == [row["id"] for row in documents_of(tmp_path / "plain", sources)]
    emptied = {row["source"] for row in edited if row["text"].strip() == ""}
    assert emptied == {"one"}
    scored = (Scored(), Rank(score="web", where=only))
    run(recipe(sources=sources, stages=scored), tmp_path / "survey")
    ranks = {name: [row["q.web.rank"] for row in documents_of(tmp_path / "survey") if row["source"] == name]
             for name in ("one", "two")}  # fmt: skip
    assert min(ranks["one"]) == 0 and set(ranks["two"]) == {None}


def documents_of(out, sources=()):
    if sources:
        run(recipe(sources=sources, stages=()), out)
    return pa.concat_tables([pq.read_table(path) for path in result(out)]).to_pylist()


class Scored(Annotation):
    name = "toy.scored"
    writes = {"q.web": pa.float32()}

    def __call__(self, table):
        return table.append_column("q.web", pa.array(map(len, table["text"].to_pylist()), pa.float32()))


def test_where_is_part_of_the_fingerprint():
    assert GopherQuality().fingerprint() != GopherQuality(where={"source": ("web",)}).fingerprint()
