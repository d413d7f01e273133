"""Spans cut out of the texts of a table: what lines.py and substrings.py do with what they found."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.kernels.lines import join_spans


def cut_out(data: np.ndarray, offsets: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> pa.Array:
    """The texts of the rows without the bytes of the spans: sorted, without overlap, none empty."""
    left = np.sort(np.concatenate((offsets[:-1], stops)))  # what stays begins with a row or behind a span
    ends = np.sort(np.concatenate((starts, offsets[1:])))
    spans = np.bincount(np.searchsorted(offsets, starts, "right") - 1, minlength=len(offsets) - 1) + 1
    whole, places = join_spans(data, left, ends, np.append(0, np.cumsum(spans)))
    return pa.Array.from_buffers(
        pa.large_string(), len(spans), [None, pa.py_buffer(places), pa.py_buffer(whole)]
    )


def of_size(table: pa.Table, longest: int) -> pa.Array:
    """(rows,) bool: is the text no longer than so many bytes? The work takes 20 times its size in memory."""
    return pc.less_equal(pc.binary_length(table["text"]), longest).combine_chunks()


def with_texts(table: pa.Table, texts: list[pa.Array], where: pa.Array) -> pa.Table:
    """The rows with these texts, in order, in place of theirs, where `where` is true."""
    at = table.schema.get_field_index("text")
    new = pa.concat_arrays([pa.array([], pa.large_string()), *texts])
    return table.set_column(
        at, table.schema.field(at), pc.replace_with_mask(table["text"].combine_chunks(), where, new)
    )
