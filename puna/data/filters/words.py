"""Dirty words from lists, counted: sites for adults that the lists of domains missed.

Whole words, as tokens.py cuts them; an entry of several words, or of several characters of a script without
spaces, matches where these follow each other. C4 dropped a page for one word of a list; Llama 3 counts them
[P 3.1.1]. Our own list is short and of the explicit kind only: name longer ones in the recipe.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.filters.hashing import buffers, is_in
from puna.data.filters.lists import Stamps, entries, stamps, with_lists
from puna.data.filters.tokens import Words, words
from puna.data.stage import Annotation, Gate, Verdict, first_reason

LONGEST = 8  # words of an entry; what is longer is cut
DIRTY = {
    "en": "porn porno xxx hentai milf milfs blowjob blowjobs gangbang creampie cumshot cumshots handjob "
    "deepthroat bukkake camgirl camgirls upskirt pornstar pornstars",
    "de": "pornos ficken gefickt fotze fotzen sexcam",
    "fr": "enculer enculée partouze branlette salopes",
    "es": "follando tetonas mamadas pollas",
    "ru": "порно порнуха трахать минет ебля сиськи шлюхи",
    "zh": "色情片 裸聊 口交",
    "ja": "エロ動画 無修正動画",
}
OURS = tuple(" ".join(DIRTY.values()).split())


def words_of(texts: pa.ChunkedArray) -> Words:
    """The words of each text in lower case."""
    return words(*buffers(pc.utf8_lower(texts)))


@lru_cache(16)
def _known(given: tuple[str, ...], paths: Stamps) -> dict[int, np.ndarray]:
    """The sorted hashes of entries by how many words they have."""
    lines = entries(given, paths)
    found = words_of(pa.chunked_array([pa.array(lines, pa.large_string())]))
    sizes = np.minimum(np.diff(found.first), LONGEST)
    known = {}
    for n in np.unique(sizes[sizes > 0]):
        hashes, places = found.ngrams(int(n))
        known[int(n)] = np.unique(hashes[np.isin(places, found.first[:-1][sizes == n])])
    return known


def hits(found: Words, given: tuple[str, ...], paths: tuple[str, ...]) -> np.ndarray:
    """(rows,) how many places of each row begin an entry of the lists."""
    total = np.zeros(len(found.first) - 1, np.int64)
    for n, known in _known(given, stamps(paths)).items():
        hashes, places = found.ngrams(n)
        where = places[is_in(hashes, known)]
        total += np.bincount(np.searchsorted(found.first, where, "right") - 1, minlength=len(total))
    return total


class DirtyWords(Annotation):
    """Counts words, and those of the lists among them."""

    name = "words.dirty"
    writes = {"words.count": pa.int32(), "words.dirty": pa.int32()}

    words: tuple[str, ...] = OURS
    files: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        return with_lists(self, self.files)

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
