"""MinHash: of a document's runs of five words, under each of 112 shufflings the one that comes first.

Two documents agree in a place of their signatures with the probability that a run of either is a run of both
(their Jaccard index J). Cut into bands, some band agrees whole with probability 1 - (1 - J^rows)^bands.
"""

import numpy as np
from pydantic import Field

from puna.data.dedup.order import draws, mix
from puna.kernels.alike import minhash
from puna.settings import Settings

UNSIGNED = np.uint32(2**32 - 1)  # fills the signature of a text with too few words


class MinHash(Settings):
    """The shape of a signature; the published web corpora use 14 x 8 over word 5-grams [FineWeb, 3.4]."""

    bands: int = Field(14, ge=1)
    rows: int = Field(8, ge=1)
    words: int = Field(5, ge=1)  # in a run
    fewest_words: int = Field(50, ge=1)  # below, texts collide by what everybody says
    seed: int = 1


def signatures(data: np.ndarray, offsets: np.ndarray, settings: MinHash) -> np.ndarray:
    """(rows, hashes) uint32: the signature of each text data[offsets[i] : offsets[i + 1]]."""
    count = settings.bands * settings.rows
    return minhash(data, offsets, count, settings.words, settings.seed, settings.fewest_words)


def band_keys(signed: np.ndarray, settings: MinHash) -> np.ndarray:
    """(rows, bands) uint64: equal where two signatures agree in a whole band."""
    parts = signed.reshape(len(signed), settings.bands, settings.rows).astype(np.uint64)  # (N, B, R)
    keys = np.tile(draws(~settings.seed, settings.bands), (len(signed), 1))  # (N, B)
    for row in range(settings.rows):
        keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + parts[:, :, row])
    return keys
