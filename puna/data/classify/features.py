"""What a text consists of for a classifier: buckets of a table, chosen by the hashes of its n-grams."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from puna.data.normal_words import mix, normal_words, runs_of
from puna.errors import ConfigError, need
from puna.settings import Settings

_TEXTS = 512  # worked on at once


class NgramSettings(Settings):
    """Which n-grams a text is made of."""

    buckets: int = Field(1 << 18, ge=2, le=1 << 26)
    words: int = Field(2, ge=1, le=8)  # 2: single words and pairs
    symbols: bool = True  # punctuation and line ends count as words: the shape of code and of formulas
    characters: tuple[int, int] = (0, 0)  # n-grams of that many characters too; (0, 0): none
    most_characters: int = Field(20_000, ge=1)  # of a text; what follows is not looked at

    @model_validator(mode="after")
    def the_range_is_one(self) -> "NgramSettings":
        low, high = self.characters
        good = (low, high) == (0, 0) or 1 <= low <= high <= 10
        need(good, f"characters {self.characters}: not a range within 1 to 10", error=ConfigError)
        return self


@dataclass(frozen=True)
class Features:
    """The buckets of some texts, those of one text after those of the one before."""

    buckets: np.ndarray  # (features,) uint32
    offsets: np.ndarray  # (texts + 1,) int64

    def counts(self) -> np.ndarray:
        return np.diff(self.offsets)

    def slice(self, texts: slice) -> "Features":
        """Those of texts start : stop."""
        offsets = self.offsets[texts.start : texts.stop + 1]
        return Features(self.buckets[offsets[0] : offsets[-1]], offsets - offsets[0])


def buckets_of(texts: Sequence[str], settings: NgramSettings) -> Features:
    """The buckets of each text's n-grams."""
    parts = [_some(texts[at : at + _TEXTS], settings) for at in range(0, len(texts), _TEXTS)]
    counts = np.concatenate([np.zeros(1, np.int64), *(part.counts() for part in parts)])
    return Features(
        np.concatenate([np.zeros(0, np.uint32), *(part.buckets for part in parts)]), np.cumsum(counts)
    )


def _some(texts: Sequence[str], settings: NgramSettings) -> Features:
    texts = [text[: settings.most_characters] for text in texts]
    words = normal_words(texts, settings.symbols)
    kinds = [runs_of(words.hashes, words.offsets, length) for length in range(1, settings.words + 1)]
    if settings.characters[1]:
        kinds += _characters(texts, *settings.characters)
    hashes, offsets = _by_text(kinds)
    return Features(_reduce(hashes, settings.buckets), offsets)


def _characters(texts: Sequence[str], low: int, high: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(hashes, offsets) of the n-grams of characters, spaces among them, for each n from low to high."""
    points = np.frombuffer("".join(texts).lower().encode("utf-32-le", "surrogatepass"), np.uint32)
    offsets = np.concatenate(([0], np.cumsum([len(text.lower()) for text in texts], dtype=np.int64)))
    kinds = []
    for length in range(low, high + 1):
        hashes, cut = runs_of(points.astype(np.uint64), offsets, length)
        kinds.append((mix(hashes + np.uint64(length)), cut))
    return kinds


def _by_text(kinds: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """All kinds of features brought together text by text."""
    counts = np.stack([np.diff(offsets) for _, offsets in kinds])  # (kinds, texts)
    total = np.concatenate(([0], np.cumsum(counts.sum(0))))
    together = np.empty(total[-1], np.uint64)
    begin = total[:-1].copy()
    for (hashes, offsets), count in zip(kinds, counts, strict=True):
        together[np.arange(len(hashes)) + np.repeat(begin - offsets[:-1], count)] = hashes
        begin += count
    return together, total


def _reduce(hashes: np.ndarray, buckets: int) -> np.ndarray:
    """A bucket for each hash, from its upper 32 bits: a multiplication where a division would be slow."""
    return ((hashes >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.uint32)
