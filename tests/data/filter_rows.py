"""Tables of documents for the tests of filters."""

import pyarrow as pa

from puna.data.document import documents, make_id


def of_texts(*texts, **columns):
    """A document for each text, with further columns as given."""
    rows = [
        {"id": make_id("t", str(i)), "source": "t", "url": "", "date": "", "text": t}
        for i, t in enumerate(texts)
    ]
    table = documents(rows)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values) if isinstance(values, list) else values)
    return table


def of_urls(*urls):
    table = of_texts(*[""] * len(urls))
    at = table.schema.get_field_index("url")
    return table.set_column(at, table.schema.field("url"), pa.array(urls, pa.string()))


def reasons(gate, table):
    """Why each row goes, or None."""
    return [None if code < 0 else gate.reasons[code] for code in gate(table).codes]


HOSTILE = (
    "",
    " \n\t\r\0\x0b",
    "a" * 1_000_000,
    "1" * 300_000,
    "@" * 30_000,
    "a@" * 10_000,
    "a-" * 10_000 + "@b.c",
    "1.2.3." * 10_000,
    "2001:" * 10_000,
    "DE00 " * 10_000,
    "+1 " * 10_000,
    "4111 " * 10_000,
    "-----BEGIN PRIVATE KEY-----" * 1_000,
    "password = '" * 4_000,
    "\n" * 200_000,
    "ab " * 30_000,
    "日本語" * 30_000,
    "".join(chr(c) for c in range(0x20, 0x30000, 7) if not 0xD800 <= c < 0xE000),
    "\U0010ffff\ufffe\u202e\u0301" * 1000,
)
