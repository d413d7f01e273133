"""What a text consists of for a classifier: buckets of a table, chosen by the hashes of its n-grams."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from puna.errors import ConfigError, need
from puna.kernels.words import words
from puna.settings import Settings

_TEXTS = 512  # worked on at once
_BASE = 0x9E3779B97F4A7C15


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
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    data = np.frombuffer(b"".join(parts), np.uint8)
    found = words(data, offsets, "signs" if settings.symbols else "normal")
    kinds = [_runs_of(found.hashes, found.first, length) for length in range(1, settings.words + 1)]
    if settings.characters[1]:
        kinds += _characters(texts, *settings.characters)
    hashes, offsets = _by_text(kinds)
    return Features(_reduce(hashes, settings.buckets), offsets)


def mix(values: np.ndarray) -> np.ndarray:
    """Each uint64 stirred so that every bit of it depends on every bit."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x81DADEF4BC2DD44D)
    return values ^ (values >> np.uint64(33))


def _runs_of(hashes: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of every `length` neighbours of one text, text by text, from those of its parts."""
    count = max(len(hashes) - length + 1, 0)
    run = np.zeros(count, np.uint64)
    for place in range(length):
        run = run * np.uint64(_BASE) + hashes[place : place + count]
    per_text = np.maximum(np.diff(offsets) - length + 1, 0)
    cut = np.concatenate(([0], np.cumsum(per_text)))
    return mix(run[np.arange(cut[-1]) + np.repeat(offsets[:-1] - cut[:-1], per_text)]), cut


def _characters(texts: Sequence[str], low: int, high: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(hashes, offsets) of the n-grams of characters, spaces among them, for each n from low to high."""
    points = np.frombuffer("".join(texts).lower().encode("utf-32-le", "surrogatepass"), np.uint32)
    offsets = np.concatenate(([0], np.cumsum([len(text.lower()) for text in texts], dtype=np.int64)))
    kinds = []
    for length in range(low, high + 1):
        hashes, cut = _runs_of(points.astype(np.uint64), offsets, length)
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
