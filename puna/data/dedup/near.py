"""Near copies: found by MinHash-LSH; none goes that was not compared with the document kept for it.

bands    Documents that agree in a band meet. The best of them by the total order, up to `representatives`,
         are to stand for the others; of a very large group only the best one (a template, not a page).
pairs    The same pair met in several bands becomes one.
texts    The text of each representative goes to the shards that hold candidates for it.
settle   Each pair is verified there: signatures, then the true sets of word runs. What is left are edges from
         a document to a better one that says the same; settle.py finds who stays.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.dedup.earlier import Crawl, find
from puna.data.dedup.minhash import UNSIGNED, MinHash, band_keys, signatures
from puna.data.dedup.order import EARLIER, begins, best_first, binary16, crowded, id_key, standing
from puna.data.dedup.settle import choose, count, end_at_kept, end_at_member, settle, start
from puna.data.dedup.verify import Rules, verified
from puna.data.document import make_id, text_buffers
from puna.data.rounds import Round
from puna.errors import DataError, need

_PAIR = ["member", "member_shard", "head", "head_shard"]


class NearCopies(Crawl):
    """Drops documents that repeat, almost word for word, one that is kept."""

    name = "dedup.near"
    version = 3  # words are those of kernels.words; a copy is about the same thing
    keyed = ("minhash", "longest", "within")
    reasons = ("dedup.near.copy", "dedup.near.template")  # template: found in groups above `cap` only
    minhash: MinHash = MinHash()
    rules: Rules = Rules()
    cap: int = Field(10_000, ge=2)  # documents of one band; above, only the best one stands for them
    representatives: int = Field(4, ge=1)  # of a group that are compared with the others
    longest: int = Field(1_000_000, ge=1)  # characters of a text that are looked at
    priority: str = ""  # a column; the highest value stays
    within: str = ""  # a column such as lang: only documents of one value are compared
    settle_rounds: int = Field(6, ge=2)  # the longest chain of copies of copies that is followed to its end

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (
            "id",
            "date",
            "text",
            *filter(
                None,
                (
                    self.priority,
                    self.within,
                ),
            ),
        )

    def rounds(self) -> tuple[Round, ...]:
        chain = [Round("settle.1", self.verify, settle, side="texts")]
        for number in range(2, self.settle_rounds + 1):
            chain.append(Round(f"settle.{number}", start, settle, reads=f"settle.{number - 1}"))
        return (
            Round("bands", self.emit, self.meet),
            Round("pairs", _by_member, _distinct, reads="bands"),
            Round("texts", self.send, _as_sent, side="pairs"),
            *chain,
            Round("choose", end_at_member, choose, reads=chain[-1].name),
            Round("count", end_at_kept, count, reads="choose"),
        )

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """Every document that is long enough, once for each band."""
        signed, long_enough = self.signed(table)
        rows = np.flatnonzero(long_enough)
        keys = band_keys(signed[rows], self.minhash) ^ self._scope(table)[rows, None]
        each = np.repeat(rows, self.minhash.bands)
        columns = pa.table(standing(table, shard, self.priority)).take(pa.array(each))
        return columns.add_column(0, "key", pa.array(keys.ravel()))

    def signed(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(signature of each document, has it words enough for one?)."""
        made = signatures(*text_buffers(self.cut(table)), self.minhash)  # (N, H)
        return made, (made != UNSIGNED).any(axis=1)

    def cut(self, table: pa.Table) -> pa.Table:
        """The table with no text longer than is looked at."""
        longest = pc.max(pc.binary_length(table["text"])).as_py() or 0
        if longest <= self.longest:
            return table
        at = table.column_names.index("text")
        return table.set_column(at, "text", pc.utf8_slice_codeunits(table["text"], 0, self.longest))

    def _scope(self, table: pa.Table) -> np.ndarray:
        """(rows,) uint64: what keeps documents apart that are not to be compared."""
        if not self.within:
            return np.zeros(len(table), np.uint64)
        need(
            self.within in table.column_names, f"no column {self.within!r} to compare within", error=DataError
        )
        values = table[self.within].combine_chunks().dictionary_encode()
        named = [make_id("within", str(value)) for value in values.dictionary.to_pylist()]
        nothing = len(named)
        hashes = np.append(id_key(binary16(named)), np.uint64(1))
        return hashes[values.indices.fill_null(nothing).to_numpy()]

    def meet(self, rows: pa.Table) -> pa.Table:
        """Pairs of a document and a better one: the first few of a group stand for the rest."""
        rows = self.with_earlier(rows, "bands")
        rows = best_first(crowded(rows, "key"), "key")
        new = begins(rows, "key")
        group, firsts = np.cumsum(new) - 1, np.flatnonzero(new)
        place, hot = np.arange(len(rows)) - firsts[group], np.bincount(group, minlength=0)[group] > self.cap
        met = []
        for stand in range(self.representatives):
            below = np.flatnonzero((place > stand) & ~(hot & (stand > 0)))
            met.append(_pairs(rows, below, firsts[group[below]] + stand, hot[below]))
        return pa.concat_tables(met)

    def send(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """Pairs on their way to the member's shard; the first of each head and shard carries the text."""
        asked = (_NO_PAIRS if side is None else side).sort_by(
            [(n, "ascending") for n in ("head", "member_shard", "member")]
        )
        here = pc.and_(pc.equal(asked["head_shard"], shard), pa.array(begins(asked, "head", "member_shard")))
        at = pc.if_else(here, pc.index_in(asked["head"], value_set=table["id"].combine_chunks()), None)
        sent = asked.drop_columns(["shard"]).append_column("text", self.cut(table)["text"].take(at))
        return sent.append_column("shard", sent["member_shard"]).append_column(
            "key", pa.array(id_key(sent["head"]))
        )

    def verify(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """The pairs of this shard that are copies in truth, as edges at both of their ends."""
        pairs = _NO_PAIRS.append_column("text", pa.array([], pa.large_string())) if side is None else side
        old = np.unique(id_key(pairs.filter(pc.equal(pairs["head_shard"], EARLIER))["head"]))
        found = [find(folder, "texts", old, self.terms()) for folder in self.earlier]
        heads = [
            pairs.filter(pc.is_valid(pairs["text"])).select(["head", "text"]).rename_columns(["id", "text"])
        ]
        heads += [part.select(["id", "text"]) for part in found]
        pairs = pairs.drop_columns(["text", "shard"])
        return start(verified(pairs, self.cut(table), pa.concat_tables(heads), self.minhash, self.rules))


def _pairs(rows: pa.Table, members: np.ndarray, heads: np.ndarray, hot: np.ndarray) -> pa.Table:
    member, head = rows.take(pa.array(members)), rows.take(pa.array(heads))
    columns = [member["id"], member["shard"], head["id"], head["shard"], pa.array(hot)]
    pairs = pa.table(columns, names=[*_PAIR, "template"])
    told = pc.and_(pc.not_equal(pairs["member"], pairs["head"]), pc.not_equal(pairs["member_shard"], EARLIER))
    return pairs.filter(told)


_NO_PAIRS = pa.schema(
    [
        ("member", pa.binary(16)),
        ("member_shard", pa.uint32()),
        ("head", pa.binary(16)),
        ("head_shard", pa.uint32()),
        ("template", pa.bool_()),
        ("shard", pa.uint32()),
    ]
).empty_table()


def _by_member(pairs: pa.Table, partition: int, side: pa.Table | None = None) -> pa.Table:
    return pairs.append_column("key", pa.array(id_key(pairs["member"])))


def _distinct(pairs: pa.Table) -> pa.Table:
    """Each pair once; of a template if it was met in very large groups only. It goes to the head's shard."""
    once = pairs.group_by(_PAIR, use_threads=False).aggregate([("template", "min")])
    once = once.rename_columns([*_PAIR, "template"])
    goes_to = pc.if_else(pc.equal(once["head_shard"], EARLIER), once["member_shard"], once["head_shard"])
    return once.append_column("shard", goes_to)


def _as_sent(rows: pa.Table) -> pa.Table:
    return rows.drop_columns(["key"])
