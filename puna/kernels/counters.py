"""What the heuristic gates count in a text: words, symbols, sentences, lines, and what stands there again."""

from collections.abc import Sequence

import numpy as np

from puna.errors import DataError, need
from puna.kernels.text import checked, choose

REPEATS = (
    *(
        f"top_{n}_gram_characters" for n in (2, 3, 4)
    ),  # of all places of the most frequent one, spaces counted
    *(f"duplicate_{n}_gram_characters" for n in (5, 6, 7, 8, 9, 10)),  # that stood there before
)
COUNTERS = (
    "characters",
    "words",
    "word_characters",
    "alphabetic_words",  # with at least one letter
    "symbols",  # runs of the same one, but for those that join two words
    "hashes",  # number signs
    "ellipses",
    "stop_words",  # different ones of the list
    "sentences",
    "newlines",
    "lines",  # here and below: that are not blank, without the white space around them
    "line_characters",
    "bullet_lines",
    "ellipsis_lines",
    "terminal_lines",  # whose last character ends a sentence
    "short_lines",
    "duplicate_lines",
    "duplicate_line_characters",
    "paragraphs",  # between blank lines
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "pieces",  # between white space
    "alphabetic_pieces",  # with at least one letter
    *REPEATS,
)


def counters(
    data: np.ndarray,
    offsets: np.ndarray,
    stop_words: Sequence[str] = (),
    short_line: int = 30,
    repeats: bool = True,
) -> dict[str, np.ndarray]:
    """Counts (rows,) int64 under each name of COUNTERS; a line is short up to `short_line` characters.

    Without `repeats` the names of REPEATS, half of the work, are left out.
    """
    wanted = [word.encode() for word in stop_words]
    places = np.cumsum([0, *map(len, wanted)], dtype=np.int64)
    listed = choose()[0].words(np.frombuffer(b"".join(wanted), np.uint8), places, "plain")[0]
    single = len(listed) == len(wanted) == len(set(listed.tolist()))
    need(single, f"stop words {', '.join(stop_words)}: each must be one word, once", error=DataError)
    counts = choose()[0].counters(*checked(data, offsets), listed, short_line, repeats)
    return dict(zip(COUNTERS if repeats else COUNTERS[: -len(REPEATS)], counts.T, strict=False))
