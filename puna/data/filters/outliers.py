"""Documents whose words are not distributed as the corpus's: gibberish, dumps, tables of codes [P 3.1.1].

Two passes. The first counts the words of the corpus by hash, for each language: `counts_of` tables of
documents, summed in any order, then `write_counts`. The second measures D(document || corpus): how many more
nats a word costs under the corpus's frequencies than under the document's own. puna/data/corpus.py does both
in a run.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa

from puna.data.filters.hashing import buffers
from puna.data.filters.lists import Stamps, stamps, with_lists
from puna.data.stage import Annotation, Gate, Verdict, first_reason
from puna.errors import DataError, need
from puna.kernels.words import Words, words

BITS = 20  # 2**20 counters, 8 MB: words that share one look a little commoner than they are


def _buckets(found: Words) -> np.ndarray:
    return (found.hashes >> np.uint64(64 - BITS)).astype(np.int64)


def counts_of(table: pa.Table) -> np.ndarray:
    """(2**BITS,) uint64: how often each word occurs, by hash; sums of these are the corpus's."""
    found = words(*buffers(table["text"]))
    return np.bincount(_buckets(found), minlength=1 << BITS).astype(np.uint64)


def write_counts(path: str, counts: np.ndarray) -> None:
    """The corpus's counts as the file that a recipe names."""
    with open(path, "wb") as file:
        np.save(file, counts.astype(np.uint64))


@lru_cache(8)
def _log_frequencies(path: Stamps) -> np.ndarray:
    """The logarithm of each bucket's share, one added to every count so that no word is impossible."""
    name = path[0][0]
    try:
        counts = np.load(name, allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise DataError(
            f"{name}: no table of word counts ({problem})\n  try: count the corpus again"
        ) from None
    good = counts.shape == (1 << BITS,) and counts.dtype == np.uint64
    need(good, f"{name}: not {1 << BITS:,} counts of words", "count the corpus again", DataError)
    return logarithms(counts)


def logarithms(counts: np.ndarray) -> np.ndarray:
    return (np.log(counts + 1.0) - np.log(counts.sum() + float(1 << BITS))).astype(np.float32)


def divergences(found: Words, log_frequencies: np.ndarray) -> np.ndarray:
    """(rows,) D(row || corpus) in nats over hashed words; 0 where there is no word."""
    rows, buckets = found.rows(), _buckets(found)
    pairs, n = np.unique(rows << BITS | buckets, return_counts=True)
    of, total = pairs >> BITS, np.diff(found.first)
    share = n / total[of]
    terms = share * (np.log(share) - log_frequencies[pairs & ((1 << BITS) - 1)])
    return np.bincount(of, terms, len(total))


class WordDivergence(Annotation):
    """Measures `q.kl`; null where the language has no table or the document too few words to say."""

    name = "outliers.kl"
    version = 2
    reads = ("text", "lang")
    writes = {"q.kl": pa.float32()}

    counts: dict[str, str]  # language, or "*" for all others -> the file of its counts
    least_words: int = 50  # below, the divergence says how short the document is

    def opens(self) -> tuple[str, ...]:
        return tuple(self.counts[name] for name in sorted(self.counts))

    def fingerprint(self) -> str:
        return with_lists(self, self.opens())

    def __call__(self, table: pa.Table) -> pa.Table:
        known = {
            name: partial(_log_frequencies, stamps((path,))) for name, path in sorted(self.counts.items())
        }
        return with_divergence(table, known, self.least_words)


def with_divergence(
    table: pa.Table, known: Mapping[str, Callable[[], np.ndarray]], least_words: int
) -> pa.Table:
    """The documents with `q.kl`, each by the log frequencies of its language, or by those of "*"."""
    found = words(*buffers(table["text"]))
    languages = [name if name in known else "*" for name in table["lang"].to_pylist()]
    values, enough = np.zeros(len(table)), np.diff(found.first) >= least_words
    of = np.array(languages, object)
    for name in sorted(set(languages) & known.keys()):
        values = np.where(of == name, divergences(found, known[name]()), values)
    unknown = np.array([name not in known for name in languages], bool)
    return table.append_column("q.kl", pa.array(values, pa.float32(), mask=~enough | unknown))


class Outliers(Gate):
    """Drops documents too far from their language's corpus."""

    name = "outliers.gate"
    reads = ("q.kl",)
    reasons = ("outliers.kl",)

    most: float = 7.0  # nats; our own: encyclopedia, plays, manuals stay below, 300 random codes are above 8

    def __call__(self, table: pa.Table) -> Verdict:
        values = np.nan_to_num(table["q.kl"].to_numpy())
        return first_reason(len(table), [(values > self.most, 0, values)])
