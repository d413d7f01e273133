"""The rules FineWeb adds: pages whose lines are no sentences, too short, or there twice.

Of Penedo and others, "The FineWeb Datasets" (2024), section 3.5: thresholds found where the statistics of
good and bad crawls part. Lines are without the white space around them, blank ones not counted.
"""

import pyarrow as pa

from puna.data.document import text_buffers
from puna.data.stage import Gate, Verdict, first_reason
from puna.kernels.counters import counters


class FineWeb(Gate):
    """What is left of menus, lists and tables."""

    name = "quality.fineweb"
    reasons = (
        "quality.fineweb.few_terminal_lines",
        "quality.fineweb.short_lines",
        "quality.fineweb.duplicate_lines",
        "quality.fineweb.many_lines",
    )

    least_terminal_lines: float = 0.12  # share of the lines that end a sentence
    short_line: int = 30  # characters, this many still short
    most_short_lines: float = 0.67  # share of the lines
    most_duplicate_characters: float = 0.01  # in lines that were there before, of all but line feeds
    most_lines_to_words: float = 0.3  # line feeds to words and symbols

    def __call__(self, table: pa.Table) -> Verdict:
        count = counters(*text_buffers(table), short_line=self.short_line, repeats=False)
        lines = count["lines"].clip(1)
        terminal, short = count["terminal_lines"] / lines, count["short_lines"] / lines
        characters = (count["characters"] - count["newlines"]).clip(1)
        again = count["duplicate_line_characters"] / characters
        feeds = count["newlines"] / (count["words"] + count["symbols"]).clip(1)
        rules = [
            (terminal < self.least_terminal_lines, 0, terminal),
            (short > self.most_short_lines, 1, short),
            (again > self.most_duplicate_characters, 2, again),
            (feeds > self.most_lines_to_words, 3, feeds),
        ]
        return first_reason(len(table), rules)
