"""Dirty words from lists, counted: sites for adults that the lists of domains missed.

C4 dropped a page for one word of a list; Llama 3 counts them [P 3.1.1]. Name longer lists in the recipe.
"""

import numpy as np
import pyarrow as pa

from puna.data.filters.listed import OURS, hits, words_of
from puna.data.filters.lists import with_lists
from puna.data.stage import Annotation, Gate, Verdict, first_reason


class DirtyWords(Annotation):
    """Counts words, and those of the lists among them."""

    name = "words.dirty"
    version = 2  # words are those of kernels.words
    writes = {"words.count": pa.int32(), "words.dirty": pa.int32()}

    words: tuple[str, ...] = OURS
    files: tuple[str, ...] = ()

    def opens(self) -> tuple[str, ...]:
        return self.files

    def fingerprint(self) -> str:
        return with_lists(self, self.opens())

    def __call__(self, table: pa.Table) -> pa.Table:
        found = words_of(table["text"])
        table = table.append_column("words.count", pa.array(np.diff(found.first), pa.int32()))
        return table.append_column("words.dirty", pa.array(hits(found, self.words, self.files), pa.int32()))


class DirtyWordsGate(Gate):
    """Drops documents with more dirty words than this, if they are also more than this share of all."""

    name = "words.gate"
    reads = ("words.count", "words.dirty")
    reasons = ("words.dirty",)

    most: int = 0  # C4: one is enough
    most_share: float = 0.0  # raise it where the list has words that a novel or a doctor uses

    def __call__(self, table: pa.Table) -> Verdict:
        dirty, total = (table[column].to_numpy() for column in ("words.dirty", "words.count"))
        share = dirty / np.maximum(total, 1)
        return first_reason(len(table), [((dirty > self.most) & (share > self.most_share), 0, dirty)])
