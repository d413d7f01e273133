"""Texts that people judged, in the tables that such texts are given on in; the words here are harmless.

What stands for an insult is a word turned by 13 letters, so that nothing here offends.
"""

import codecs
import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from puna.data.classify.build import build_classifier, measure_classifier, read_recipe
from puna.data.classify.corpora import Corpus, read_corpus
from puna.data.classify.rows import RowLabels, labelled
from puna.data.classify.scores import Classify, Cut
from puna.data.document import documents, make_id
from puna.data.filters.safety import SafetyScores
from puna.data.stage import KEEP
from puna.errors import ConfigError, DataError

KINDS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
RUDE, LEWD = (
    [codecs.encode(word, "rot13") for word in words]
    for words in (("scoundrel", "rascal", "villain"), ("ankle", "garter", "petticoat"))
)
CALM = ["The river froze early that year", "Kill the process with a signal", "The patient was given insulin"]


def comment(at, words=()):
    said = f" You {words[at % 3]}, you {words[(at + 1) % 3]}!" * 3 if words else ""
    return f"{CALM[at % 3]}, as {at} people said." + said


def jigsaw(path, rows=60):
    """As the Toxic Comment Classification Challenge has it."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "comment_text", *KINDS])
        for at in range(rows):
            kinds = [False, False, at % 4 == 0, False, at % 4 == 1, False]
            words = (LEWD, RUDE, (), ())[at % 4]
            table.writerow([f"{at:04x}", comment(at, words) + "\nSecond line", *map(int, kinds)])


def civil(path, rows=40):
    """As Civil Comments has it: shares of judges, and rows on which they did not agree."""
    lines = [{"text": comment(at, ((), RUDE, (), LEWD)[at % 4]), "toxicity": (0.05, 0.9, 0.3, 0.6)[at % 4],
              "obscene": 0.0, "sexual_explicit": (0.0, 0.0, 0.3, 0.9)[at % 4]} for at in range(rows)]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(lines), path)


ANY = RowLabels(text="comment_text", any_of=KINDS, yes="toxic", no="clean")


def test_a_comment_is_toxic_where_any_of_its_kinds_is(tmp_path):
    jigsaw(tmp_path / "train.csv", 8)
    found = list(labelled(tmp_path / "train.csv", ANY))
    assert [label for _, _, label in found] == ["toxic", "toxic", "clean", "clean"] * 2
    assert all(text.endswith("\nSecond line") for _, text, _ in found)  # a field may span lines


def test_what_the_judges_did_not_agree_on_or_did_not_see_is_left_out(tmp_path):
    civil(tmp_path / "civil.parquet", 8)
    shares = RowLabels(any_of=["toxicity"], yes="toxic", no="clean", unsure=0.1)
    assert [label for _, _, label in labelled(tmp_path / "civil.parquet", shares)] == [
        "clean",
        "toxic",
        "toxic",
    ] * 2
    (tmp_path / "test.csv").write_text(
        "comment_text," + ",".join(KINDS) + "\nunseen" + ",-1" * 6 + "\nempty,,,,,,\n"
    )
    assert list(labelled(tmp_path / "test.csv", ANY)) == []


def test_a_column_of_labels_may_have_names_of_its_own(tmp_path):
    rows = [
        {"text": "a", "label": 1},
        {"text": "b", "label": 0},
        {"text": "c", "label": 7},
        {"text": "d", "label": None},
    ]
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n\n" for row in rows).encode())
    )
    named = RowLabels(column="label", names={"1": "toxic", "0": "clean"})
    assert list(labelled(tmp_path / "a.jsonl.gz", named)) == [(0, "a", "toxic"), (1, "b", "clean")]
    plain = [label for _, _, label in labelled(tmp_path / "a.jsonl.gz", RowLabels(column="label"))]
    assert plain == ["1", "0", "7"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"words,label\nx,y\n", "no column 'text'"),
        ("a.csv", b"text,labels\nx,y\n", "no column 'label'"),
        ("a.csv", b'text,label\n"x,y\n', "cannot be read"),
        ("a.csv", b"text,label\n\xff,y\n", "cannot be read"),
        ("a.jsonl", b"[1]\n", "no JSON object"),
        ("a.jsonl.gz", b"text", "cannot be read"),
        ("a.parquet", b"text", "cannot be read"),
        ("a.txt", b"text", "none of .csv"),
    ],
)
def test_a_table_that_is_not_one_is_told(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        list(labelled(tmp_path / name, RowLabels(column="label")))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"column": "a", "any_of": ["b"]},
        {"any_of": ["b"]},
        {"column": "a", "unsure": 0.9},
        {"column": "a", "yes": "x"},
    ],
)
def test_rows_without_one_way_to_a_label_are_refused(given):
    with pytest.raises(ConfigError, match="rows"):
        RowLabels(**given)


def test_as_many_rows_of_each_label_are_taken_as_are_wanted_and_fewer_are_some_of_the_more(tmp_path):
    jigsaw(tmp_path / "train.csv")
    more, fewer = (
        read_corpus(
            Corpus(name="j", path="train.csv", rows=ANY, most=most, licence="CC0-1.0"), tmp_path, 1500, 20
        )
        for most in (20, 5)
    )
    for label in ("toxic", "clean"):
        ids = [piece.id for piece in more if piece.label == label]
        assert len(ids) == 20 and ids[:5] == [piece.id for piece in fewer if piece.label == label]
    with pytest.raises(ConfigError, match="give a label, or rows"):
        Corpus(name="j", path="train.csv", rows=ANY, label="toxic", licence="CC0-1.0")


@pytest.fixture(scope="module", params=["toxicity", "nsfw"])
def trained(request, tmp_path_factory):
    """A recipe of the package, learnt from comments in Jigsaw's layout and measured on those in Civil Comments'."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("jigsaw", "civil_comments"):
        (root / folder).mkdir()
    jigsaw(root / "jigsaw" / "train.csv", 1000)
    civil(root / "civil_comments" / "all.parquet")
    recipe = read_recipe(request.param)
    small = recipe.features.model_copy(update={"buckets": 4096})
    recipe = recipe.model_copy(update={"features": small})
    return recipe, root, build_classifier(recipe, root, root / "model")


