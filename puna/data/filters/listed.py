"""How often the entries of a list stand in each text; and a short list of our own, of the explicit kind only.

Whole words, as tokens.py cuts them; an entry of several words, or of several characters of a script without
spaces, matches where these follow each other.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.filters.hashing import buffers, is_in
from puna.data.filters.lists import Stamps, entries, stamps
from puna.data.filters.tokens import Words, words

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
def _known(given: tuple[str, ...], paths: Stamps) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Number of words -> the sorted hashes of entries that have so many, and of their first words."""
    found = words_of(pa.chunked_array([pa.array(entries(given, paths), pa.large_string())]))
    sizes = np.minimum(np.diff(found.first), LONGEST)
    known = {}
    for n in np.unique(sizes[sizes > 0]):
        begins = found.first[:-1][sizes == n]
        known[int(n)] = np.unique(found.ngrams(int(n), begins)[0]), np.unique(found.hashes[begins])
    return known


def hits(found: Words, given: tuple[str, ...], paths: tuple[str, ...]) -> np.ndarray:
    """(rows,) how many places of each row begin an entry of the lists."""
    total = np.zeros(len(found.first) - 1, np.int64)
    for n, (known, firsts) in _known(given, stamps(paths)).items():
        hashes, places = found.ngrams(n, np.flatnonzero(is_in(found.hashes, firsts)))
        where = places[is_in(hashes, known)]
        total += np.bincount(np.searchsorted(found.first, where, "right") - 1, minlength=len(total))
    return total
