"""A source whose documents have languages, hosts and licences, hostile ones among them."""

import pyarrow as pa
from toy_stages import Made

from puna.data.document import SCHEMA, documents

HOSTILE = '<script>alert("x")</script>'
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

    def tables(self, piece):
        number = int(piece.rpartition("-")[2])
        for start in range(0, self.rows, self.batch):
            rows = range(start, min(start + self.batch, self.rows))
            yield documents([self.row(number, row) for row in rows], KNOWN)
