"""Guesses by a second, smaller model of the same vocabulary: it writes ahead, the large one judges.

It has a cache of its own and reads what each request reads. What it wrote there itself counts as far as it
was right; the rest is written over. For a request that draws, it draws with the numbers that the request's
own next tokens will be drawn with: where both models think the same, they choose the same.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from puna.engine.draft import FIXED, RATE, ROWS, pays
from puna.engine.pages import Hold, Pages, common
from puna.engine.scheduler import next_rows
from puna.engine.step import Runner, Step
from puna.engine.task import Task

READ_S = 0.1  # its steps that read prompts take so long at most
MOST_READ = 256  # rows of one such step
SURE = 0.4  # it guesses what it holds for at least so probable
TRUST = 0.7  # that such a guess is right; at first, then as it goes
LARGEST = 0.5  # share of the large model's weights; from here on guesses never pay
REST = 32  # tokens without guesses when they do not pay; twice as many each time


@dataclass(eq=False)
class Reader:
    """The second model's side of one request."""

    task: Task
    hold: Hold
    begun: int = 0  # ids of the request when the guesses were made
    guesses: list[int] = field(default_factory=list)  # all but the last one are in its cache
    chance: float = 1.0  # that all of them are right
    trust: float = TRUST
    pause: int = REST
    rests: int = 0  # until the request has so many ids

    @property
    def unread(self) -> int:
        return len(self.hold.ids) - self.hold.length

    @property
    def writes(self) -> bool:
        """Whether the request writes next, and more than one token."""
        return self.task.work.unread == 1 and self.task.left > 1

    def add(self, guess: int) -> None:
        self.begun = len(self.hold.ids)
        self.guesses.append(guess)
        self.task.work.guess = list(self.guesses)


class ModelDrafts:
    """context: positions the second model was made for; share: its weights, of the large model's."""

    def __init__(self, runner: Runner, context: int, share: float):
        self.runner, self.context = runner, context
        self.price = 1 + share * (FIXED + 1)  # of a guess: a row, and a step of the second model
        self.least = min(0.95, 1.05 * self.price / (FIXED + 1))  # what trust must be for a guess to pay
        self.pages = Pages(runner.pages, runner.page)
        self.readers: dict[Task, Reader] = {}
        self._rows = 64  # of prompts in its next step

    def guess(self, tasks: Sequence[Task]) -> None:
        for task in [task for task in self.readers if task not in tasks]:
            self.end(task)  # it had to make room; what was read of it stays to be found
        for task in tasks:
            task.work.guess = []
            self._judge(task)
        writing = sum(task.work.unread == 1 for task in tasks)
        readers = [reader for task in tasks if (reader := self._reader(task, max(1, writing)))]
        active, logits = self._read(readers)
        self._write(active, logits, writing)

    def end(self, task: Task) -> None:
        if reader := self.readers.pop(task, None):
            self.pages.end(reader.hold)

    def _judge(self, task: Task) -> None:
        """Compare what was guessed with what was written; its cache holds what was right."""
        reader = self.readers.get(task)
        if reader is None or not reader.guesses:
            return
        written = task.ids[reader.begun :]
        right = common(reader.guesses, written)
        for index in range(min(right + 1, len(written), len(reader.guesses))):
            reader.trust += RATE * ((index < right) - reader.trust)
        self.pages.read(reader.hold, min(right, len(reader.guesses) - 1, len(written) - 1))
        reader.guesses, reader.chance = [], 1.0
        if right:
            reader.pause = REST
        if reader.trust < self.least:
            reader.rests, reader.pause = len(task.ids) + reader.pause, 2 * reader.pause
            reader.trust = self.least  # then one guess decides

    def _reader(self, task: Task, writing: int) -> Reader | None:
        """Who shall read on now, with room for it."""
        reader = self.readers.get(task)
        trust, rests = (reader.trust, reader.rests) if reader else (TRUST, 0)
        worth = writing < ROWS and pays(trust, writing, FIXED + writing, self.price)
        if not worth or rests > len(task.ids) or len(task.ids) > self.context:
            return None
        if reader is None and self.pages.missing(task.ids, len(task.ids) - 1) <= 0:
            reader = self.readers[task] = Reader(task, self.pages.begin(task.ids, len(task.ids) - 1))
            if reader.hold.copy:
                self.runner.copy(*reader.hold.copy)
        elif reader and not self.pages.room(reader.hold, len(task.ids)):
            self.end(task)
            return None
        return reader

    def _read(self, readers: Sequence[Reader]) -> tuple[list[Reader], np.ndarray]:
        """Read what is new of each, the shortest first; who may guess now, and the logits (guessing, V)."""
        counts: dict[Reader, int] = {}
        left = self._rows
        for reader in sorted(readers, key=lambda reader: reader.unread):
            counts[reader] = min(reader.unread, left)
            left -= counts[reader]
        counts = {reader: count for reader, count in counts.items() if count}
        active = [reader for reader, count in counts.items() if reader.writes and count == reader.unread]
        begun = time.monotonic()
        rows = {reader: reader.hold.ids[reader.hold.length :][:count] for reader, count in counts.items()}
        logits = self._step(rows, active)
        taken = time.monotonic() - begun
        self._rows = next_rows(self._rows, self._rows - left, taken, MOST_READ, READ_S)
        for reader, count in counts.items():
            self.pages.read(reader.hold, count)
        return active, logits

    def _write(self, active: list[Reader], logits: np.ndarray, writing: int) -> None:
        """Guess on and on, all of them together, as long as it pays."""
        rows, tokens = writing, float(writing)  # of the step to come: what it reads, what it should write
        while active:
            going = []
            for reader, row in zip(active, logits, strict=True):
                chance = reader.chance * reader.trust
                if rows < ROWS and pays(chance, tokens, FIXED + rows) and sureness(row) >= SURE:
                    reader.add(reader.task.sampler.foresee(row[: reader.task.size], len(reader.guesses)))
                    rows, tokens, reader.chance = rows + 1, tokens + chance, chance
                    going.append(reader)
            going = [
                reader
                for reader in going
                if rows < ROWS
                and pays(reader.chance * reader.trust, tokens, FIXED + rows, self.price)
                and self._has_room(reader)
            ]
            active, logits = going, self._step({reader: reader.guesses[-1:] for reader in going}, going)

    def _has_room(self, reader: Reader) -> bool:
        """Whether its last guess can be read, and one more be made."""
        end = reader.begun + len(reader.guesses)
        more = len(reader.guesses) + 1 < reader.task.left and end <= self.context
        return more and self.pages.room(reader.hold, end)

    def _step(self, rows: Mapping[Reader, Sequence[int]], wanted: Sequence[Reader]) -> np.ndarray:
        """Read these rows of each; logits (wanted, V) after the last one of some."""
        step = Step([], [0], [], [], [])
        for reader, ids in rows.items():
            step.held.append(reader.hold.length + max(0, len(reader.guesses) - 1))
            step.tokens.extend(ids)
            step.starts.append(len(step.tokens))
            step.pages.append(reader.hold.pages)
            if reader in wanted:
                step.wanted.append(len(step.tokens) - 1)
        return self.runner.run(step).logits if rows else np.empty((0, 0), np.float32)


def sureness(logits: np.ndarray) -> float:
    """The probability of the most probable."""
    return 1 / float(np.exp(logits - logits.max()).sum())