def test_the_recipes_for_unsafe_text_read_the_public_layouts(trained):
    recipe, root, report = trained
    assert report["left_out"] == ["your own", "python pages", "judged elsewhere", "handbook"]
    assert report["learnt_from"] == {"jigsaw comments": 1000}
    assert report["held_out"]["groups"].keys() == {"civil comments"}
    assert report["dev"]["accuracy"]["value"] > 0.9
    assert report["held_out"]["accuracy"]["value"] > 0.9
    assert measure_classifier(recipe, root, root / "model") == report["held_out"]
    assert build_classifier(recipe, root, root / "again")["sha256"] == report["sha256"]


def test_what_they_train_drops_what_it_should_through_the_stages(trained):
    recipe, root, _ = trained
    score = {"toxicity": "toxic", "nsfw": "nsfw"}[recipe.name]
    rows = [comment(at, words) for at in range(500, 506) for words in (LEWD, ())]
    table = documents(
        [{"id": make_id("t", text), "source": "t", "url": "", "date": "", "text": text} for text in rows]
    )
    scored = Classify(model=str(root / "model"), score=score, label=score)(table)
    for gate in (SafetyScores(scores=[score]), Cut(score=score, above=0.4)):
        assert [code != KEEP for code in gate(scored).codes] == [True, False] * 6


def test_comments_that_are_not_there_are_missed(tmp_path):
    with pytest.raises(DataError, match=r"jigsaw comments: .*train.csv: no such file"):
        build_classifier(read_recipe("toxicity"), tmp_path, tmp_path / "model")
