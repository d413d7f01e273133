"""Which documents something is for: each column named holds one of some names, or a number in a range.

    where = { lang = ["en", "de"], "q.web" = { least = 0.5 } }

Stages and the parts of a mix say it alike. What is null fits nothing.
"""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.stage import Range, Where
from puna.errors import DataError, need


def fits(where: Where, table: pa.Table, who: str) -> np.ndarray:
    """(rows,) bool; `who` asks, and is named in errors."""
    fit = np.ones(len(table), bool)
    for name, wanted in where.items():
        need(name in table.column_names, f"{who}: where: no stage before it writes {name!r}",
             "a column that the sources or an earlier stage write", DataError)  # fmt: skip
        column, what = table[name], f"{who}: where: {name!r}"
        fit &= _in_range(column, wanted, what) if isinstance(wanted, Range) else _among(column, wanted, what)
    return fit


def _in_range(column: pa.ChunkedArray, wanted: Range, what: str) -> np.ndarray:
    good = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    need(good, f"{what} holds no numbers", error=DataError)
    values = pc.fill_null(column.cast(pa.float64()), math.nan).to_numpy()
    low = -math.inf if wanted.least is None else wanted.least
    return (values >= low) & (values < (math.inf if wanted.below is None else wanted.below))


def _among(column: pa.ChunkedArray, wanted: tuple[str, ...], what: str) -> np.ndarray:
    plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    good = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    need(good, f"{what} holds no names", error=DataError)
    return pc.is_in(column.cast(plain), pa.array(wanted, plain)).to_numpy().astype(bool)
