"""What is found in a text is written over; only rows that a cheap look suspects are read."""

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Span = tuple[int, int]  # bytes of a text, ascending and apart; whole characters
Finder = Callable[[bytes], Iterable[Span]]


def masked(texts: pa.ChunkedArray, hint: str, find: Finder, placeholder: str) -> tuple[pa.Array, np.ndarray]:
    """(the texts without what `find` finds where the expression `hint` matches, how often in each)."""
    whole = pa.concat_arrays([pa.array([], pa.large_string()), *texts.chunks])
    looks = pc.match_substring if len(hint) == 1 else pc.match_substring_regex
    changed, new, counts = np.zeros(len(whole), bool), [], np.zeros(len(whole), np.int32)
    for row in np.flatnonzero(looks(whole, hint).to_numpy(zero_copy_only=False)):
        text = whole[row].as_buffer().to_pybytes()
        if spans := list(find(text)):
            changed[row], counts[row] = True, len(spans)
            new.append(_without(text, spans, placeholder.encode()))
    return pa.chunked_array([pc.replace_with_mask(whole, changed, pa.array(new, whole.type))]), counts


def _without(text: bytes, spans: list[Span], placeholder: bytes) -> bytes:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], placeholder]
        at = end
    return b"".join([*pieces, text[at:]])
