"""A stage may be for some documents only: the others pass by it, in their places."""

import pytest
from toy_stages import SameText, recipe

from puna.data.chain import Chain
from puna.data.document import documents, make_id
from puna.data.filters.gopher import GopherQuality
from puna.data.filters.language import LanguageOf
from puna.data.pipeline import run
from puna.data.quarantine import Watch
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


def test_a_column_that_is_not_there_and_a_stage_for_all_are_told(tmp_path):
    with pytest.raises(DataError, match="no stage before it writes 'lang'"):
        through(GopherQuality(where={"lang": ("en",)}))
    with pytest.raises(DataError, match="it has no `where`"):
        run(recipe(stages=(SameText(where={"source": ("web",)}),)), tmp_path)


def test_where_is_part_of_the_fingerprint():
    assert GopherQuality().fingerprint() != GopherQuality(where={"source": ("web",)}).fingerprint()
