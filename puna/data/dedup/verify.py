"""Is this really a copy of that? Two documents that met by chance of their hashes are compared in full.

First the signatures, because that is cheap; then the true sets of word runs: the document goes if what it
says stands in the kept one (containment), or if the two are alike as wholes (Jaccard index); and never if
more than a few sentences would be lost with it, however long it is, or if it is about something else.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.dedup.minhash import MinHash, signatures
from puna.data.dedup.subject import Subject, another
from puna.data.document import text_buffers
from puna.kernels.alike import sets, shared
from puna.kernels.words import Runs, runs, words
from puna.settings import Settings

_AT_ONCE = 1 << 22  # bytes of documents that are compared together: bounds the memory of their words


class Rules(Settings):
    """When a candidate is a copy: signatures agree, and it is contained or alike."""

    agreement: float = Field(0.75, ge=0, le=1)  # share of equal hashes; estimates the Jaccard index
    contained: float = Field(0.95, ge=0, le=1)  # share of its own runs that the kept document has too
    alike: float = Field(0.90, ge=0, le=1)  # or: Jaccard index of the runs that signatures are made of
    lost: int = Field(64, ge=0)  # of its own runs that go with it, at most: 5% of a book is a chapter
    words: int = Field(3, ge=1)  # in a run that is to be contained
    subject: Subject = Subject()


def verified(pairs: pa.Table, table: pa.Table, heads: pa.Table, minhash: MinHash, rules: Rules) -> pa.Table:
    """The pairs of a member in `table` and one of `heads` that hold, with the score that they hold by."""
    pairs = pairs.sort_by([("head", "ascending"), ("member", "ascending")])
    mine, member = _texts(table, pairs["member"])
    theirs, head = _texts(heads, pairs["head"])
    signed = signatures(*text_buffers(mine), minhash), signatures(*text_buffers(theirs), minhash)
    agree = np.flatnonzero(_agreement(*signed, member, head) >= rules.agreement)
    both = pa.table({"text": pa.chunked_array([*mine["text"].chunks, *theirs["text"].chunks])})
    left, right = member[agree], len(mine) + head[agree]
    scores = np.zeros(len(pairs), np.float32)
    for part in _parts(pc.binary_length(both["text"]).to_numpy(), left, right):
        scores[agree[part]] = _scores(both, left[part], right[part], (rules, minhash))
    held = np.flatnonzero(scores)
    scores[held[another(mine, theirs, member[held], head[held], rules.subject)]] = 0
    return pairs.append_column("score", pa.array(scores)).filter(pa.array(scores > 0))


def _parts(sizes: np.ndarray, left: np.ndarray, right: np.ndarray) -> Iterator[slice]:
    """The pairs in order, as many together as have some MB of text, a neighbour's document counted once."""
    new = sizes[left] + sizes[right] * np.append(True, right[1:] != right[:-1])[: len(right)]
    part = np.cumsum(new) // _AT_ONCE
    cuts = np.flatnonzero(np.append(True, part[1:] != part[:-1])[: len(part)])
    return (slice(a, b) for a, b in pairwise([*cuts.tolist(), len(part)]))


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


def _scores(
    texts: pa.Table, left: np.ndarray, right: np.ndarray, settings: tuple[Rules, MinHash]
) -> np.ndarray:
    """(pairs,) the larger of containment and Jaccard index if either is enough, else 0."""
    rules, minhash = settings
    rows, places = np.unique(np.concatenate((left, right)), return_inverse=True)
    member, kept = np.split(places, 2)
    found = words(*text_buffers(texts.take(pa.array(rows))))
    mine, _, said = _common(runs(found.hashes, found.first, rules.words), member, kept)
    contained = said / np.maximum(mine, 1)
    mine_long, theirs, both = _common(runs(found.hashes, found.first, minhash.words), member, kept)
    alike = both / np.maximum(mine_long + theirs - both, 1)
    holds = (mine - said <= rules.lost) & ((contained >= rules.contained) | (alike >= rules.alike))
    return np.where(holds, np.maximum(contained, alike), 0)


def _common(found: Runs, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pairs,) how many different runs the left one has, the right one, and both."""
    hashes, offsets = sets(found.hashes, found.offsets)
    sizes = np.diff(offsets)
    return sizes[left], sizes[right], shared(hashes, offsets, left, right)
