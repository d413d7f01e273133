"""How often the entries of a list stand in each text; and a short list of our own, of the explicit kind only.

Whole words, as kernels.words cuts them; an entry of several words, or of several characters of a script
without spaces, matches where these follow each other.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa

from puna.data.filters.hashing import buffers
from puna.data.filters.lists import Stamps, entries, stamps
from puna.kernels.words import Words, known_runs, runs, sieve, words

LONGEST = 8  # words of an entry; what is longer is cut
DIRTY = {
    "en": "porn porno hentai milf milfs blowjob blowjobs gangbang creampie cumshot cumshots handjob "
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
    """The words of each text, in any case."""
    return words(*buffers(texts))


@lru_cache(16)
def _known(given: tuple[str, ...], paths: Stamps) -> dict[int, np.ndarray]:
    """Number of words -> the sorted hashes of entries that have so many."""
    found = words_of(pa.chunked_array([pa.array(entries(given, paths), pa.large_string())]))
    sizes = np.minimum(np.diff(found.first), LONGEST)
    known = {}
    for n in np.unique(sizes[sizes > 0]).tolist():
        every = runs(found.hashes, found.first, n)
        known[n] = np.unique(every.hashes[np.isin(every.words, found.first[:-1][sizes == n])])
    return known


def hits(found: Words, given: tuple[str, ...], paths: tuple[str, ...]) -> np.ndarray:
    """(rows,) how many places of each row begin an entry of the lists."""
    total = np.zeros(len(found.first) - 1, np.int64)
    for n, known in _known(given, stamps(paths)).items():
        begins, _ = known_runs(found.hashes, found.first, n, known, sieve(known))
        total += np.diff(np.searchsorted(begins, found.first))
    return total
