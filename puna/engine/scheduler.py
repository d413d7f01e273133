"""What the next step reads, and who waits for what. Plain Python, and nothing here depends on a clock.

Every running request that writes gets one row a step, and rows for what it is guessed to write next; what is
left of the step's rows is shared by prompts that are being read, so a long prompt stops nobody's writing. The
larger priority goes first, and among equals who came first. When pages run out, what ended requests left goes
first; then the request that goes last stops: its pages become the tree's, it waits, and reads again what of
them is gone by then.

A deadlock cannot be: the request that goes first can have all pages but its own, and each fits alone.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from puna.engine.pages import Hold, Pages
from puna.engine.step import Step

FEWEST = 16  # rows of a prompt: fewer take a step as long
SCORED = 64  # prompt rows a step whose logits are all wanted: (64, 128_256) fp32 are 33 MB


@dataclass(eq=False)
class Work:
    """One request as the scheduler sees it. Whoever writes appends to `ids`."""

    id: str  # the request's
    ids: list[int]  # prompt and answer
    priority: int = 0  # larger first
    scored: int | None = None  # ids of the prompt that are scored already, of all; None: none need be
    pooled: int | None = (
        None  # ids of the prompt whose hidden states are had, or not asked for; None: all of them
    )
    adapter: int = 0  # 0: none
    prompt: int = field(init=False)  # how many of the ids are the prompt
    arrival: int = 0
    marks: list[int] = field(default_factory=list)  # one for each full page of the prompt and all before it
    hold: Hold | None = None  # while it runs
    cached: int | None = None  # of the prompt, not read because it was; known once it runs
    guess: list[int] = field(default_factory=list)  # what it may write next (draft.py): read along with it
    waits: str = "it came after the last step began"  # why it does not run

    def __post_init__(self) -> None:
        self.prompt = len(self.ids)

    @property
    def rank(self) -> tuple[int, int]:
        """Who goes first has the least."""
        return -self.priority, self.arrival

    @property
    def unread(self) -> int:
        """Ids that the cache does not hold; 1: the next row writes."""
        return len(self.ids) - (self.hold.length if self.hold else 0)

    @property
    def asked(self) -> int:
        """The first position that something is wanted of: the last, or the first that scores the prompt.

        What comes before need not be read again if it was.
        """
        if self.pooled is not None:
            return self.pooled
        last = len(self.ids) - 1
        return last if self.scored is None or self.scored >= self.prompt else self.scored - 1


@dataclass(frozen=True)
class Part:
    """One request's share of a step: its next `count` ids, then its guesses; where its wanted rows begin.

    `wanted` rows are asked for logits; or, of one that is pooled, so many `hidden` for their states.
    """

    work: Work
    count: int
    first: int
    wanted: int
    hidden: int


Copy = tuple[Work, int, int]  # for whom, source, target


@dataclass(frozen=True)
class Plan:
    """A step, whose rows are whose, and the pages to copy before it, in this order."""

    step: Step
    parts: list[Part]
    copies: list[Copy]
    prompt_rows: int


class Scheduler:
    """Plans steps of at most `rows` rows for at most `together` requests that run at once."""

    def __init__(self, pages: Pages, rows: int, together: int):
        assert 0 < together <= rows
        self.pages, self.rows, self.together = pages, rows, together
        self.waiting: list[Work] = []  # both: who goes first comes first
        self.running: list[Work] = []
        self.stopped = 0  # how often one that ran had to wait again
        self._arrivals = 0

    def add(self, work: Work) -> None:
        """Let it wait for its turn. It must fit into the cache alone."""
        work.arrival, self._arrivals = self._arrivals, self._arrivals + 1
        work.marks = marks(work.ids, self.pages.size, work.adapter)
        insort(self.waiting, work, key=_rank)

    def end(self, work: Work, *, keep: bool = True) -> None:
        """It is over, running or not. keep: others may find what it has read."""
        (self.waiting if work.hold is None else self.running).remove(work)
        self._leave(work, keep)

    def plan(self, prompt_rows: int) -> Plan | None:
        """The next step, with at most so many rows of prompts. None: there is nothing to do."""
        copies = self._admit()
        counts: dict[Work, int] = {}
        for work in tuple(self.running):
            if work.hold is not None and work.unread == 1 and self._room(work):
                counts[work] = 1
        guessed = self._room_for_guesses(counts)
        prompts = self._chunks(min(prompt_rows, self.rows - len(counts) - guessed))
        counts |= prompts
        return self._planned(counts, copies, sum(prompts.values())) if counts else None

    def read(self, plan: Plan) -> None:
        """The step was made: the cache holds what it read."""
        for part in plan.parts:
            assert part.work.hold is not None
            self.pages.read(part.work.hold, part.count)

    def accept(self, work: Work, count: int) -> None:
        """So many of its guesses were right, and are among its ids now: what was read of them counts."""
        assert work.hold is not None
        self.pages.read(work.hold, count)

    def _admit(self) -> list[Copy]:
        """Let those run that can; the pages to copy for them.

        Nobody is overtaken, save who waits for another to read what both begin with.
        """
        copies: list[Copy] = []
        before = ""
        for work in tuple(self.waiting):
            work.waits = before or self._obstacle(work)
            if not work.waits:
                copies += self._begin(work)
            elif not before and work.waits != _BEING_READ:
                before = "others wait before it"
        return copies

    def _obstacle(self, work: Work) -> str:
        """Why this request cannot run now, though lower priorities make room for it. Empty: it can."""
        while True:
            reason = self._full(work)
            if reason and self.running[-1].priority >= work.priority:
                return reason
            if any(self._reads_beginning(other, work) for other in self.running):
                return _BEING_READ
            if not reason:
                return ""
            self._stop(self.running[-1])

    def _full(self, work: Work) -> str:
        if len(self.running) >= self.together:
            return f"{self.together} requests run, and no more may"
        spare = len(self.running)  # a page for each, or this one would have to stop again at once
        missing = self.pages.missing(work.ids, work.asked, work.adapter) + spare
        return f"the cache is too full: {missing:,} pages are missing" if missing > 0 else ""

    def _reads_beginning(self, other: Work, work: Work) -> bool:
        """Whether this other one is about to read pages that the work begins with, too."""
        if other.hold is None or other.priority < work.priority or other.scored or work.scored:
            return False
        shared = min(_alike(other.marks, work.marks), work.asked // self.pages.size)
        return other.hold.length < shared * self.pages.size

    def _begin(self, work: Work) -> list[Copy]:
        work.hold = self.pages.begin(work.ids, work.asked, work.adapter)
        if work.cached is None:
            work.cached = work.hold.length
        self.waiting.remove(work)
        insort(self.running, work, key=_rank)
        return [(work, *work.hold.copy)] if work.hold.copy else []

    def _room(self, work: Work) -> bool:
        """Make room for its next id; who goes last stops for it, itself at the worst."""
        while work.hold is not None and not self.pages.room(work.hold, len(work.ids)):
            self._stop(self.running[-1])
        return work.hold is not None

    def _room_for_guesses(self, writers: Iterable[Work]) -> int:
        """Make room for guesses, as far as there is any: nobody stops for it. How many rows they take."""
        most, taken = self.rows - len(self.running), 0
        for work in writers:
            assert work.hold is not None
            work.guess = work.guess[: most - taken]
            if work.guess and not self.pages.room(work.hold, len(work.ids) + len(work.guess)):
                work.guess = []
            taken += len(work.guess)
        return taken

    def _stop(self, work: Work) -> None:
        self.running.remove(work)
        self._leave(work, keep=True)
        insort(self.waiting, work, key=_rank)
        work.waits = "it had to make room for another"
        self.stopped += 1

    def _leave(self, work: Work, keep: bool) -> None:
        if work.hold is not None:
            (self.pages.end if keep else self.pages.forget)(work.hold)
            work.hold, work.guess = None, []

    def _chunks(self, left: int) -> dict[Work, int]:
        """How much is read of each prompt: higher priorities first, equals share."""
        counts: dict[Work, int] = {}
        scored = SCORED
        readers = (work for work in self.running if work.unread > 1)
        for _, group in groupby(readers, key=lambda work: work.priority):
            equals = list(group)
            for work, count in zip(equals, shares([work.unread for work in equals], left), strict=True):
                left -= count
                if work.pooled is None and work.asked < len(work.ids) - 1:
                    count = min(count, scored)
                    scored -= count
                if count:
                    counts[work] = count
        return counts

    def _planned(self, counts: dict[Work, int], copies: list[Copy], prompt_rows: int) -> Plan:
        step = Step([], [0], [], [], [])
        works = sorted(
            counts, key=lambda work: work.adapter
        )  # side by side an adapter's weights are read once
        parts = []
        for work in works:
            assert work.hold is not None
            count = counts[work]
            here, row = work.hold.length, len(step.tokens)
            first = max(here, work.asked)
            step.tokens.extend(work.ids[here : here + count] + work.guess)
            end = len(step.tokens)
            asked = range(row + first - here, end)
            wanted, hidden = (asked, ()) if work.pooled is None else ((), asked)
            step.wanted.extend(wanted)
            step.hidden.extend(hidden)
            step.starts.append(end)
            step.held.append(here)
            step.pages.append(work.hold.pages)
            step.adapters.append(work.adapter)
            parts.append(Part(work, count, first, len(wanted), len(hidden)))
        return Plan(step, parts, copies, prompt_rows)


_BEING_READ = "another request reads its beginning just now"


def _rank(work: Work) -> tuple[int, int]:
    return work.rank


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many marks two begin with together: a mark stands for all before it, so halving finds it."""
    both = range(min(len(one), len(other)))
    return bisect_left(both, True, key=lambda at: one[at] != other[at])


