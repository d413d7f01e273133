"""Is this really a copy of that? Two documents that met by chance of their hashes are compared in full.

First the signatures, because that is cheap; then the true sets of word runs: the document goes if what it
says stands in the kept one (containment), or if the two are alike as wholes (Jaccard index); and never if
more than a few sentences would be lost with it, however long it is, or if it is about something else.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.dedup.minhash import MinHash, signatures
from puna.data.dedup.shingles import blocks, runs, span_hashes, words
from puna.data.dedup.subject import Subject, another
from puna.data.document import text_buffers
from puna.settings import Settings

_HELD = 1 << 23  # hashes of documents kept at hand while pairs are compared
_AT_ONCE = 1 << 18  # bytes of documents whose hashes are made together


class Rules(Settings):
    """When a candidate is a copy: signatures agree, and it is contained or alike."""

    agreement: float = Field(0.75, ge=0, le=1)  # share of equal hashes; estimates the Jaccard index
    contained: float = Field(0.95, ge=0, le=1)  # share of its own runs that the kept document has too
    alike: float = Field(0.90, ge=0, le=1)  # or: Jaccard index of the runs that signatures are made of
    lost: int = Field(64, ge=0)  # of its own runs that go with it, at most: 5% of a book is a chapter
    words: int = Field(3, ge=1)  # in a run that is to be contained
    subject: Subject = Subject()


class _Sets:
    """The sorted sets of word runs of texts by row. Rows are asked for more or less in order: neighbours are
    made together, and all are forgotten when they are many."""

    def __init__(self, texts: pa.Table, sizes: tuple[int, int]):
        self.data, self.offsets = text_buffers(texts)
        self.sizes, self.held = sizes, 0
        self.made: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        if row not in self.made:
            if self.held > _HELD:
                self.made, self.held = {}, 0
            self._make(row)
        return self.made[row]

    def _make(self, first: int) -> None:
        _, text, places = next(blocks(self.data, self.offsets[first:], _AT_ONCE))
        starts, ends, rows = words(text, places)
        hashes = span_hashes(text, starts, ends)
        short, long = (_by_row(*runs(hashes, rows, size), rows, len(places) - 1) for size in self.sizes)
        self.made.update(enumerate(zip(short, long, strict=True), first))
        self.held += 2 * len(hashes)


def _by_row(hashes: np.ndarray, at: np.ndarray, rows: np.ndarray, count: int) -> list[np.ndarray]:
    """The sorted set of hashes of each of `count` rows."""
    order = np.lexsort((hashes, rows[at]))
    hashes, owner = hashes[order], rows[at][order]
    new = np.append(True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1]))[: len(hashes)]
    return np.split(hashes[new], np.searchsorted(owner[new], np.arange(1, count)))


def verified(pairs: pa.Table, table: pa.Table, heads: pa.Table, minhash: MinHash, rules: Rules) -> pa.Table:
    """The pairs of a member in `table` and one of `heads` that hold, with the score that they hold by."""
    pairs = pairs.sort_by([("head", "ascending"), ("member", "ascending")])
    mine, member = _texts(table, pairs["member"])
    theirs, head = _texts(heads, pairs["head"])
    signed = signatures(*text_buffers(mine), minhash), signatures(*text_buffers(theirs), minhash)
    sizes = rules.words, minhash.words
    ours, kept = _Sets(mine, sizes), _Sets(theirs, sizes)
    scores = np.zeros(len(pairs), np.float32)
    for row in np.flatnonzero(_agreement(*signed, member, head) >= rules.agreement):
        scores[row] = _score(ours[member[row]], kept[head[row]], rules)
    held = np.flatnonzero(scores)
    scores[held[another(mine, theirs, member[held], head[held], rules.subject)]] = 0
    return pairs.append_column("score", pa.array(scores)).filter(pa.array(scores > 0))


def _agreement(mine: np.ndarray, theirs: np.ndarray, member: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(pairs,) the share of equal hashes of each pair."""
    parts = [slice(at, at + 4096) for at in range(0, len(member), 4096)]
    return np.concatenate([np.zeros(0), *((mine[member[p]] == theirs[head[p]]).mean(axis=1) for p in parts)])


def _texts(table: pa.Table, ids: pa.ChunkedArray) -> tuple[pa.Table, np.ndarray]:
    """(the rows of `table` that `ids` name, each once; for each of `ids` the row among these)."""
    wanted = pc.unique(ids)
    rows = pc.index_in(wanted, value_set=table["id"].combine_chunks())
    assert rows.null_count == 0, "a pair names a document that is not here"
    return table.select(["id", "text"]).take(rows), pc.index_in(ids, value_set=wanted).to_numpy()


def _score(member: tuple[np.ndarray, np.ndarray], kept: tuple[np.ndarray, np.ndarray], rules: Rules) -> float:
    """The larger of containment and Jaccard index if either is enough, else 0."""
    said = _common(member[0], kept[0])
    if len(member[0]) - said > rules.lost:
        return 0.0
    contained = said / max(len(member[0]), 1)
    both = _common(member[1], kept[1])
    alike = both / max(len(member[1]) + len(kept[1]) - both, 1)
    return max(contained, alike) if contained >= rules.contained or alike >= rules.alike else 0.0


def _common(a: np.ndarray, b: np.ndarray) -> int:
    return len(np.intersect1d(a, b, assume_unique=True))
