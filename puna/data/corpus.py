"""Outliers among the documents of a run: their words are counted first, then each document is measured.

See filters/outliers.py for the measure, and for counts of another corpus in files.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.filters.outliers import BITS, counts_of, logarithms, with_divergence
from puna.data.rounds import Round, Survey


class CorpusDivergence(Survey):
    """Measures `q.kl` against the words of all documents of its language in this run."""

    name = "outliers.corpus"
    reads = ("text", "lang")

    languages: tuple[str, ...] = ()  # those that are measured; all, if none is named
    least_words: int = 50

    def rounds(self) -> tuple[Round, ...]:
        return (Round("words", self.emit, self.reduce),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """The counts of a shard: a row for each word's place, by language."""
        parts = [_WORDS.empty_table()]
        for lang in self._measured(table):
            counts = counts_of(table.filter(pc.equal(table["lang"], lang)))
            places = np.flatnonzero(counts)
            columns = [places.astype(np.uint64), pa.repeat(lang, len(places)), counts[places]]
            parts.append(pa.Table.from_arrays(columns, schema=_WORDS))
        return pa.concat_tables(parts)

    def reduce(self, rows: pa.Table) -> pa.Table:
        sums = rows.group_by(["key", "lang"], use_threads=False).aggregate([("count", "sum")])
        return (
            sums.rename_columns(_WORDS.names)
            .cast(_WORDS)
            .sort_by([("lang", "ascending"), ("key", "ascending")])
        )

    def learned(self, facts: pa.Table) -> Callable[[pa.Table], pa.Table]:
        languages = facts["lang"].unique().to_pylist()
        known = {lang: cache(partial(_learned, facts, lang)) for lang in languages}
        return partial(with_divergence, known=known, least_words=self.least_words)

    def _measured(self, table: pa.Table) -> list[str]:
        found = set(table["lang"].unique().to_pylist()) - {None}
        return sorted(found.intersection(self.languages or found))


def _learned(facts: pa.Table, lang: str) -> np.ndarray:
    mine = facts.filter(pc.equal(facts["lang"], lang))
    return logarithms(np.bincount(mine["key"].to_numpy(), mine["count"].to_numpy(), 1 << BITS))


_WORDS = pa.schema([("key", pa.uint64()), ("lang", pa.string()), ("count", pa.uint64())])
