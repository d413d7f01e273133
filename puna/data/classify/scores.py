"""Classifiers as stages: one that adds scores as columns, and one that cuts by a score.

They are apart because a score is worth keeping and a cut is a matter of taste: change the cut, and nothing
has to be scored again.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from puna.data.array_file import fingerprint_with, version_of
from puna.data.classify.linear_head import HeadModel, load_head
from puna.data.classify.ngrams import NgramModel, load_ngrams
from puna.data.stage import Annotation, Gate, Verdict, first_reason
from puna.errors import ConfigError, DataError, need

SHIPPED = Path(__file__).parent / "models"
NAME = r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*"


class Classify(Annotation):
    """Adds the probabilities that an n-gram classifier gives a text.

    With `label`, one column `q.<score>`: the probability of that label. Without: `q.<score>`, the likeliest
    label, and `q.<score>.<label>` for each. With `column`, also that column: the likeliest label where it
    leads, else null, for the `where` of later stages.
    """

    name = "classify"
    model: str  # a file that `NgramModel.save` wrote, or the name of one that comes with the package
    score: str = Field(pattern=f"^{NAME}$")
    label: str = ""
    column: str = Field("", pattern=f"^({NAME})?$")  # such as kind
    margin: float = Field(0.0, ge=0, le=1)  # by which the likeliest label must lead to stand in `column`

    @property
    def writes(self) -> dict[str, pa.DataType]:  # type: ignore[override]
        named = {self.column: pa.string()} if self.column else {}
        if self.label:
            return {f"q.{self.score}": pa.float32(), **named}
        each = {f"q.{self.score}.{label}": pa.float32() for label in self._model().labels}
        return {f"q.{self.score}": pa.string(), **each, **named}

    def opens(self) -> tuple[str, ...]:
        return (str(model_path(self.model)),)

    def fingerprint(self) -> str:
        return fingerprint_with(super().fingerprint(), model_path(self.model))

    def __call__(self, table: pa.Table) -> pa.Table:
        model = self._model()
        known = not self.label or self.label in model.labels
        has = ", ".join(model.labels)
        need(known, f"{self.model} knows {has}; it has no label {self.label!r}", error=ConfigError)
        chances = model.predict(table["text"].to_pylist())
        likeliest = np.array(model.labels)[chances.argmax(1)]
        if self.label:
            columns = [pa.array(chances[:, model.labels.index(self.label)])]
        else:
            columns = [pa.array(likeliest, pa.string()), *map(pa.array, chances.T)]
        if self.column:
            second, first = np.sort(chances, axis=1)[:, -2:].T
            columns.append(pa.array(likeliest, pa.string(), mask=first - second < self.margin))
        for name, column in zip(self.writes, columns, strict=True):
            table = table.append_column(name, column)
        return table

    def _model(self) -> NgramModel:
        return _opened(load_ngrams, *version_of(model_path(self.model)))


class ScoreEmbeddings(Annotation):
    """Adds `q.<score>`: what a linear head makes of a column of embeddings that an encoder wrote."""

    name = "classify.embeddings"
    model: str  # a file that `HeadModel.save` wrote
    score: str = Field(pattern=f"^{NAME}$")
    column: str  # of fixed-size lists of floats

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.column,)

    @property
    def writes(self) -> dict[str, pa.DataType]:  # type: ignore[override]
        return {f"q.{self.score}": pa.float32()}

    def opens(self) -> tuple[str, ...]:
        return (str(model_path(self.model)),)

    def fingerprint(self) -> str:
        return fingerprint_with(super().fingerprint(), model_path(self.model))

    def __call__(self, table: pa.Table) -> pa.Table:
        head: HeadModel = _opened(load_head, *version_of(model_path(self.model)))
        scores = head.predict(embeddings_of(table, self.column)).astype(np.float32)
        return table.append_column(f"q.{self.score}", pa.array(scores))


class Cut(Gate):
    """Drops documents by a score: `quality.<score>`. A document without that score stays."""

    name = "cut"
    score: str = Field(pattern=f"^{NAME}$")
    below: float | None = None  # dropped: scores below this
    above: float | None = None  # dropped: scores above this
    best: float | None = Field(None, gt=0, le=1)  # the share that stays, by the scores counted in `quantiles`
    quantiles: str = ""  # a file that `write_quantiles` wrote

    @model_validator(mode="after")
    def it_cuts_somewhere(self) -> "Cut":
        given = [self.below is not None, self.above is not None, self.best is not None]
        need(any(given), "nothing is cut", "give below, above or best", error=ConfigError)
        good = (self.best is None) == (not self.quantiles) and not (
            self.best is not None and self.below is not None
        )
        need(good, "best takes a file of quantiles and stands in place of below", error=ConfigError)
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"q.{self.score}",)

    @property
    def reasons(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"quality.{self.score}",)

    def opens(self) -> tuple[str, ...]:
        return (self.quantiles,) if self.quantiles else ()

    def fingerprint(self) -> str:
        said = super().fingerprint()
        return fingerprint_with(said, Path(self.quantiles)) if self.quantiles else said

    def __call__(self, table: pa.Table) -> Verdict:
        column = self.reads[0]
        there = column in table.column_names and pa.types.is_floating(table[column].type)
        need(there, f"{self.name}: no column of numbers {column!r}", "classify first", error=DataError)
        scores = np.asarray(table[column].cast(pa.float64()).to_numpy())  # nan where there is none
        broken = np.zeros(len(scores), bool)
        least = self.below if self.best is None else threshold(self.quantiles, self.score, self.best)
        if least is not None:
            broken |= scores < least
        if self.above is not None:
            broken |= scores > self.above
        return first_reason(len(scores), [(broken, 0, np.nan_to_num(scores))])


def model_path(model: str) -> Path:
    """The file of a model: the path given, or that of a shipped one."""
    shipped = SHIPPED / f"{model}.safetensors"
    if "/" not in model and not Path(model).is_file() and shipped.is_file():
        return shipped
    names = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.safetensors")))
    fix = f"a path, or one of {names}" if names else "a path"
    need(Path(model).is_file(), f"{model}: there is no such model", fix, error=DataError)
    return Path(model)


def embeddings_of(table: pa.Table, column: str) -> np.ndarray:
    """(rows, size) float32 of a column of lists that all have the same length."""
    need(column in table.column_names, f"no column {column!r} of embeddings", error=DataError)
    array = table[column].combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    kind = array.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    good = lists and pa.types.is_floating(kind.value_type) and array.null_count == 0
    need(good, f"column {column!r} is {kind}, expected a list of floats in each row", error=DataError)
    if not len(array):
        return np.zeros((0, max(getattr(kind, "list_size", 0), 0)), np.float32)
    values = array.flatten()
    lengths = np.asarray(array.value_lengths())
    same = (lengths == lengths[0]).all() and values.null_count == 0
    need(same, f"column {column!r}: embeddings of different sizes, or with gaps", error=DataError)
    return np.asarray(values.cast(pa.float32())).reshape(len(array), -1)


def write_quantiles(path: str | Path, score: str, values: Sequence[float] | np.ndarray) -> None:
    """Write where the scores of a sample lie, in thousandths, so that `Cut` can keep a share of the best."""
    found = np.asarray(values, np.float64)
    found = found[~np.isnan(found)]
    need(len(found), f"{path}: no score to count", error=DataError)
    quantiles = np.quantile(found, np.linspace(0, 1, 1001), method="inverted_cdf").tolist()
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({"score": score, "version": 1, "count": len(found), "quantiles": quantiles}))
    os.replace(part, path)


def threshold(path: str | Path, score: str, best: float) -> float:
    """The score that the best share of the sample reaches."""
    there = Path(path).is_file() and Path(path).stat().st_size < 1 << 20
    need(there, f"{path}: no file of quantiles", "write_quantiles writes one", error=DataError)
    try:
        said = json.loads(Path(path).read_text())
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not JSON") from None
    good = isinstance(said, dict) and said.get("version") == 1 and isinstance(said.get("quantiles"), list)
    need(good and len(said["quantiles"]) == 1001, f"{path}: not a file of quantiles", error=DataError)
    need(
        said.get("score") == score, f"{path}: of score {said.get('score')!r}, not {score!r}", error=DataError
    )
    steps = said["quantiles"]
    rising = all(isinstance(one, int | float) for one in steps) and steps == sorted(steps)
    need(rising, f"{path}: its quantiles do not rise", error=DataError)
    return float(steps[round((1 - best) * 1000)])


@functools.lru_cache(maxsize=8)
def _opened(load: Any, path: str, size: int, changed: int) -> Any:
    """A model is read once for each version of its file."""
    return load(path)
