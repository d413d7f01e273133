"""A run says where its documents are from: sources, licences, opt-outs, and the files that decided."""

import json
import shutil

import pytest
from data.test_recipe_to_shards import PROSE, world  # noqa: F401  a fixture
from data.test_sources import PAGE

from puna import lineage
from puna.cli.main import main
from puna.data.kinds import SOURCES, STAGES
from puna.data.look import describe_run, describe_shard
from puna.data.origins import write_lineage
from puna.data.pipeline import receipts_of, run
from puna.data.recipe import read_recipe
from puna.data.store import Store
from puna.errors import DataError
from puna.tokenizer.formats import load

RECIPE = """
name = "small"
partitions = 2
[source.code]
kind = "code"
paths = ["{0}/code"]
[source.pages]
kind = "pages"
paths = ["{0}/pages"]
[stage.optout]
[stage."words.dirty"]
files = ["{0}/words.txt"]
[stage."words.gate"]
[stage."language.of"]
where = {{ source = ["pages"] }}
[stage."dedup.exact"]
[stage."tokens.count"]
tokenizer = "{0}/vocabulary"
[stage."tokens.shards"]
tokenizer = "{0}/vocabulary"
"""
FILES = {
    "code/mit/LICENSE.txt": "The MIT License",
    "code/mit/a.py": "x = 1\n",
    "code/b.py": "# SPDX-License-Identifier: Apache-2.0\ny = 2\n",
    "code/c.py": "z = 3\n",
    "pages/a.html": PAGE.format(PROSE),
    "pages/b.html": PAGE.format(PROSE + " And more.").replace(
        "<title>", '<meta name="robots" content="noai"><title>'
    ),
    "words.txt": "frozen\nqqqq\n",
}


@pytest.fixture
def place(tmp_path, world):  # noqa: F811
    """A folder with what the recipe reads, and the vocabulary of another one."""
    here = tmp_path / "one"
    for name, text in FILES.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    shutil.copytree(world / "vocabulary", here / "vocabulary")
    return here


def done(place, out="run"):
    """(the hash that the run says, its node)."""
    (place / "recipe.toml").write_text(RECIPE.format(place))
    recipe = read_recipe(place / "recipe.toml", SOURCES, STAGES)
    said = run(recipe, place / out)
    return said, write_lineage(recipe, Store.at(place / out), receipts_of(place / out))


def by_name(node):
    return {parent.name: parent for parent in node.parents}


def test_a_run_is_named_by_what_it_wrote_and_names_all_that_it_read(place):
    said, node = done(place)
    assert lineage.read(place / "run") == node and (node.id, node.kind, node.name) == (
        said,
        "dataset",
        "small",
    )
    parents = by_name(node)
    assert {name: parent.relation for name, parent in parents.items()} == {
        "code": "filtered_from",
        "pages": "filtered_from",
        "words.txt": "filtered_by",
        "lid.176.ftz": "filtered_by",
        "tokenizer.json": "tokenized_by",
    }
    assert parents["tokenizer.json"].facts["stages"] == ["tokens.count", "tokens.shards"]
    assert node.facts["documents"] == node.facts["shard_documents"] == 4 and node.facts["tokens"] > 10


def test_the_same_data_elsewhere_and_touched_has_the_same_parents(place, tmp_path):
    said, node = done(place)
    shutil.copytree(place, tmp_path / "two", ignore=lambda *_: ["run"], copy_function=shutil.copyfile)
    again, other = done(tmp_path / "two")
    assert (again, other.parents, other.facts) == (said, node.parents, node.facts)
    (place / "pages" / "a.html").write_text(PAGE.format(PROSE + " Changed."))
    parents, before = by_name(done(place)[1]), by_name(node)
    assert {name for name in parents if parents[name].id != before[name].id} == {"pages"}


def test_a_vocabulary_with_a_node_is_named_by_it(place):
    vocabulary = place / "vocabulary"
    told = lineage.node_of(vocabulary, "vocabulary", licence="CC0-1.0")
    lineage.write(vocabulary, told)
    parent = by_name(done(place)[1])["vocabulary"]
    assert (parent.id, parent.relation, parent.licence) == (told.id, "tokenized_by", "CC0-1.0")
    assert load(vocabulary).size == 262


def test_look_tells_what_a_run_and_its_shards_are(place, capsys):
    said, node = done(place)
    facts = describe_run(place / "run")
    assert (facts["name"], facts["sources"], facts["lineage"]["id"]) == ("small", ["code", "pages"], said)
    assert facts["lineage"]["tokenized_by tokenizer.json"].endswith("unknown")
    shards = [describe_shard(path) for path in sorted((place / "run").glob("*/files/*.tokens"))]
    assert sum(shard["tokens"] for shard in shards) == node.facts["tokens"]
    assert load(place / "vocabulary").fingerprint().startswith(shards[0]["tokenizer"])
    (shard,) = (path for path in (place / "run").glob("*/files/*0.tokens"))
    assert main(["look", str(place / "run")]) == main(["look", str(shard)]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in (said, "data run", "token shard", "tokenized_by"))
    (place / "run" / lineage.NAME).unlink()
    assert "not all" in describe_run(place / "run")["lineage"]
    (place / "run" / "run.json").write_text("[]")
    with pytest.raises(DataError, match=r"run\.json"):
        describe_run(place / "run")


def test_sources_tell_licences_and_opt_outs_of_what_was_read_and_what_stayed(place):
    node = done(place)[1]
    code, pages = (by_name(node)[name] for name in ("code", "pages"))
    assert node.licence == code.licence == "mixed" and pages.licence == "unknown"
    assert code.facts["kept"]["licences"] == {"MIT": 2, "Apache-2.0": 1, "unknown": 1}
    read, kept = pages.facts["read"], pages.facts["kept"]
    assert (read["documents"], read["optout"], read["licences"]) == (2, {"noai": 1}, {"unknown": 2})
    assert (kept["documents"], kept["optout"]) == (0, {}) and code.facts["kept"]["tokens"] > 10
    assert json.loads((place / "run" / lineage.NAME).read_text())["parents"][0]["name"] == "code"
