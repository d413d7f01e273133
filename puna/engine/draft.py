"""Guesses of what a request writes next, read along with it: the right ones cost no step of their own.

A step reads all weights once, for one row or for eight, so a few rows more are cheap. Whether a guess is
right, the row before it decides (task.py): guesses change when a token is written, never which.

Who guesses here looks up what stood after the same few ids before, in the prompt or in the answer: code that
is repeated with one name changed, a quoted sentence, the keys of JSON. Nothing is computed for it.
"""

from collections.abc import Sequence
from typing import Protocol

from puna.engine.task import Task

# Measured on one core, SmolLM2 (docs/log.md, 2026-11-22): rows 2 to 8 take a fifth of the first one's time
# each, the ninth three fifths.
ROWS = 8  # of all requests that write, guesses among them
FIXED = 4  # rows' time that a step takes before its first row
LENGTHS = (4, 2)  # ids that are looked up, longest first; (2,) finds 2% less, (8, 4, 2) no more
AT_ONCE = 2048  # ids that are taken in before a step: a long prompt stops nobody's writing
RATE = 0.1  # how fast a chance follows what happens
CHANCES = (0.2, 0.2, 0.3, 0.6, 0.8, 0.9)  # to be right after 0, 1, 2, 4, 8 or 16 right ones; at first


class Drafts(Protocol):
    """Who guesses. The engine's thread asks before each step."""

    def guess(self, tasks: Sequence[Task]) -> None:
        """Set `task.work.guess` of each of these, all that run: what those that write may write next."""
        ...

    def end(self, task: Task) -> None:
        """This one is over."""
        ...


def pays(chance: float, tokens: float, cost: float, price: float = 1.0) -> bool:
    """Whether one more guess, right with this chance, lets a step write more tokens in its time.

    tokens: what it is expected to write without; cost: its time, price: the guess's, both in rows' time.
    """
    return chance * cost > tokens * price


class Lookup:
    """Guesses by what followed before. Keeps a trail for each request that runs."""

    def __init__(self) -> None:
        self.trails: dict[Task, Trail] = {}

    def guess(self, tasks: Sequence[Task]) -> None:
        known = []
        for task in tasks:
            task.work.guess = []
            if task.left > 1:
                trail = self.trails.get(task) or self.trails.setdefault(task, Trail(task))
                if trail.follow() and trail.at and task.work.unread == 1:
                    known.append(trail)
        _share(known, sum(task.work.unread == 1 for task in tasks))

    def end(self, task: Task) -> None:
        self.trails.pop(task, None)


class Trail:
    """What one request read and wrote, by its last few ids: where these stood before is what may come next.

    How often that was right is known though it was never read, as it is compared with whatever is written.
    """

    def __init__(self, task: Task):
        self.task = task
        self.text: list[int] = []  # prompt, prediction, answer
        self.taken = 0  # of the task's ids
        self.after: list[dict[int, int]] = [{} for _ in LENGTHS]  # of ids -> the place of what followed
        self.at = 0  # the place of what may come next; 0: nothing is known
        self.run = 0  # so many ids before it were right
        self.chances = list(CHANCES)

    def follow(self) -> bool:
        """Take in what is new. False: there is more."""
        ids, prompt = self.task.ids, len(self.task.request.ids)
        for id in ids[self.taken : self.taken + AT_ONCE]:
            self._add(id, self.taken >= prompt)
            self.taken += 1
            if self.taken == prompt and self.task.request.prediction:
                self._predict(self.task.request.prediction)
        return self.taken == len(ids)

    def chance(self, count: int) -> float:
        """That the next guess is right, if so many before it were."""
        return self.chances[min(self.run + count, 16).bit_length()]

    def guesses(self, count: int) -> list[int]:
        """So many ids from the place on; where it comes to the end, it goes on with what it gave."""
        found = self.text[self.at : self.at + count]
        while len(found) < count:
            found.append(found[len(found) - (len(self.text) - self.at)])
        return found

    def _add(self, id: int, written: bool) -> None:
        if self.at:
            right = self.text[self.at] == id
            if written:
                level = min(self.run, 16).bit_length()
                self.chances[level] += RATE * (right - self.chances[level])
            self.at, self.run = (self.at + 1, self.run + 1) if right else (0, 0)
        self.text.append(id)
        for length, after in zip(LENGTHS, self.after, strict=True):
            key = hash(tuple(self.text[-length:]))
            before = after.get(key, 0)
            after[key] = len(self.text)
            if before and self.run < length:
                self.at, self.run = before, length

    def _predict(self, prediction: Sequence[int]) -> None:
        """The answer may be like this: it is where the first guesses come from."""
        begin = len(self.text)
        for id in prediction:
            self._add(id, written=False)
        self.at, self.run = begin, 8


def _share(trails: Sequence[Trail], rows: int) -> None:
    """Give each the guesses that pay: of all the likeliest first."""
    counts = dict.fromkeys(trails, 0)
    chances = {trail: trail.chance(0) for trail in trails}
    tokens = float(rows)
    while chances and rows < ROWS:
        best = max(chances, key=chances.__getitem__)
        if not pays(chances[best], tokens, FIXED + rows):
            break
        tokens, rows, counts[best] = tokens + chances[best], rows + 1, counts[best] + 1
        if counts[best] + 1 < best.task.left:
            chances[best] *= best.chance(counts[best])
        else:
            del chances[best]
    for trail, count in counts.items():
        trail.task.work.guess = trail.guesses(count)
