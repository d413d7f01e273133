"""A runner whose model is a hash: the logits after a position are made of all ids that its pages hold up to
there, so one wrong page, anywhere, shows in the next token.
"""

from itertools import pairwise

import numpy as np

from puna.engine.step import Outcome
from puna.model.config import ModelConfig

ROWS = np.random.default_rng(0).normal(size=(4096, 264)).astype(np.float32) * 3
SALT = 1000  # times an adapter, added to each id that is read with it


def logits_after(ids, poison=None, salt=0):
    """What the hash says after these ids, read with an adapter that is a salt: (V,)."""
    ids = [id + salt * SALT for id in ids]
    if poison in [id % SALT for id in ids]:
        return np.full(ROWS.shape[1], np.nan, np.float32)
    return ROWS[hash(tuple(ids)) % len(ROWS)]


class HashRunner:
    """fails: called before each step; true: the step fails, half-way."""

    logits = staticmethod(logits_after)

    def __init__(self, pages, page, poison=None, fails=lambda: False):
        self.pages, self.page, self.size = pages, page, ROWS.shape[1]
        self.poison, self.fails = poison, fails
        self.cache = np.full((pages, page), -1)
        self.steps, self.rows = 0, 0
        self.salts = {0: 0}

    def run(self, step):
        self.steps, self.rows = self.steps + 1, self.rows + len(step.tokens)
        assert (
            step.starts[0] == 0 and step.starts[-1] == len(step.tokens) and step.wanted == sorted(step.wanted)
        )
        ends = [
            held + stop - start for (start, stop), held in zip(pairwise(step.starts), step.held, strict=True)
        ]
        self._write(step, ends)
        if self.fails():
            raise RuntimeError("the step failed")
        return Outcome(self._rows(step, step.wanted), self._rows(step, step.hidden))

    def put_adapter(self, number, salt):
        self.salts[number] = salt

    def drop_adapter(self, number):
        del self.salts[number]

    def copy(self, source, target):
        self.cache[target] = self.cache[source]

    def _write(self, step, ends):
        users = [number for pages in step.pages for number in set(pages)]
        salts = [self.salts[number] for number in step.adapters or [0] * len(ends)]
        for (start, stop), held, end, pages, salt in zip(
            pairwise(step.starts), step.held, ends, step.pages, salts, strict=True
        ):
            assert stop > start and end <= len(pages) * self.page and len(set(pages)) == len(pages)
            for row, at in zip(range(start, stop), range(held, end), strict=True):
                assert users.count(pages[at // self.page]) == 1, (
                    "a page has one writer and then no other reader"
                )
                self.cache[pages[at // self.page], at % self.page] = step.tokens[row] + salt * SALT

    def _rows(self, step, asked):
        return np.stack([self._row(step, row) for row in asked] or [ROWS[0]])[: len(asked)].copy()

    def _row(self, step, row):
        index = next(i for i, (a, b) in enumerate(pairwise(step.starts)) if a <= row < b)
        held = self.cache[step.pages[index]].flatten()[: step.held[index] + row - step.starts[index] + 1]
        return self.logits(held.tolist(), self.poison)


def hash_config(context):
    """A model's shape, of which only the context matters."""
    return ModelConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=8,
        vocab_size=ROWS.shape[1],
        max_position_embeddings=context,
    )
