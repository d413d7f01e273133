"""A run's lineage node: the sources that its documents are from, their licences and opt-outs, and every file
that a stage decided by.

It is told from the run's own receipts and tallies and from the files themselves; no text is read again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from puna import __version__
from puna.data.parquet import read_table
from puna.data.receipts import Receipt, outputs_digest
from puna.data.recipe import Recipe
from puna.data.shards import SUFFIX, Header
from puna.data.source import Source, described, piece_files
from puna.data.store import Store
from puna.data.tally import TALLY
from puna.lineage import NAME, UNKNOWN, Node, Parent, as_text, digest, parent_of

HASHED = 4 << 30  # bytes of a source; of a larger one its files' names and sizes are its content
NAMED = 50  # licences of a source, those of most documents; the others together
Receipts = Mapping[str, Sequence[Receipt]]  # step -> its receipts
COLUMNS = ["stage", "source", "licence", "optout", "documents", "bytes", "tokens"]


def write_lineage(recipe: Recipe, store: Store, receipts: Receipts) -> Node:
    """Write the node of a run whose steps are all done; `receipts`: of each step, in their order."""
    read, kept = _tallies(store, receipts)
    node = Node(
        id=content_of(receipts),
        kind="dataset",
        name=recipe.name,
        licence=_together(_licences(kept)),
        parents=(*(_source(source, read, kept) for source in recipe.sources), *_opened(recipe)),
        run=hashlib.sha256(store.read("run.json") or b"").hexdigest(),
        facts=_facts(store, receipts, kept) | {"puna": __version__},
    )
    text = as_text(node).encode()
    if store.read(NAME) != text:
        store.put(NAME, text)
    return node


def content_of(receipts: Receipts) -> str:
    """The hash of all that the steps of a run wrote: what `puna data run` says at its end."""
    return outputs_digest(receipt for held in receipts.values() for receipt in held)


def _tallies(store: Store, receipts: Receipts) -> tuple[pa.Table, pa.Table]:
    """Counts of what was read from the sources, and of what is left at the end."""
    steps = [list(_tally(store, held)) for held in receipts.values()]
    steps = [tables for tables in steps if tables] or [[TALLY.empty_table().select(COLUMNS)]]
    first, last = (pa.concat_tables(steps[at]) for at in (0, -1))
    return first, last.filter(pc.equal(last["stage"], ""))


def _tally(store: Store, receipts: Sequence[Receipt]) -> Iterator[pa.Table]:
    for receipt in receipts:
        for output in receipt.outputs:
            if "/tally/" in output.name:
                yield read_table(store, output.name, COLUMNS)


def _source(source: Source, read: pa.Table, kept: pa.Table) -> Parent:
    content, how = _content(source)
    both = [table.filter(pc.equal(table["source"], source.name)) for table in (read, kept)]
    licence = _together(_licences(both[1]))  # what was not taken lays no duty on anyone
    return Parent(id=content, relation="filtered_from", kind="source", name=source.name, licence=licence,
                  facts={"id_of": how, "read": _counts(both[0]), "kept": _counts(both[1])})  # fmt: skip


def _content(source: Source) -> tuple[str, str]:
    """(id, what it is the hash of): of a source's files, wherever they lie and in whatever order."""
    pieces = source.inputs()
    files = {info.path: info for piece in pieces for info in piece_files(piece)}
    if not files:
        return digest([described(source), pieces]), "settings"
    small = sum(info.size for info in files.values()) <= HASHED
    if small and all(Path(path).is_file() for path in files):
        with suppress(OSError):  # of a file that nobody can read
            return digest(sorted([info.base_name, _sha256(path)] for path, info in files.items())), "content"
    return digest(sorted([info.base_name, info.size] for info in files.values())), "names and sizes"


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counts(table: pa.Table) -> dict[str, Any]:
    """Documents, bytes and tokens, and the documents by licence and by opt-out."""
    sums: dict[str, Any] = {name: pc.sum(table[name]).as_py() or 0 for name in COLUMNS[-3:]}
    named = _licences(table).most_common()
    licences = dict(named[:NAMED])
    if named[NAMED:]:
        licences["others"] = sum(count for _, count in named[NAMED:])
    return sums | {
        "licences": licences,
        "optout": {name: n for name, n in _by(table, "optout").items() if name},
    }


def _licences(table: pa.Table) -> Counter[str]:
    found = Counter[str]()
    for name, count in sorted(_by(table, "licence").items()):
        found[name or UNKNOWN] += count
    return found


def _by(table: pa.Table, column: str) -> dict[str, int]:
    """Documents by the value of a column."""
    found = table.group_by(column, use_threads=False).aggregate([("documents", "sum")])
    return dict(zip(found[column].to_pylist(), found["documents_sum"].to_pylist(), strict=True))


def _together(licences: Counter[str]) -> str:
    return "mixed" if len(licences) > 1 else next(iter(licences), UNKNOWN)


def _opened(recipe: Recipe) -> list[Parent]:
    """The files that stages decide by: classifiers, lists, benchmarks, vocabularies, earlier runs."""
    opened: dict[tuple[str, str], list[str]] = {}
    for stage in recipe.stages:
        for path in stage.opens():
            opened.setdefault((path, stage.relation), []).append(stage.name)
    return [parent_of(Path(path), relation, {"stages": names}) for (path, relation), names in opened.items()]


def _facts(store: Store, receipts: Receipts, counts: pa.Table) -> dict[str, Any]:
    """What the run holds, and of its token shards what their headers say."""
    kept = next((held for held in reversed(list(receipts.values())) if any(r.kept() for r in held)), ())
    facts: dict[str, Any] = {"documents": sum(r.rows_out for r in kept), "bytes": sum(r.bytes for r in kept)}
    paths = [store.path(output.name) for held in receipts.values() for receipt in held
             for output in receipt.outputs if output.name.endswith(SUFFIX)]  # fmt: skip
    if tokens := pc.sum(counts["tokens"]).as_py():
        facts["tokens"] = tokens
    headers = [Header.read(Path(path)) for path in paths if Path(path).is_file()]
    if headers:
        facts["shards"] = len(headers)
        facts["shard_documents"] = sum(header.documents for header in headers)
        facts["tokens"] = sum(header.tokens for header in headers)
    return facts
