"""Unsafe text: adult and hateful pages by the density of listed words, and by a classifier's scores.

A word alone is weak evidence (medicine, law and news use them): what counts is how many of 1,000 are listed.
The classifier is another stage, which writes probabilities as `q.nsfw` and `q.toxic`; SafetyScores cuts them.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from puna.data.filters.listed import OURS, hits, words_of
from puna.data.filters.lists import with_lists
from puna.data.stage import Annotation, Gate, Verdict, first_reason


class SafetyWords(Annotation):
    """Listed words in 1,000: `safety.nsfw` and `safety.toxic`."""

    name = "safety.words"
    version = 2  # words are those of kernels.words
    writes = {"safety.nsfw": pa.float32(), "safety.toxic": pa.float32()}

    nsfw: tuple[str, ...] = OURS
    nsfw_files: tuple[str, ...] = ()
    toxic: tuple[str, ...] = ()  # slurs and threats: we ship none
    toxic_files: tuple[str, ...] = ()

    def opens(self) -> tuple[str, ...]:
        return self.nsfw_files + self.toxic_files

    def fingerprint(self) -> str:
        return with_lists(self, self.opens())

    def __call__(self, table: pa.Table) -> pa.Table:
        found = words_of(table["text"])
        total = np.maximum(np.diff(found.first), 1)
        lists = (self.nsfw, self.nsfw_files), (self.toxic, self.toxic_files)
        for column, (given, files) in zip(self.writes, lists, strict=True):
            rate = 1000 * hits(found, given, files) / total
            table = table.append_column(column, pa.array(rate, pa.float32()))
        return table


class SafetyWordsGate(Gate):
    """Drops documents too full of listed words."""

    name = "safety.words_gate"
    reads = ("safety.nsfw", "safety.toxic")
    reasons = ("safety.nsfw_words", "safety.toxic_words")

    most_nsfw: float = 5.0  # of 1,000 words; our own, for explicit words: one in some ten lines
    most_toxic: float = 5.0

    def __call__(self, table: pa.Table) -> Verdict:
        nsfw, toxic = (table[column].to_numpy() for column in self.reads)
        return first_reason(
            len(table), [(nsfw > self.most_nsfw, 0, nsfw), (toxic > self.most_toxic, 1, toxic)]
        )


class SafetyScores(Gate):
    """Drops documents that a classifier, an earlier stage, finds unsafe; what it did not judge stays.

    `classify` writes the scores, by models that the recipes `toxicity` and `nsfw` train.
    """

    name = "safety.scores"
    reasons = ("safety.nsfw", "safety.toxic")

    scores: tuple[Literal["nsfw", "toxic"], ...] = ("nsfw", "toxic")  # those that an earlier stage wrote
    most_nsfw: float = 0.4  # Dolma's high threshold for its Jigsaw classifiers
    most_toxic: float = 0.4

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"q.{score}" for score in self.scores)

    def __call__(self, table: pa.Table) -> Verdict:
        rules = []
        for at, (score, most) in enumerate((("nsfw", self.most_nsfw), ("toxic", self.most_toxic))):
            if score in self.scores:
                measured = table[f"q.{score}"].to_numpy()
                rules.append((measured > most, at, measured))
        return first_reason(len(table), rules)
