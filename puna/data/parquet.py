"""Documents as Parquet files whose bytes follow from their rows alone.

Row groups end after the row that fills them, wherever the batches that brought the rows ended, and files end
after the group that fills them. So a file is bounded however large its piece was, and neither the size of
batches nor a bisection on the way changes a byte.
"""

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from puna.data.receipts import Output
from puna.data.store import Store
from puna.errors import DataError

ROW_BYTES = 256  # what a row weighs beside its text


def text_bytes(table: pa.Table) -> np.ndarray:
    """(rows,) int64: bytes of text; 0 where there is none."""
    if "text" not in table.column_names:
        return np.zeros(len(table), np.int64)
    return pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy().astype(np.int64)


class Writer:
    """Writes tables to `{stem}.parquet`, or `{stem}-000.parquet`, ... where `file_bytes` bounds each."""

    def __init__(self, store: Store, stem: str, group_bytes: int, file_bytes: int | None = None):
        self.store, self.stem, self.group_bytes, self.file_bytes = store, stem, group_bytes, file_bytes
        self.outputs: list[Output] = []
        self.schema: pa.Schema | None = None
        self.held: list[pa.Table] = []
        self.held_bytes = self.bytes_here = self.rows_here = 0
        self.open = ExitStack()
        self.file: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        table = self._same_columns(table)
        weights = np.cumsum(text_bytes(table) + ROW_BYTES)
        start, taken = 0, 0
        while start < len(table):
            end = int(np.searchsorted(weights, taken + self.group_bytes - self.held_bytes)) + 1
            end = min(end, len(table))
            self.held.append(table.slice(start, end - start))
            self.held_bytes += int(weights[end - 1]) - taken
            start, taken = end, int(weights[end - 1])
            if self.held_bytes >= self.group_bytes:
                self._write_group()

    def close(self, empty: pa.Schema | None = None) -> list[Output]:
        """What was written. With `empty` there is a file even without a row, of these columns."""
        if self.held:
            self._write_group()
        if empty is not None and self.file is None and not self.outputs:
            self._begin(self.schema or empty)
        self._end()
        return self.outputs

    def discard(self) -> None:
        """Give up the file being written: what fails inside `writing` leaves nothing behind."""
        if self.file is not None:
            with suppress(OSError):  # the disk may be full: what it writes now is thrown away anyway
                self.file.close()
            self.file = None
        problem = InterruptedError()
        self.open.__exit__(type(problem), problem, None)

    def _same_columns(self, table: pa.Table) -> pa.Table:
        table = table.replace_schema_metadata(None)
        if self.schema is None:
            self.schema = table.schema
        try:
            return table.select(self.schema.names).cast(self.schema)
        except (KeyError, ValueError, pa.ArrowNotImplementedError) as problem:
            raise DataError(
                f"{self.stem}: a batch has other columns than the one before: {problem}"
            ) from None

    def _write_group(self) -> None:
        table = pa.concat_tables(self.held).combine_chunks()
        if self.file is None:
            self._begin(table.schema)
        assert self.file is not None
        self.file.write_table(table, row_group_size=max(len(table), 1))
        self.rows_here += len(table)
        self.bytes_here += self.held_bytes
        self.held, self.held_bytes = [], 0
        if self.file_bytes is not None and self.bytes_here >= self.file_bytes:
            self._end()

    def _begin(self, schema: pa.Schema) -> None:
        part = "" if self.file_bytes is None else f"-{len(self.outputs):03d}"
        self.name = f"{self.stem}{part}.parquet"
        self.sink = self.open.enter_context(self.store.writing(self.name))
        self.file = pq.ParquetWriter(
            self.sink, schema, version="2.6", compression="zstd", compression_level=3, data_page_version="1.0"
        )
        self.bytes_here = self.rows_here = 0

    def _end(self) -> None:
        if self.file is not None:
            self.file.close()
            self.open.close()
            found = self.sink.hash.hexdigest(), self.sink.size
            self.outputs.append(Output(name=self.name, sha256=found[0], size=found[1], rows=self.rows_here))
            self.file = None


def read_groups(store: Store, name: str) -> Iterator[pa.Table]:
    """The row groups of a file, one at a time."""
    with store.open(name) as source:
        file = _opened(source, store.path(name))
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def read_table(store: Store, name: str, columns: list[str] | None = None) -> pa.Table:
    with store.open(name) as source:
        file = _opened(source, store.path(name))
        groups = range(file.num_row_groups)  # one after the other: what unpacks them is small then
        tables = [file.read_row_group(group, columns=columns, use_threads=False) for group in groups]
        return pa.concat_tables(tables) if tables else file.read(columns=columns, use_threads=False)


def read_schema(store: Store, name: str) -> pa.Schema:
    with store.open(name) as source:
        return _opened(source, store.path(name)).schema_arrow


def _opened(source: pa.NativeFile, path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as problem:
        fix = "run again: what no longer hashes to its receipt is made anew"
        raise DataError(f"{path} is no whole Parquet file: {problem}\n  try: {fix}") from None
