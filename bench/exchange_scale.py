"""The near copies of a crawl without its texts: a billion band keys through the real exchange and grouping.

    python -m bench.exchange_scale [--keys 1_000_000_000] [--workers 2] [--out FOLDER] > a line of JSON

Each piece stands for a shard of 128 MB of text and emits what NearCopies emits for it: a row for each
document and band. What follows is the engine's own: exchange through files, meeting, pairs made one,
settling, choosing, counting, decisions on their way to their shards, receipts and hashes. Copies are planted,
and a template that one document in 500 has a band of; every decision is checked.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from bench.machine import facts
from puna.data.dedup.near import NearCopies
from puna.data.dedup.order import draws, halves, mix
from puna.data.dedup.settle import settle, start
from puna.data.document import documents, make_id
from puna.data.exchange import read_all
from puna.data.pipeline import receipts_of, run
from puna.data.recipe import Recipe
from puna.data.rounds import Round
from puna.data.runners import Pool
from puna.data.stage import KEEP
from puna.data.store import Store
from puna.log import listening
from puna.settings import Settings

TEXT = 4096  # bytes of a document, that nobody ever writes
SHARD = (128 << 20) // TEXT  # documents
PARTITION = 512 << 20  # bytes of text for each partition of the exchange
AGREED = 6  # bands, of 14, that a copy has in common with its original
TEMPLATE = 500  # one document of so many has the template's band
ODD = 0x9E3779B97F4A7C15
BACK = np.uint64(pow(ODD, -1, 2**64))


class World(Settings):
    """Documents by number: which are copies, of what, and how long."""

    shards: int
    rows: int  # documents of a shard: document n is in shard n % shards
    copies: float  # share of all documents

    @property
    def originals(self) -> int:
        return self.shards * self.rows - int(self.shards * self.rows * self.copies)

    def original(self, numbers: np.ndarray) -> np.ndarray:
        """(N,) uint64: what a document is a copy of, or itself."""
        first = np.uint64(self.originals)
        return np.where(numbers < first, numbers, mix(numbers ^ np.uint64(ODD)) % first)

    def keys(self, numbers: np.ndarray, bands: int) -> np.ndarray:
        """(N, bands) uint64: equal where two documents agree in a band."""
        band = np.arange(bands, dtype=np.uint64)
        turned = (band + (mix(numbers) % np.uint64(bands))[:, None]) % np.uint64(bands)
        agreed = turned < AGREED
        owner = np.where(agreed, self.original(numbers)[:, None], numbers[:, None])
        keys = mix(owner * np.uint64(bands) + band)
        keys[numbers % np.uint64(TEMPLATE) == 0, -1] = 1
        return keys

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """An original is longer than any copy: it is what stays."""
        drawn = (mix(~numbers) % np.uint64(4000)).astype(np.int64)
        return drawn + np.where(numbers < self.originals, 4000, 0)


def names(numbers: np.ndarray) -> pa.Array:
    """Ids of 16 bytes from which the numbers can be told again."""
    both = np.stack([numbers * np.uint64(ODD), mix(numbers)], axis=1).astype(">u8")  # (N, 2)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(numbers), [None, pa.py_buffer(both)])


def numbers(ids: pa.ChunkedArray) -> np.ndarray:
    return halves(ids)[:, 0] * BACK


class Pieces(Settings):
    """One tiny document for each shard."""

    name: str = "pieces"
    shards: int

    def inputs(self) -> tuple[str, ...]:
        return tuple(f"shard {number}" for number in range(self.shards))

    def tables(self, piece: str) -> Iterator[pa.Table]:
        row = {"id": make_id(self.name, piece), "source": self.name, "url": piece, "date": "", "text": piece}
        yield documents([row])


class PlantedCopies(NearCopies):
    """NearCopies whose signatures are made up, and whose verification knows the answer."""

    world: World
    settle_rounds: int = Field(3, ge=2)  # copies here have copies, but not of their own

    def rounds(self) -> tuple[Round, ...]:
        bands, pairs, _, _, *chain = super().rounds()
        told = Round("settle.1", self.judged, settle, reads="pairs")
        return Round("bands", self.made, bands.reduce), pairs, told, *chain

    def made(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """The rows of a shard of 128 MB."""
        world, bands = self.world, self.minhash.bands
        held = np.arange(world.rows, dtype=np.uint64) * np.uint64(world.shards) + np.uint64(shard)
        each = np.repeat(np.arange(world.rows), bands)
        moments = draws(shard, world.rows) % np.uint64(3_000_000)
        columns = {
            "shard": np.full(len(each), shard, np.uint32),
            "id": names(held).take(pa.array(each)),
            "priority": np.zeros(len(each)),
            "length": world.lengths(held)[each],
            "date": (20261100000000 + moments.astype(np.int64))[each],
        }
        return pa.table({"key": world.keys(held, bands).ravel(), **columns})

    def judged(self, pairs: pa.Table, partition: int, side: pa.Table | None = None) -> pa.Table:
        """The pairs that are copies in truth; those that met by the template alone are none."""
        member, head = (self.world.original(numbers(pairs[name])) for name in ("member", "head"))
        pairs = pairs.filter(pa.array(member == head)).drop_columns(["shard"])
        return start(pairs.append_column("score", pa.array(np.ones(len(pairs), np.float32))))


def checked(out: Path, world: World) -> dict[str, int]:
    """Every decision compared with what was planted; AssertionError if one is wrong, missing or doubled."""
    store, step = Store.at(out), next(name for name in receipts_of(out) if name.endswith("near.count"))
    total = world.shards * world.rows
    gone, sizes = np.zeros(total, bool), np.zeros(world.originals, np.int32)
    for receipt in receipts_of(out)[step]:
        rows = read_all(store, receipt.outputs[0].name)
        number, sibling = numbers(rows["id"]), numbers(rows["sibling"])
        assert (number % np.uint64(world.shards) == rows["shard"].to_numpy()).all(), "at the wrong shard"
        kept = rows["code"].to_numpy() == KEEP
        assert not gone[number[~kept]].any() and len(np.unique(number)) == len(number), "decided twice"
        assert (sibling == world.original(number)).all(), "not for its original"
        gone[number[~kept]] = True
        sizes[number[kept]] = rows["value"].to_numpy()[kept]
    assert gone[world.originals :].all() and not gone[: world.originals].any(), "others went than copies"
    copies = np.zeros(world.originals, np.int32)
    for first in range(world.originals, total, 1 << 20):
        each = np.arange(first, min(first + (1 << 20), total), dtype=np.uint64)
        np.add.at(copies, world.original(each), 1)
    assert (sizes == np.where(copies > 0, copies + 1, 0)).all(), "clusters of another size"
    return {"removed": int(gone.sum()), "clusters": int((copies > 0).sum()), "largest": int(sizes.max())}


class Progress:
    """A line for each step on stderr, and what each one took."""

    def __init__(self) -> None:
        self.begun, self.steps, self.last = time.monotonic(), {}, ""
        self.steps: dict[str, float]

    def __call__(self, record: dict[str, Any]) -> None:
        if record["event"] != "task":
            return
        step, now = record["step"], time.monotonic()
        if step != self.last:
            self.since, self.last = now, step
        self.steps[step] = round(now - self.since, 1)
        end = "\n" if record["done"] == record["of"] else "\r"
        said = f"{now - self.begun:7.0f} s  {step:<36} {record['done']:>6,} of {record['of']:,}"
        print(said, end=end, file=sys.stderr, flush=True)


def measure(out: Path, world: World, partitions: int, workers: int) -> dict[str, object]:
    stage = PlantedCopies(world=world)
    recipe = Recipe(sources=(Pieces(shards=world.shards),), stages=(stage,), partitions=partitions)
    begun, progress = time.monotonic(), Progress()
    with listening(progress):
        run(recipe, out, Pool(workers))
    minutes = (time.monotonic() - begun) / 60
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    receipts = [receipt for held in receipts_of(out).values() for receipt in held]
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return {
        "keys": world.shards * world.rows * stage.minhash.bands,
        "documents": world.shards * world.rows,
        "shards": world.shards,
        "partitions": partitions,
        "workers": workers,
        "minutes": round(minutes, 2),
        "cpu_minutes": round(sum(receipt.cpu_s for receipt in receipts) / 60, 2),
        "peak_mb_per_worker": max(receipt.rss_mb for receipt in receipts),
        "peak_mb_of_parent": own,
        "disk_bytes": sum(sizes),
        "files": len(sizes),
        "cpu_s_by_step": {
            step: round(sum(receipt.cpu_s for receipt in held), 1) for step, held in receipts_of(out).items()
        },
        **checked(out, world),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=20_000_000)
    parser.add_argument("--copies", type=float, default=0.06)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, help="else as many as 128 MB of text each make")
    parser.add_argument("--partitions", type=int, help="else one for each 512 MB of text")
    parser.add_argument("--out", type=Path, help="where the files go; else a folder that is deleted")
    chosen = parser.parse_args()
    count = -(-chosen.keys // 14)
    shards = chosen.shards or -(-count // SHARD)
    world = World(shards=shards, rows=-(-count // shards), copies=chosen.copies)
    partitions = chosen.partitions or 1 << (-(-count * TEXT // PARTITION) - 1).bit_length()
    with tempfile.TemporaryDirectory(dir=chosen.out) as folder:
        found = measure(Path(folder), world, partitions, chosen.workers)
    print(json.dumps({"bench": "exchange_scale"} | found | facts("numpy", "pyarrow", "zstandard")))


if __name__ == "__main__":
    main()
