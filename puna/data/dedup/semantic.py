"""Documents that mean the same in other words: embeddings of any encoder, clustered, compared by cosine.

A sample of the whole gives the centres (k-means on the unit sphere); each document goes to its nearest one;
within a cluster a document goes if a better one that stays lies closer than `alike` [SemDeDup, 2023].
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.dedup.order import begins, best_first, decisions, draws, id_key, mix, standing
from puna.data.rounds import DECISIONS, Removal, Round
from puna.data.stage import KEEP
from puna.errors import DataError, need

_BLOCK = 1024  # documents compared at once


class SameMeaning(Removal):
    """Drops documents whose embedding is nearly that of a better one."""

    name = "dedup.semantic"
    reasons = ("dedup.semantic.copy",)
    alike: float = Field(0.95, gt=0, le=1)  # cosine; Llama 3 publishes no value
    clusters: int = Field(1000, ge=1)
    sample: int = Field(100_000, ge=1)  # documents that the centres are learned from, at most
    one_in: int = Field(1, ge=1)  # documents is drawn for the sample: documents of the run / `sample`
    steps: int = Field(10, ge=1)  # of k-means
    largest: int = Field(50_000, ge=1)  # documents of a cluster that are compared: the best of them
    priority: str = ""  # a column; the highest value stays
    seed: int = 1

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("id", "date", "text", "embedding", *filter(None, (self.priority,)))

    def rounds(self) -> tuple[Round, ...]:
        return (
            Round("centres", self.draw, self.learn),
            Round("clusters", self.assign, self.compare, side="centres"),
        )

    def draw(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """The documents that fall into the sample, and an empty row that says: this shard exists."""
        lots = mix(id_key(table["id"]) ^ draws(self.seed, 1))
        drawn = np.flatnonzero(lots % np.uint64(self.one_in) == 0)
        drawn = drawn[np.argsort(lots[drawn], kind="stable")[: self.sample]]
        vectors = pa.concat_arrays([_column(_vectors(table)[drawn]), pa.array([[]], pa.list_(pa.float32()))])
        columns = {
            "key": np.zeros(len(vectors), np.uint64),
            "shard": np.full(len(vectors), shard, np.uint32),
            "lot": np.append(lots[drawn], np.uint64(2**64 - 1)),
            "drawn": np.arange(len(vectors)) < len(drawn),
        }
        return pa.table(columns).append_column("embedding", vectors)

    def learn(self, rows: pa.Table) -> pa.Table:
        """The centres, once for each shard."""
        order = [("lot", "ascending"), ("shard", "ascending")]
        drawn = rows.filter(rows["drawn"]).sort_by(order).slice(0, self.sample)
        centres = kmeans(_vectors(drawn), self.clusters, self.steps)
        shards = rows.filter(pc.invert(rows["drawn"]))["shard"].to_numpy()
        places = np.tile(np.arange(len(centres)), len(shards))
        return pa.table({"shard": np.repeat(shards, len(centres)), "embedding": _column(centres[places])})

    def assign(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """Each document under its nearest centre; all under one where the sample was empty."""
        vectors, cluster = _vectors(table), np.zeros(len(table), np.uint64)
        if side is not None and len(side):
            cluster = _nearest(vectors, _vectors(side)).astype(np.uint64)
        columns = {"key": mix(cluster), **standing(table, shard, self.priority)}
        return pa.table({**columns, "embedding": _column(vectors)})

    def compare(self, rows: pa.Table) -> pa.Table:
        rows = best_first(rows, "key")
        cuts = np.append(np.flatnonzero(begins(rows, "key")), len(rows))
        clusters = (rows.slice(a, min(b - a, self.largest)) for a, b in pairwise(cuts))
        return pa.concat_tables([DECISIONS.empty_table(), *map(self._within, clusters)])

    def _within(self, rows: pa.Table) -> pa.Table:
        """DECISIONS of one cluster: each document, from the best on, against those that stay so far."""
        vectors = _vectors(rows)
        head, score = np.arange(len(rows)), np.ones(len(rows), np.float32)
        staying = np.zeros(0, np.int64)
        for start in range(0, len(rows), _BLOCK):
            block = np.arange(start, min(start + _BLOCK, len(rows)))
            for other in np.split(staying, range(_BLOCK, len(staying), _BLOCK)):
                _lean(vectors, block, other, head, score, self.alike)
            open_ones = block[head[block] == block]
            for place, row in enumerate(open_ones):
                if head[row] == row:
                    _lean(vectors, open_ones[place + 1 :], np.array([row]), head, score, self.alike)
            staying = np.append(staying, block[head[block] == block])
        return _told(rows, head, score)


def _lean(vectors, rows, others, head, score, alike) -> None:
    """Let each of the rows that still stands go for the nearest of `others`, if that is near enough."""
    rows = rows[head[rows] == rows]
    if not len(rows) or not len(others):
        return
    cosines = vectors[rows] @ vectors[others].T  # (N, M)
    best = cosines.argmax(axis=1)
    value = cosines[np.arange(len(rows)), best]
    near = value >= alike
    head[rows[near]], score[rows[near]] = others[best[near]], value[near]


def _told(rows: pa.Table, head: np.ndarray, score: np.ndarray) -> pa.Table:
    sizes = np.bincount(head, minlength=len(head))
    gone = head != np.arange(len(head))
    told = gone | (sizes > 1)
    siblings = rows["id"].take(pa.array(head))
    values = np.where(gone, score, sizes)
    return decisions(rows["shard"], rows["id"], np.where(gone, 0, KEEP), values, siblings).filter(
        pa.array(told)
    )


def kmeans(vectors: np.ndarray, count: int, steps: int) -> np.ndarray:
    """(count, D) float32: centres of unit vectors (N, D); the first `count` vectors are the first centres."""
    centres = vectors[:count].copy()
    for _ in range(steps):
        cluster = _nearest(vectors, centres)
        sums = np.zeros(centres.shape, np.float64)
        np.add.at(sums, cluster, vectors)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-30), centres).astype(np.float32)
    return centres


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    parts = [vectors[i : i + _BLOCK] @ centres.T for i in range(0, len(vectors), _BLOCK)]
    return np.concatenate([np.zeros(0, np.int64), *(part.argmax(axis=1) for part in parts)])


def _vectors(table: pa.Table) -> np.ndarray:
    """(rows, D) float32 of length 1 from the column `embedding`."""
    column = table["embedding"].combine_chunks()
    flat = column.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    size = len(flat) // max(len(column), 1)
    need(size * len(column) == len(flat), "column 'embedding': lists of different sizes", error=DataError)
    vectors = flat.reshape(len(column), size)  # (N, D)
    need(np.isfinite(vectors).all(), "column 'embedding': a number is not finite", error=DataError)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def _column(vectors: np.ndarray) -> pa.Array:
    ends = pa.array(np.arange(len(vectors) + 1) * vectors.shape[1], pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(vectors.ravel().astype(np.float32)))
