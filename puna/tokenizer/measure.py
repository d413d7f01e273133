"""What a vocabulary makes of texts: how short they become, and whether they come back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from puna.tokenizer.tokenizer import Tokenizer

ALL = "all"


@dataclass
class Measured:
    """Sums over the texts of one group."""

    texts: int = 0
    bytes: int = 0  # of UTF-8
    words: int = 0  # what stands between white space: many characters in scripts that write none
    tokens: int = 0
    single: int = 0  # tokens that are one byte
    lost: int = 0  # texts that do not come back from their ids

    def add(self, text: str, ids: list[int], singles: np.ndarray, returns: bool) -> None:
        self.texts += 1
        self.bytes += len(text.encode("utf-8", "surrogatepass"))
        self.words += len(text.split())
        self.tokens += len(ids)
        self.single += int(singles[ids].sum())
        self.lost += not returns

    def rates(self) -> dict[str, Any]:
        """Counts and shares, ready for JSON."""
        return {
            "texts": self.texts,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "bytes_per_token": _per(self.bytes, self.tokens),
            "tokens_per_word": _per(self.tokens, self.words),
            "single_byte_share": _per(self.single, self.tokens),
            "round_trip_failures": self.lost,
        }


def measure(tokenizer: Tokenizer, texts: Iterable[tuple[str, str]]) -> dict[str, Measured]:
    """By group (a file, a language), in the order they come, and of all, from (group, text)."""
    singles = np.array([len(tokenizer.bytes_of(id)) == 1 for id in range(tokenizer.size)])
    groups: dict[str, Measured] = {}
    total = Measured()
    for group, text in texts:
        ids = tokenizer.encode(text)
        returns = tokenizer.decode(ids) == text
        for measured in (groups.setdefault(group, Measured()), total):
            measured.add(text, ids, singles, returns)
    return {**groups, ALL: total}


def _per(count: int, of: int) -> float | None:
    return round(count / of, 4) if of else None
