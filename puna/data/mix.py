"""How much of what a model reads: each document is taken never, once or several times, by the part it is in.

A recipe gives parts and their weights:

    [stage.mix]
    tokens = 15_000_000_000
    [[stage.mix.parts]]
    name = "english, good"
    where = { lang = ["en"], "q.web" = { least = 0.5 } }
    weight = 0.5
    epochs = 4

`weights` solves them for what there is: a part takes at most `epochs` times what it has, and what it cannot
give is asked of the others, in proportion. `Copies` then decides document by document by its hash, so that
whatever was taken at a low rate is taken at every higher one. `mix` in a recipe does all three in its place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from puna.data.chance import id_bytes, shares
from puna.data.rounds import Round, Survey
from puna.data.stage import Annotation, Where
from puna.data.where import fits
from puna.errors import ConfigError, DataError, need
from puna.settings import Settings

COPIES = "mix.copies"  # the column that says how many times
NOWHERE = -1  # of a document that no part wants: it is taken zero times


class Part(Settings):
    """Documents that share a weight. Each column of `where` holds one of its values, or is in its range."""

    name: str
    where: Where = {}
    weight: Annotated[float, Field(ge=0)]
    epochs: Annotated[float, Field(gt=0, le=1000)] = 4.0  # [Muennighoff 2023] repeats up to 4 cost little


class Mix(Settings):
    """The parts in order: a document is of the first one that fits."""

    parts: tuple[Part, ...] = Field(min_length=1)
    tokens: Annotated[int, Field(gt=0)] | None = None  # None: as many as the weights allow exactly
    size: str = "tokens"  # the column that holds each document's length in tokens
    seed: int = 0

    @model_validator(mode="after")
    def parts_can_be_told_apart(self) -> "Mix":
        names = [part.name for part in self.parts]
        twice = len(set(names)) < len(names)
        need(not twice, f"two parts have one name: {', '.join(names)}", error=ConfigError)
        need(any(part.weight for part in self.parts), "no part has a weight", error=ConfigError)
        return self

    def part_of(self, table: pa.Table) -> np.ndarray:
        """(rows,) int32: the place of each document's part, or NOWHERE."""
        return _part_of(self.parts, table)

    def count(self, table: pa.Table) -> np.ndarray:
        """(parts + 1, 2) int64: documents and tokens of each part, last of none. Tables add up."""
        whole = self.size in table.column_names and table[self.size].null_count == 0
        need(whole, f"mix: there is no column {self.size!r} of every document's tokens", error=DataError)
        part = self.part_of(table) % (len(self.parts) + 1)
        sizes = table[self.size].to_numpy().astype(np.int64)
        had = np.zeros((len(self.parts) + 1, 2), np.int64)
        np.add.at(had, part, np.stack([np.ones_like(sizes), sizes], axis=1))
        return had


@dataclass(frozen=True)
class Share:
    """A row of the table that says what a part was asked, what it has, and what is short. All in tokens."""

    part: str
    weight: float  # of 1
    documents: int
    had: int
    asked: float  # weight x budget
    taken: float  # expected
    short: float  # asked and not there, after all epochs
    epochs: float  # how often each document is taken, on average


def weights(mix: Mix, had: np.ndarray) -> tuple[Share, ...]:
    """How much each part gives of what `count` found; a last row tells of documents in no part."""
    total = math.fsum(part.weight for part in mix.parts)
    weight = np.array([part.weight / total for part in mix.parts])
    most = np.array([part.epochs for part in mix.parts]) * had[:-1, 1]
    budget = float(mix.tokens) if mix.tokens is not None else _exact_budget(weight, most)
    empty = ", ".join(repr(part.name) for part, top in zip(mix.parts, most, strict=True) if not top)
    need(
        budget > 0,
        f"mix: there are no documents of {empty}, so the weights cannot hold",
        "a number of `tokens`, which the other parts then give, or a weight of 0",
        DataError,
    )
    taken, asked = _filled(weight, most, budget), weight * budget
    rows = [
        Share(
            part=part.name,
            weight=float(weight[k]),
            documents=int(had[k, 0]),
            had=int(had[k, 1]),
            asked=float(asked[k]),
            taken=float(taken[k]),
            short=max(0.0, float(asked[k] - taken[k])),
            epochs=float(taken[k] / had[k, 1]) if had[k, 1] else 0.0,
        )
        for k, part in enumerate(mix.parts)
    ]
    return (*rows, Share("(in no part)", 0.0, int(had[-1, 0]), int(had[-1, 1]), 0.0, 0.0, 0.0, 0.0))


