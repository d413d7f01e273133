"""A run whose documents have languages, hosts and licences, hostile ones among them; and its tallies."""

import hashlib
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from toy_stages import Made

from puna.data.document import SCHEMA, documents
from puna.data.outline import read_run
from puna.data.pipeline import receipts_of
from puna.data.receipts import Output, write_receipt
from puna.data.store import Store

HOSTILE = '<script>alert("x")</script>'
COLUMNS = ("source", "lang", "domain", "licence", "optout")
TALLY = pa.schema(
    [(name, pa.string()) for name in ("stage", "reason", *COLUMNS)]
    + [(name, pa.int64()) for name in ("documents", "bytes", "tokens")]
)
KNOWN = pa.schema([*SCHEMA, *((name, pa.string()) for name in ("host", "lang", "licence", "optout"))])


class Known(Made):
    """Made documents of two languages, on hosts of very different size; every 31st holds markup everywhere."""

    def row(self, piece: int, row: int) -> dict:
        made = super().row(piece, row)
        host = "big.org" if row % 3 else f"host{row % 17}.org"
        facts = {"host": host, "lang": "en" if row % 4 else "fr", "licence": "CC0-1.0" if row % 2 else None}
        if row % 31 == 1:
            made |= {
                "url": f"http://{HOSTILE}/{piece}/{row}",
                "text": f"{HOSTILE} \x1b[31m\u202e {made['text']}",
            }
            facts |= {"host": f"{HOSTILE}.org", "licence": HOSTILE}
        return made | facts | {"optout": "noai,tdm" if row % 11 == 0 else None}

    def read(self, piece):
        number = int(piece.rpartition("-")[2])
        for start in range(0, self.rows, self.batch):
            rows = range(start, min(start + self.batch, self.rows))
            yield documents([self.row(number, row) for row in rows], KNOWN)


def tallied(out, source: Known) -> None:
    """Adds to a run the tallies that its map tasks would have written."""
    store = Store.at(out)
    rows = [row for piece in source.inputs() for table in source.read(piece) for row in table.to_pylist()]
    known = {row["id"]: row for row in rows}
    for step, receipts in receipts_of(out).items():
        for receipt in receipts:
            if any("/kept/" in output.name for output in receipt.outputs):
                name = f"{step}/tally/{receipt.task.rpartition('/')[2]}.parquet"
                table = _tally(store, receipt, known)
                with store.writing(name) as sink:
                    pq.write_table(table, sink)
                made = Output(name=name, sha256=sink.hash.hexdigest(), size=sink.size, rows=len(table))
                write_receipt(store, receipt.model_copy(update={"outputs": (*receipt.outputs, made)}))
    assert read_run(store)["steps"]


def _tally(store, receipt, known) -> pa.Table:
    counts: Counter = Counter()
    for output in receipt.outputs:
        for row in pq.read_table(store.path(output.name)).to_pylist():
            facts = known[row["id"]] | {"domain": known[row["id"]]["host"]}
            kept = "/kept/" in output.name
            text, tokens = (row["text"], row.get("tokens") or 0) if kept else (facts["text"], 0)
            key = "" if kept else row["stage"], "" if kept else row["reason"]
            key += tuple(facts[name] or "" for name in COLUMNS)
            counts[key, "documents"] += 1
            counts[key, "bytes"] += len(text.encode())
            counts[key, "tokens"] += tokens
    keys = sorted({key for key, _ in counts})
    rows = [
        dict(
            zip(TALLY.names, (*key, *(counts[key, n] for n in ("documents", "bytes", "tokens"))), strict=True)
        )
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=TALLY)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
