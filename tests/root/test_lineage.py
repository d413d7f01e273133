"""A node names an artefact by what it holds, wherever it lies, and notices when it is another one."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from puna import lineage
from puna.errors import DataError
from puna.gguf_writer import GgufWriter


def made(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def weights(folder, **said):
    made(folder, a="1", b="2")
    node = lineage.node_of(folder, "weights", **said)
    lineage.write(folder, node)
    return node


def test_the_same_files_have_the_same_id_wherever_and_whenever(tmp_path):
    first, second = weights(tmp_path / "x"), weights(tmp_path / "deep" / "x", licence="MIT")
    os.utime(tmp_path / "x" / "a", (1, 1))
    assert first.id == second.id == lineage.node_of(tmp_path / "x", "weights").id
    (tmp_path / "x" / "b").write_text("3")
    assert lineage.node_of(tmp_path / "x", "weights").id != first.id


def test_a_node_is_read_as_it_was_written_and_written_the_same(tmp_path):
    parent = lineage.Parent(id="ab", relation="trained_on", kind="dataset", name="d", facts={"n": 1})
    node = weights(tmp_path / "x", parents=[parent], licence="CC-BY-4.0", facts={"é": [1.5, None]})
    text = (tmp_path / "x" / lineage.NAME).read_bytes()
    assert lineage.read(tmp_path / "x") == node
    lineage.write(tmp_path / "x", lineage.read(tmp_path / "x"))
    assert (tmp_path / "x" / lineage.NAME).read_bytes() == text
    assert sorted(at.name for at in (tmp_path / "x").iterdir()) == ["a", "b", lineage.NAME]


def test_nodes_of_files_in_one_folder_keep_apart(tmp_path):
    made(tmp_path / "x", **{"a.gguf": "1", "b.gguf": "2"})
    for name in ("a.gguf", "b.gguf"):
        lineage.write(tmp_path / "x" / name, lineage.node_of(tmp_path / "x" / name, "weights"))
    names = [lineage.read(tmp_path / "x" / name).name for name in ("a.gguf", "b.gguf")]
    assert names == ["a.gguf", "b.gguf"] and lineage.read(tmp_path / "x") is None


def test_a_file_is_the_same_under_another_name(tmp_path):
    made(tmp_path / "x", **{"a.gguf": "1", "b.gguf": "1"})
    first, second = (lineage.node_of(tmp_path / "x" / name, "weights") for name in ("a.gguf", "b.gguf"))
    assert first.id == second.id == hashlib.sha256(b"1").hexdigest()
    lineage.write(tmp_path / "x" / "b.gguf", first)
    assert lineage.problems(tmp_path / "x" / "b.gguf") == []
    assert lineage.parent_of(tmp_path / "x" / "b.gguf", "converted_from").kind == "weights"


def test_what_changed_is_named_and_what_was_added_is_not_of_it(tmp_path):
    weights(tmp_path / "x")
    (tmp_path / "x" / "README.md").write_text("mine")
    assert lineage.problems(tmp_path / "x") == []
    (tmp_path / "x" / "b").write_text("3")
    assert lineage.problems(tmp_path / "x") == [f"{tmp_path / 'x'}: b is not as it was"]
    (tmp_path / "x" / "b").unlink()
    assert lineage.problems(tmp_path / "x") == [f"{tmp_path / 'x'}: b is not as it was"]
    assert "beside it" in lineage.problems(made(tmp_path / "y"))[0]
    at = tmp_path / "x" / lineage.NAME
    at.write_text(json.dumps(json.loads(at.read_text()) | {"id": "0" * 64}))
    assert "its id is of other files" in lineage.problems(tmp_path / "x")[0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"id": 3}', '{"id": "a", "kind": "b", "name": "c", "x": 1}']
)
def test_a_file_that_is_no_node_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / lineage.NAME).write_text(text)
    with pytest.raises(DataError, match=lineage.NAME):
        lineage.read(tmp_path)


def test_a_parent_is_the_artefact_that_its_node_names_as_long_as_it_is_that_one(tmp_path):
    node = weights(tmp_path / "x", licence="MIT")
    for path in (tmp_path / "x", tmp_path / "x" / "a"):
        parent = lineage.parent_of(path, "read_by", {"stage": "s"})
        assert (parent.id, parent.kind, parent.licence, parent.facts) == (
            node.id,
            "weights",
            "MIT",
            {"stage": "s"},
        )
    (tmp_path / "x" / "a").write_text("changed")
    changed = lineage.parent_of(tmp_path / "x" / "a", "read_by")
    assert (changed.id != node.id, changed.kind, changed.licence) == (True, "file", "unknown")
    assert lineage.parent_of(tmp_path / "x" / "b", "read_by").id == node.id


def test_a_model_from_outside_is_under_the_licence_that_it_states(tmp_path):
    card = "---\nlanguage: en\nlicense: other\nlicense_name: 'llama3.2'\n---\n# Model\nlicense: mit\n"
    made(tmp_path / "x", **{"README.md": card})
    assert lineage.parent_of(tmp_path / "x", "converted_from").licence == "llama3.2"
    (tmp_path / "x" / "README.md").write_text("license: mit\n")
    assert lineage.stated_licence(tmp_path / "x") == "unknown"
    for name, keys in {"a.gguf": {"general.license": "apache-2.0"}, "b.gguf": {}}.items():
        with GgufWriter(tmp_path / name, {"general.architecture": "llama", **keys}, []):
            pass
    assert lineage.stated_licence(tmp_path / "a.gguf") == "apache-2.0"
    assert lineage.stated_licence(tmp_path / "b.gguf") == "unknown"
    (tmp_path / "c.gguf").write_text("no GGUF")
    assert lineage.parent_of(Path(tmp_path / "c.gguf"), "converted_from").licence == "unknown"
