"""The lines of texts: their hashes, what the rules of C4 ask of them, and new texts made of some."""

from typing import NamedTuple

import numpy as np

from puna.errors import DataError, need
from puna.kernels.text import checked, choose

TERMINAL, JAVASCRIPT, LOREM_IPSUM, CURLY_BRACKET, NAMES_POLICY = 1, 2, 4, 8, 16  # bits of LineMarks.marks


class Lines(NamedTuple):
    """Every line, blank ones too: what stands between line feeds."""

    hashes: np.ndarray  # (lines,) uint64, without white space around it; 0 for a blank line
    lengths: np.ndarray  # (lines,) int32, in characters, likewise; 0 for a blank line
    starts: np.ndarray  # (lines,) int64, of the whole line
    ends: np.ndarray  # (lines,) int64, where its line feed or the text's end is
    offsets: np.ndarray  # (rows + 1,) int64


class LineMarks(NamedTuple):
    """Lines that are not blank, without the white space around them."""

    pieces: np.ndarray  # (lines,) int32, between white space
    longest: np.ndarray  # (lines,) int32, characters of the longest piece
    sentences: np.ndarray  # (lines,) int32
    marks: np.ndarray  # (lines,) uint8: TERMINAL (one of . ? ! " ' but not ...), JAVASCRIPT, ...
    starts: np.ndarray  # (lines,) int64
    ends: np.ndarray  # (lines,) int64
    offsets: np.ndarray  # (rows + 1,) int64


def line_hashes(data: np.ndarray, offsets: np.ndarray) -> Lines:
    return Lines(*choose()[0].line_hashes(*checked(data, offsets)))


def line_marks(data: np.ndarray, offsets: np.ndarray) -> LineMarks:
    return LineMarks(*choose()[0].line_marks(*checked(data, offsets)))


def join_spans(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, offsets: np.ndarray, feeds: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(data, offsets) of new texts: number i is the spans offsets[i] to offsets[i + 1], one after the other.

    With `feeds` there is a line feed between two.
    """
    data = np.ascontiguousarray(data, np.uint8)
    starts, ends = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(ends, np.int64)
    good = len(starts) == len(ends) and (starts >= 0).all() and (starts <= ends).all()
    need(good and (ends <= len(data)).all(), "spans leave the bytes they are of", error=DataError)
    _, offsets = checked(np.zeros(len(starts), np.uint8), offsets)
    return choose()[0].join_spans(data, starts, ends, offsets, feeds)
