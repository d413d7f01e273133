"""MinHash: of a document's runs of five words, under each of 112 shufflings the one that comes first.

Two documents agree in a place of their signatures with the probability that a run of either is a run of both
(their Jaccard index J). Cut into bands, some band agrees whole with probability 1 - (1 - J^rows)^bands.
"""

import numpy as np
from pydantic import Field

from puna.data.dedup.order import draws, mix
from puna.kernels import text
from puna.settings import Settings

UNSIGNED = np.uint32(2**32 - 1)  # fills the signature of a text with too few words

_AT_ONCE = 16 << 20  # bytes of text whose words are held at a time: they take several times as much


class MinHash(Settings):
    """The shape of a signature; the published web corpora use 14 x 8 over word 5-grams [FineWeb, 3.4]."""

    bands: int = Field(14, ge=1)
    rows: int = Field(8, ge=1)
    words: int = Field(5, ge=1)  # in a run
    fewest_words: int = Field(50, ge=1)  # below, texts collide by what everybody says
    seed: int = 1


def signatures(data: np.ndarray, offsets: np.ndarray, settings: MinHash) -> np.ndarray:
    """(rows, hashes) uint32: the signature of each text data[offsets[i] : offsets[i + 1]]."""
    signed = np.empty((len(offsets) - 1, settings.bands * settings.rows), np.uint32)
    first = 0
    while first < len(signed):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _AT_ONCE, "right")) - 1)
        part, places = data[offsets[first] : offsets[last]], offsets[first : last + 1] - offsets[first]
        made = text.minhash(part, places, signed.shape[1], settings.words, settings.seed)
        made[np.diff(text.words(part, places).offsets) < settings.fewest_words] = UNSIGNED
        signed[first:last], first = made, last
    return signed


def band_keys(signed: np.ndarray, settings: MinHash) -> np.ndarray:
    """(rows, bands) uint64: equal where two signatures agree in a whole band."""
    parts = signed.reshape(len(signed), settings.bands, settings.rows).astype(np.uint64)  # (N, B, R)
    keys = np.tile(draws(~settings.seed, settings.bands), (len(signed), 1))  # (N, B)
    for row in range(settings.rows):
        keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + parts[:, :, row])
    return keys