def marks(ids: Sequence[int], size: int, adapter: int = 0) -> list[int]:
    """One number for each full page, of the adapter, its ids and all before; equal ones may, seldom, lie."""
    found: list[int] = []
    for at in range(0, len(ids) - size + 1, size):
        found.append(hash((found[-1] if found else adapter, *ids[at : at + size])))
    return found


def shares(unread: Sequence[int], rows: int) -> list[int]:
    """So many rows for each of several prompts: even shares of at least FEWEST, and none is left idle."""
    given = [0] * len(unread)
    for index, count in enumerate(unread):
        given[index] = min(count, rows, max(FEWEST, rows // (len(unread) - index)))
        rows -= given[index]
    for index, count in enumerate(unread):  # what short ones did not need, in the order of arrival
        more = min(count - given[index], rows)
        given[index] += more
        rows -= more
    return given


def next_rows(bound: int, read: int, seconds: float, most: int, target: float = 0.25) -> int:
    """How many rows of prompts the next step may read, after one that read `read` of at most `bound`.

    A step that took longer than `target` seconds makes it less, one that was full and quicker makes it more,
    twice as many at most; never under FEWEST, so that reading goes on beside many that write.
    """
    if read and seconds > target:
        return max(FEWEST, min(bound, int(read * target / seconds)))
    if read >= bound:
        return min(most, max(bound + 1, int(read * min(2.0, target / max(seconds, 1e-9)))))
    return bound
