"""The rules of Gopher: is this running text, and does it say the same thing again and again?

Both gates are of the paper of Rae and others, "Scaling Language Models: Methods, Analysis & Insights from
Training Gopher" (2021), appendix A.1.1. Where it leaves open what to divide by, we do as the tools that its
thresholds are used with: repeated characters over all characters of the text. But "80% of words in a document
contain at least one alphabetic character" we take as of words between blanks, as Dolma does. datatrove counts
each punctuation mark as a word as well: of 2,945 pages of manuals it so drops 40%, readable ones, and we 5%.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from puna.data.document import text_buffers
from puna.data.stage import Gate, Verdict, first_reason
from puna.kernels.counters import counters

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # [A.1.1]


class GopherQuality(Gate):
    """Too short or long, odd words, symbols and list marks in place of sentences."""

    name = "quality.gopher"
    version = 2  # letters are looked for in words between blanks
    reasons = tuple(
        f"quality.gopher.{reason}"
        for reason in (
            "few_words",
            "many_words",
            "short_words",
            "long_words",
            "number_signs",
            "ellipses",
            "bullet_lines",
            "ellipsis_lines",
            "few_alphabetic_words",
            "few_stop_words",
        )
    )

    least_words: int = 50
    most_words: int = 100_000
    least_mean_length: float = 3.0  # characters a word
    most_mean_length: float = 10.0
    most_symbols: float = 0.1  # number signs to words, and ellipses to words
    most_bullet_lines: float = 0.9  # share of the lines
    most_ellipsis_lines: float = 0.3
    least_alphabetic: float = 0.8  # of these, the share with a letter:
    alphabetic_of: Literal["between_blanks", "words_and_symbols"] = "between_blanks"  # the latter: datatrove
    least_stop_words: int = 2  # different ones of the list; 0 for languages that it is not of
    stop_words: tuple[str, ...] = STOP_WORDS

    def __call__(self, table: pa.Table) -> Verdict:
        count = counters(*text_buffers(table), self.stop_words, repeats=False)
        words, lines = count["words"], count["lines"]
        length = share(count["word_characters"], words)
        signs, ellipses = share(count["hashes"], words), share(count["ellipses"], words)
        bullets, trailing = share(count["bullet_lines"], lines), share(count["ellipsis_lines"], lines)
        alphabetic = share(count["alphabetic_pieces"], count["pieces"])
        if self.alphabetic_of == "words_and_symbols":
            alphabetic = share(count["alphabetic_words"], words + count["symbols"])
        broken = (
            (words < self.least_words, words),
            (words > self.most_words, words),
            (length < self.least_mean_length, length),
            (length > self.most_mean_length, length),
            (signs > self.most_symbols, signs),
            (ellipses > self.most_symbols, ellipses),
            (bullets > self.most_bullet_lines, bullets),
            (trailing > self.most_ellipsis_lines, trailing),
            (alphabetic < self.least_alphabetic, alphabetic),
            (count["stop_words"] < self.least_stop_words, count["stop_words"]),
        )
        return first_reason(len(table), [(rule, i, value) for i, (rule, value) in enumerate(broken)])


class GopherRepetition(Gate):
    """Lines, paragraphs or runs of words that stand there more than once [table A1]."""

    name = "quality.gopher_repetition"
    reasons = tuple(
        f"quality.gopher_repetition.{reason}"
        for reason in (
            "duplicate_paragraphs",
            "duplicate_paragraph_characters",
            "duplicate_lines",
            "duplicate_line_characters",
            *(f"top_{n}_gram" for n in (2, 3, 4)),
            *(f"duplicate_{n}_grams" for n in (5, 6, 7, 8, 9, 10)),
        )
    )

    most_duplicate_paragraphs: float = 0.30  # share of the paragraphs
    most_duplicate_paragraph_characters: float = 0.20  # here and below: share of the text's characters
    most_duplicate_lines: float = 0.30  # share of the lines
    most_duplicate_line_characters: float = 0.20
    most_top_grams: tuple[float, float, float] = (0.20, 0.18, 0.16)  # of 2, 3, 4 words: the most frequent one
    most_duplicate_grams: tuple[float, float, float, float, float, float] = (
        0.15,  # of 5 words: all that stand there again
        0.14,
        0.13,
        0.12,
        0.11,
        0.10,  # of 10 words
    )

    def __call__(self, table: pa.Table) -> Verdict:
        count = counters(*text_buffers(table))
        characters = count["characters"]
        measured = [
            (share(count["duplicate_paragraphs"], count["paragraphs"]), self.most_duplicate_paragraphs),
            (
                share(count["duplicate_paragraph_characters"], characters),
                self.most_duplicate_paragraph_characters,
            ),
            (share(count["duplicate_lines"], count["lines"]), self.most_duplicate_lines),
            (share(count["duplicate_line_characters"], characters), self.most_duplicate_line_characters),
        ]
        for n, most in zip((2, 3, 4), self.most_top_grams, strict=True):
            measured.append((share(count[f"top_{n}_gram_characters"], characters), most))
        for n, most in zip((5, 6, 7, 8, 9, 10), self.most_duplicate_grams, strict=True):
            measured.append((share(count[f"duplicate_{n}_gram_characters"], characters), most))
        rules = [(value > most, i, value) for i, (value, most) in enumerate(measured)]
        return first_reason(len(table), rules)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole (rows,) float64; zero where there is nothing to share."""
    return part / np.maximum(whole, 1)