def _exact_budget(weight: np.ndarray, most: np.ndarray) -> float:
    """The largest budget of which every part can give its share."""
    return float(min(most[weight > 0] / weight[weight > 0]))


def _filled(weight: np.ndarray, most: np.ndarray, budget: float) -> np.ndarray:
    """Like water: all parts rise in proportion to their weights; who is full stays, the others go on."""
    rising = sorted(np.flatnonzero(weight), key=lambda k: most[k] / weight[k])
    taken, left = np.zeros_like(weight), budget
    for place, k in enumerate(rising):
        share = left * weight[k] / math.fsum(weight[rising[place:]])
        taken[k] = min(share, most[k])
        left -= taken[k]
    return taken


class Copies(Annotation):
    """How many times each document is taken: the whole part of its rate, and one more by its hash."""

    name = "mix.copies"
    reads: ClassVar[tuple[str, ...]] = ("id",)  # and the columns that the parts name
    writes: ClassVar[dict[str, pa.DataType]] = {COPIES: pa.uint32()}

    parts: tuple[Part, ...]
    rates: tuple[float, ...]  # of each part: `epochs` of its Share
    seed: int

    def __call__(self, table: pa.Table) -> pa.Table:
        part = _part_of(self.parts, table)
        rates = np.array([*self.rates, 0.0])[part]
        copies = np.floor(rates + shares(id_bytes(table), self.seed, self.name)).astype(np.uint32)
        return table.append_column(pa.field(COPIES, pa.uint32(), nullable=False), pa.array(copies))


def copies(mix: Mix, solved: Sequence[Share]) -> Copies:
    """The stage that takes what was solved."""
    rates = tuple(share.epochs for share in solved[: len(mix.parts)])
    return Copies(parts=mix.parts, rates=rates, seed=mix.seed)


def _part_of(parts: tuple[Part, ...], table: pa.Table) -> np.ndarray:
    found = np.full(len(table), NOWHERE, np.int32)
    for place, part in reversed(list(enumerate(parts))):
        found[fits(part.where, table, f"mix: part {part.name!r}")] = place
    return found


class Mixing(Mix, Survey):
    """Counts what each part has, solves the weights, and takes: a mix as a stage of a run."""

    name = "mix"

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(sorted({self.size, *(name for part in self.parts for name in part.where)}))

    def rounds(self) -> tuple[Round, ...]:
        return (Round("parts", self.emit, self.reduce),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        documents, tokens = self.count(table).T
        return pa.Table.from_arrays(
            [np.zeros_like(tokens, np.uint64), np.arange(len(tokens)), documents, tokens], schema=_HAD
        )

    def reduce(self, rows: pa.Table) -> pa.Table:
        sums = rows.group_by(["key", "part"], use_threads=False).aggregate(
            [("documents", "sum"), ("tokens", "sum")]
        )
        return sums.rename_columns(_HAD.names).sort_by("part").cast(_HAD)

    def learned(self, facts: pa.Table) -> Copies:
        return copies(self, self.solved(facts))

    def solved(self, facts: pa.Table) -> tuple[Share, ...]:
        """The table of what each part gives, from what its round found."""
        facts = facts.sort_by("part")
        return weights(self, np.stack([facts["documents"].to_numpy(), facts["tokens"].to_numpy()], axis=1))


_HAD = pa.schema(
    [("key", pa.uint64()), ("part", pa.int64()), ("documents", pa.int64()), ("tokens", pa.int64())]
)
