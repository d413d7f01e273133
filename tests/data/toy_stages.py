"""Small documents with planted duplicates, and stages whose answers can be checked by counting."""

import hashlib
import os
import random
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa

from puna.data.document import SCHEMA, documents, make_id
from puna.data.recipe import Recipe
from puna.data.rounds import DECISIONS, Edit, Removal, Round
from puna.data.stage import KEEP, Annotation, Gate, Verdict
from puna.settings import Settings

WORDS = [f"word{n}" for n in range(500)]


class Made(Settings):
    """Pieces of generated documents; some texts come again in other pieces, `bad` ones hold a marked word."""

    name: str = "made"
    pieces: int = 4
    rows: int = 60
    batch: int = 16
    words: int = 30
    bad: dict[str, str] = {}  # "piece:row" -> a word put into that document
    broken: tuple[str, ...] = ()  # pieces that cannot be read

    def inputs(self) -> tuple[str, ...]:
        return tuple(f"piece-{n}" for n in range(self.pieces))

    def row(self, piece: int, row: int) -> dict:
        rng = random.Random(f"{piece} {row}")
        text = " ".join(rng.choices(WORDS, k=rng.randrange(3, self.words)))
        if row % 5 == 0:  # the same text in every piece
            text = "planted " + " ".join(random.Random(row).choices(WORDS, k=20))
        text += " " + self.bad.get(f"{piece}:{row}", "")
        url = f"http://x.org/{piece}/{row}"
        return {
            "id": make_id(self.name, url),
            "source": self.name,
            "url": url,
            "date": "2026",
            "text": text.strip(),
        }

    def tables(self, piece: str) -> Iterator[pa.Table]:
        number = int(piece.rpartition("-")[2])
        if piece in self.broken:
            raise ValueError("the bytes make no sense")
        rows = [self.row(number, row) for row in range(self.rows)]
        for start in range(0, self.rows, self.batch):
            yield documents(rows[start : start + self.batch])


class Count(Annotation):
    name: ClassVar[str] = "toy.count"
    writes: ClassVar[dict[str, pa.DataType]] = {"t.words": pa.int32()}
    offset: int = 0

    def __call__(self, table):
        words = [len(text.split()) + self.offset for text in table["text"].to_pylist()]
        return table.append_column("t.words", pa.array(words, pa.int32()))


class Short(Gate):
    name: ClassVar[str] = "toy.short"
    reads: ClassVar[tuple[str, ...]] = ("t.words",)
    reasons: ClassVar[tuple[str, ...]] = ("toy.short.few_words",)
    few: int = 8

    def __call__(self, table):
        words = table["t.words"].to_numpy()
        return Verdict(np.where(words < self.few, 0, KEEP).astype(np.int16), words.astype(np.float32))


class Fragile(Gate):
    """Raises, or kills its process, where a text holds a marked word."""

    name: ClassVar[str] = "toy.fragile"
    reasons: ClassVar[tuple[str, ...]] = ("toy.fragile.never",)

    def __call__(self, table):
        for text in table["text"].to_pylist():
            if "RAISE" in text:
                raise ValueError("this text is unheard of")
            if "KILL" in text:
                os._exit(77)
        return Verdict(np.full(len(table), KEEP, np.int16), np.zeros(len(table), np.float32))


def text_key(texts: pa.ChunkedArray) -> pa.Array:
    keys = [
        int.from_bytes(hashlib.blake2b(t.encode(), digest_size=8).digest(), "big") for t in texts.to_pylist()
    ]
    return pa.array(keys, pa.uint64())


class SameText(Removal):
    """Of documents with one text the one with the smallest id stays."""

    name: ClassVar[str] = "toy.same"
    reasons: ClassVar[tuple[str, ...]] = ("toy.same.text",)

    def rounds(self):
        return (Round("texts", self.emit, self.reduce),)

    def emit(self, table, shard, side):
        shards = pa.array(np.full(len(table), shard, np.uint32))
        return pa.table({"key": text_key(table["text"]), "shard": shards, "id": table["id"]})

    def reduce(self, rows):
        out = []
        groups: dict[int, list] = {}
        for row in rows.to_pylist():
            groups.setdefault(row["key"], []).append(row)
        for group in groups.values():
            best = min(row["id"] for row in group)
            for row in group:
                code = KEEP if row["id"] == best else 0
                out.append(
                    {
                        "shard": row["shard"],
                        "id": row["id"],
                        "code": code,
                        "value": len(group),
                        "sibling": best,
                    }
                )
        return pa.Table.from_pylist(out, schema=DECISIONS)


