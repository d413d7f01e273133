"""The rules of C4: lines that are no sentences go, then pages of which too little is left.

Of Raffel and others, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"
(2020), section 2.2, and of the program that made C4, which also drops lines with endless words or words of
consent to cookies, and marks of citations. C4Lines rewrites `text`, so it is an annotation, and counts
what the gate C4 asks for. C4's list of dirty words is a filter of its own.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.document import text_buffers
from puna.data.stage import Annotation, Gate, Verdict, first_reason
from puna.kernels import lines

CITATION = r"\[\d*\]|\[edit\]|\[citation needed\]"
SENTENCES, LOREM_IPSUM, CURLY = "q.c4.sentences", "q.c4.lorem_ipsum_lines", "q.c4.curly_bracket_lines"


class C4Lines(Annotation):
    """Drops lines from `text`, trims those that stay, and counts what is in these."""

    name = "quality.c4_lines"
    writes = {
        "text": pa.large_string(),
        SENTENCES: pa.int32(),
        LOREM_IPSUM: pa.int32(),  # lines that speak of it, before the rules below it have dropped any
        CURLY: pa.int32(),
    }

    least_words: int = 3  # a line; between white space
    most_word_characters: int = 1000
    terminal: bool = True  # the line ends in . ? ! " ' but not in ...; FineWeb leaves this rule out
    citations: bool = True  # marks of citations are cut out: [1], [edit], [citation needed]

    def __call__(self, table: pa.Table) -> pa.Table:
        if self.citations:
            uncited = pc.replace_substring_regex(table["text"], pattern=CITATION, replacement="")
            table = _with_columns(table, {"text": uncited})
        data, offsets = text_buffers(table)
        found = lines.line_marks(data, offsets)
        kept = (found.pieces >= self.least_words) & (found.longest <= self.most_word_characters)
        if self.terminal:
            kept &= (found.marks & lines.TERMINAL) > 0
        # in the order of C4's program: what an earlier rule dropped counts for no later one
        lorem_ipsum = kept & ((found.marks & lines.LOREM_IPSUM) > 0)
        kept &= (found.marks & lines.JAVASCRIPT) == 0
        curly = kept & ((found.marks & lines.CURLY_BRACKET) > 0)
        kept &= (found.marks & lines.NAMES_POLICY) == 0
        sums = {
            SENTENCES: _by_row(found.sentences * kept, found.offsets),
            LOREM_IPSUM: _by_row(lorem_ipsum, found.offsets),
            CURLY: _by_row(curly, found.offsets),
        }
        places = np.concatenate(([0], np.cumsum(kept)))[found.offsets]
        new = lines.join_spans(data, found.starts[kept], found.ends[kept], places, feeds=True)
        return _with_columns(table, {"text": _strings(*new), **sums})


class C4(Gate):
    """Pages of too few sentences, and of filling or program text; needs what C4Lines writes."""

    name = "quality.c4"
    reads = (SENTENCES, LOREM_IPSUM, CURLY)
    reasons = ("quality.c4.lorem_ipsum", "quality.c4.curly_bracket", "quality.c4.few_sentences")

    least_sentences: int = 5
    most_lorem_ipsum_lines: int = 0
    most_curly_bracket_lines: int = 0  # C4 is of prose; raise it for pages about programs

    def __call__(self, table: pa.Table) -> Verdict:
        sentences, lorem_ipsum, curly = (table[name].to_numpy() for name in self.reads)
        rules = [
            (lorem_ipsum > self.most_lorem_ipsum_lines, 0, lorem_ipsum),
            (curly > self.most_curly_bracket_lines, 1, curly),
            (sentences < self.least_sentences, 2, sentences),
        ]
        return first_reason(len(table), rules)


def _by_row(values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """The sum over each row's lines."""
    sums = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))[offsets]
    return pa.array(np.diff(sums), pa.int32())


def _strings(data: np.ndarray, offsets: np.ndarray) -> pa.Array:
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def _with_columns(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = pa.field(name, values.type, nullable=table.schema.field(at).nullable if at >= 0 else True)
        table = table.append_column(field, values) if at < 0 else table.set_column(at, field, values)
    return table
