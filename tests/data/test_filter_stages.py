"""What holds for every filter: the columns it promises, rows that do not depend on others, and nothing changed."""

import numpy as np
import pyarrow as pa
import pytest

from puna.data.filters.coverage import CoverageGate, NgramCoverage, RepeatedLines
from puna.data.filters.language import LanguageGate, LanguageOf
from puna.data.filters.optout import OptOut
from puna.data.filters.outliers import Outliers, WordDivergence, counts_of, write_counts
from puna.data.filters.pii import Pii, PiiGate
from puna.data.filters.safety import SafetyScores, SafetyWords, SafetyWordsGate
from puna.data.filters.secrets import Secrets, SecretsGate
from puna.data.filters.urls import Hosts, UrlLists
from puna.data.filters.words import DirtyWords, DirtyWordsGate
from tests.data.filter_rows import of_texts

pytest.importorskip("fasttext", reason="the language model's engine is not installed")
TEXTS = [
    "",
    "Write to a@b.de today.\n" * 40,
    "日本語の文章です。",
    "porn " * 30,
    "one two three four five six\n" * 9,
    "ok",
]
ANNOTATIONS = (
    Hosts,
    LanguageOf,
    Pii,
    Secrets,
    DirtyWords,
    SafetyWords,
    NgramCoverage,
    RepeatedLines,
    WordDivergence,
)
GATES = (
    UrlLists,
    LanguageGate,
    PiiGate,
    SecretsGate,
    DirtyWordsGate,
    SafetyWordsGate,
    SafetyScores,
    CoverageGate,
    Outliers,
    OptOut,
)


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("counts") / "all.npy")
    write_counts(path, counts_of(of_texts(*TEXTS)))
    return path


def stage_of(kind, counts):
    return kind(counts={"*": counts}, least_words=1) if kind is WordDivergence else kind()


def annotated(table, counts):
    """The documents with every column that some gate reads."""
    for kind in ANNOTATIONS:
        table = stage_of(kind, counts)(table)
    for name in ("q.nsfw", "q.toxic"):
        table = table.append_column(name, pa.array(np.linspace(0, 1, len(table)), pa.float32()))
    for name in OptOut.reads:
        table = table.append_column(
            name, pa.array([None, "noai", "1", None, "", "all"][: len(table)], pa.string())
        )
    return table


@pytest.mark.parametrize("kind", ANNOTATIONS, ids=lambda kind: kind.name)
def test_an_annotation_adds_what_it_promises_to_each_row_by_itself(kind, counts):
    stage, table = stage_of(kind, counts), of_texts(*TEXTS, lang=["en"] * len(TEXTS))
    if kind is LanguageOf:
        table = table.drop_columns("lang")
    found = stage(table)
    added = {field.name: field.type for field in found.schema if field.name not in table.column_names}
    assert added == kind.writes and found.select(["id", "url"]).equals(table.select(["id", "url"]))
    assert found.schema.field("text") == table.schema.field("text")
    pieces = [table.slice(i, 1) for i in range(len(table))]
    alone = pa.concat_tables([stage(piece) for piece in pieces])
    assert alone.equals(found) and stage(pa.concat_tables(pieces)).equals(found)
    assert stage(table.slice(0, 0)).schema == found.schema


@pytest.mark.parametrize("kind", GATES, ids=lambda kind: kind.name)
def test_a_gate_judges_each_row_by_itself_and_changes_nothing(kind, counts):
    gate, table = kind(), annotated(of_texts(*TEXTS), counts)
    assert set(gate.reads) <= set(table.column_names)
    before = table.to_pydict()
    verdict = gate(table)
    assert table.to_pydict() == before
    assert verdict.codes.dtype == np.int16 and verdict.values.dtype == np.float32
    assert len(verdict.codes) == len(table) and verdict.codes.max() < len(kind.reasons)
    assert [int(gate(table.slice(i, 1)).codes[0]) for i in range(len(table))] == verdict.codes.tolist()
    assert len(gate(table.slice(0, 0)).codes) == 0


def test_names_and_reasons_are_nobody_elses():
    names = [kind.name for kind in ANNOTATIONS + GATES]
    codes = [reason for gate in GATES for reason in gate.reasons]
    assert len(names) == len(set(names)) and len(codes) == len(set(codes))