class Verified(Removal):
    """Two rounds: candidates share their first word; then the texts of candidates are compared at their shard.

    Round `meet` tells each shard which of its documents have an earlier one with the same first word; round
    `check` sends those documents' texts to the earlier one's place; only equal texts go.
    """

    name: ClassVar[str] = "toy.verified"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    reasons: ClassVar[tuple[str, ...]] = ("toy.verified.same_words",)

    def rounds(self):
        return (
            Round("meet", self.first_word, self.candidates),
            Round("check", self.texts, self.compare, side="meet"),
            Round("again", self.pass_on, self.settle, reads="check"),
        )

    def first_word(self, table, shard, side):
        first = pa.chunked_array([[text.split(" ", 1)[0] for text in table["text"].to_pylist()]], pa.string())
        shards = pa.array(np.full(len(table), shard, np.uint32))
        return pa.table({"key": text_key(first), "shard": shards, "id": table["id"]})

    def candidates(self, rows):
        keys, counts = np.unique(rows["key"].to_numpy(), return_counts=True)
        many = set(keys[counts > 1].tolist())
        return rows.filter(pa.array([key in many for key in rows["key"].to_pylist()], pa.bool_()))

    def texts(self, table, shard, side):
        assert set(side["shard"].to_pylist()) <= {shard}
        asked = set(side["id"].to_pylist())
        table = table.filter(pa.array([name in asked for name in table["id"].to_pylist()], pa.bool_()))
        shards = pa.array(np.full(len(table), shard, np.uint32))
        words = pa.chunked_array(
            [[" ".join(sorted(t.split())) for t in table["text"].to_pylist()]], pa.string()
        )
        return pa.table({"key": text_key(words), "shard": shards, "id": table["id"], "words": words})

    def compare(self, rows):
        return rows

    def pass_on(self, table, shard, side):
        assert side is None
        return table

    def settle(self, rows):
        return SameText().reduce(rows.select(["key", "shard", "id"]))


class CutShared(Edit):
    """Takes the first word out of documents that share it with many."""

    name: ClassVar[str] = "toy.cut"
    many: int = 4

    def rounds(self):
        return (Round("words", self.emit, self.reduce),)

    def emit(self, table, shard, side):
        words = pa.chunked_array([[text.split(" ", 1)[0] for text in table["text"].to_pylist()]], pa.string())
        shards = pa.array(np.full(len(table), shard, np.uint32))
        return pa.table({"key": text_key(words), "shard": shards, "word": words})

    def reduce(self, rows):
        keys, counts = np.unique(rows["key"].to_numpy(), return_counts=True)
        return rows.filter(pa.array(np.isin(rows["key"].to_numpy(), keys[counts >= self.many])))

    def apply(self, table, side):
        shared = set(side["word"].to_pylist())
        parts = [text.split(" ", 1) for text in table["text"].to_pylist()]
        texts = [rest[-1] if word in shared else " ".join([word, *rest]) for word, *rest in parts]
        return table.set_column(
            table.column_names.index("text"), SCHEMA.field("text"), pa.array(texts, pa.large_string())
        )


def recipe(**changed) -> Recipe:
    """Annotate, gate, remove equal texts, gate, remove in rounds: every kind of step, in small files."""
    stages = (Count(), Short(), SameText(), Fragile(), Verified())
    facts = {"sources": (Made(),), "stages": stages, "shard_bytes": 12_000, "group_bytes": 2_500}
    return Recipe(**(facts | {"partitions": 4, "sample": 0.5} | changed))


def survivors(source: Made, few: int = 8) -> set[str]:
    """The addresses that the recipe must keep, by definition: long enough, and the smallest id of each text."""
    best: dict[str, tuple[bytes, str]] = {}
    for piece in range(source.pieces):
        for row in range(source.rows):
            found = source.row(piece, row)
            if len(found["text"].split()) >= few:
                words = " ".join(sorted(found["text"].split()))
                best[words] = min(best.get(words, (b"\xff" * 17, "")), (found["id"], found["url"]))
    return {url for _, url in best.values()}
