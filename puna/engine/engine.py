"""The engine: requests come in from any thread, one thread reads and writes for all of them, events go out.

A step is planned (scheduler.py), made by the runner (step.py), and gives each request that writes one
token; prompts are read beside that, in chunks that keep a step short. The cache's pages are shared by what
begins alike (pages.py). What a request gets depends on nothing that runs beside it.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Self

import numpy as np

from puna import log
from puna.engine.adapters import Adapters
from puna.engine.draft import Drafts
from puna.engine.grammar import Guides
from puna.engine.pages import Pages
from puna.engine.request import Event, Finish, Request
from puna.engine.scheduler import Plan, Scheduler, next_rows
from puna.engine.step import Outcome, Runner
from puna.engine.task import Task, Vocabulary
from puna.errors import PunaError, RequestError, need
from puna.model.config import ModelConfig
from puna.model.lora import Adapter

FIRST_ROWS = 64  # of prompts in the first step, when nothing is measured yet
Deliver = Callable[[Event], None]


class Engine:
    """Serves one model. `submit` gives a stream of events; `begin` hands them to a function instead.

    context: positions a request may take, prompt and answer together; None: what the model was made for,
    as far as the cache reaches. rows: read at most in a step. together: requests that run at once; waiting:
    how many more may be there. drafts: who guesses what comes next; None: nobody. To be set before the first
    request.
    """

    drafts: Drafts | None = None

    def __init__(
        self,
        runner: Runner,
        config: ModelConfig,
        tokenizer: Vocabulary,
        *,
        context: int | None = None,
        rows: int = 512,
        together: int = 64,
        waiting: int = 256,
    ):
        self.context = _context(context, config.max_position_embeddings, runner.pages * runner.page)
        need(
            0 < together <= rows and waiting > 0,
            f"{together} requests at once, {waiting} that wait and {rows} rows a step are not possible",
            "at least one of each, and a row for each request that runs",
        )
        self.runner, self.config, self.tokenizer = runner, config, tokenizer
        self.size = min(runner.size, tokenizer.size)  # models pad it; padding is not written
        self.rows, self.together, self.waiting = rows, together, waiting
        self.guides = Guides(tokenizer)
        self.pages = Pages(runner.pages, runner.page)
        self.adapters = Adapters(runner, self.pages)
        self.scheduler = Scheduler(self.pages, rows, together)
        self._prompt_rows = min(FIRST_ROWS, rows)
        self._changed = threading.Condition()
        self._tasks: dict[str, Task] = {}  # all that have not ended
        self._arrived: list[Task] = []  # those of them that the scheduler does not know yet
        self._orders: list[tuple[Callable[[], None], Future[None]]] = []  # to be done between two steps
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="puna-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> "Stream":
        """Begin a request; iterate over its events. RequestError at once for one that cannot be served."""
        arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        return Stream(request.id, arrived, self.begin(request, arrived.put))

    def begin(self, request: Request, deliver: Deliver) -> Callable[[], None]:
        """As submit, but the engine's thread calls `deliver` with each event; it must return quickly.

        Gives the function that cancels this request.
        """
        self.check(request)
        guide = self.guides.guide(request.grammar) if request.grammar else None
        task = Task(request, deliver, self.context, self.tokenizer, self.size, guide)
        with self._changed:
            task.work.adapter = self.adapters.number(request.adapter)
            if self._closed:
                raise RequestError("the engine is closed", 503, "engine_closed")
            need(
                request.id not in self._tasks,
                f"a request {request.id!r} is still running",
                error=RequestError,
            )
            if len(self._tasks) >= self.together + self.waiting:
                raise RequestError(
                    f"the engine is busy: {self.waiting} requests wait already\n  try: again in a moment",
                    429,
                    "queue_full",
                )
            self._tasks[request.id] = task
            self._arrived.append(task)
            self._changed.notify()
        return task.cancel

    def cancel(self, request_id: str) -> None:
        """End a request soon, with finish "cancelled"; what it read stays. Unknown ids are no error."""
        with self._changed:
            if task := self._tasks.get(request_id):
                task.cancel()

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Let requests name this adapter. Not to be called by who gets events: it waits for the thread."""
        self._order(partial(self.adapters.put, name, adapter))

    def remove_adapter(self, name: str) -> None:
        """Let no new request name it; those that run keep it to their end."""
        self._order(partial(self._leave, name))

    def waits(self) -> dict[str, str]:
        """Of each request that does not run now: its id, and why."""
        with self._changed:
            return {id: task.work.waits for id, task in self._tasks.items() if task.work.hold is None}

    def close(self) -> None:
        """Cancel everything and stop. Every stream gets its last event. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closed

    @property
    def running(self) -> int:
        """How many requests have not ended: those served and those that wait."""
        with self._changed:
            return len(self._tasks)

    def check(self, request: Request) -> None:
        """RequestError if this request could never be served; says what, where and what to try."""
        need(request.ids, "the prompt is empty", "at least one token", RequestError)
        _check_ids((*request.ids, *request.prediction), self.size)
        _check_settings(request, self.size)
        self.adapters.number(request.adapter)
        wanted = len(request.ids) + (request.max_tokens != 0)
        if wanted > self.context:
            raise RequestError(
                f"the prompt has {len(request.ids):,} tokens; with at least one to write, the context "
                f"of {self.context:,} is too short\n  try: a shorter prompt, or a longer context",
                code="context_length_exceeded",
            )
        if request.grammar:
            self.guides.guide(request.grammar)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        """The one thread that touches the runner."""
        try:
            while self._wait():
                self._obey()
                self._end_cancelled()
                self._guess()
                plan = self.scheduler.plan(self._prompt_rows)
                if plan is not None:
                    self._make(plan)
        finally:  # also if a listener of the log fails: nobody may wait for ever
            self._closed = True
            self._obey()
            self._take_in()
            for task in tuple(self._tasks.values()):
                task.cancel()
            self._end_cancelled()

    def _wait(self) -> bool:
        """Wait until there is something to do, and take in what came. False: the engine closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._orders or self._closed)
        if not self._closed:
            self._take_in()
        return not self._closed

    def _order(self, act: Callable[[], None]) -> None:
        """Have the engine's thread do this between two steps; what it raises is raised here."""
        done: Future[None] = Future()
        assert threading.current_thread() is not self._thread, "it would wait for itself"
        with self._changed:
            if self._closed:
                raise RequestError("the engine is closed", 503, "engine_closed")
            self._orders.append((act, done))
            self._changed.notify()
        done.result()

    def _obey(self) -> None:
        with self._changed:
            orders, self._orders = self._orders, []
        for act, done in orders:
            try:
                done.set_result(act())
            except Exception as problem:  # broad, too: it is raised again where the order was given
                done.set_exception(problem)

    def _leave(self, name: str) -> None:
        with self._changed:
            self.adapters.leave(name)
            self.adapters.drop({task.work.adapter for task in self._tasks.values()})

    def _take_in(self) -> None:
        with self._changed:
            arrived, self._arrived = self._arrived, []
        for task in arrived:
            self.scheduler.add(task.work)
            if task.is_done and not task.cancelled:
                self._advance(task, partial(task.last_event, "length"))

    def _end_cancelled(self) -> None:
        with self._changed:
            tasks = [task for task in self._tasks.values() if task.cancelled and task not in self._arrived]
        for task in tasks:
            self._advance(task, partial(task.last_event, "cancelled"))

    def _guess(self) -> None:
        """Let what running requests may write next be guessed. Who cannot is not asked again."""
        if self.drafts is None:
            return
        tasks = [self._tasks[work.id] for work in self.scheduler.running]
        try:
            self.drafts.guess(tasks)
        except Exception:  # broad, too: nobody's answer depends on it
            log.event("engine.error", drafts=type(self.drafts).__name__, traceback=traceback.format_exc())
            self.drafts = None
            for task in tasks:
                task.work.guess = []

    def _make(self, plan: Plan) -> None:
        """Make one step. If it fails, all requests of it end with the error; the others go on."""
        begun = time.monotonic()
        try:
            for _, source, target in plan.copies:
                self.runner.copy(source, target)
            outcome = self.runner.run(plan.step)
        except Exception as problem:  # broad: whatever a runner stumbles over, this thread must go on
            said = _said(problem)
            log.event("engine.error", step=len(plan.step.tokens), traceback=traceback.format_exc())
            works = [part.work for part in plan.parts] + [work for work, _, _ in plan.copies]
            for id in {work.id: None for work in works}:
                self._advance(self._tasks[id], partial(self._tasks[id].failed, said))
            return
        taken = time.monotonic() - begun
        self._prompt_rows = next_rows(self._prompt_rows, plan.prompt_rows, taken, self.rows)
        self.scheduler.read(plan)
        self._hand_out(plan, outcome)

    def _hand_out(self, plan: Plan, outcome: Outcome) -> None:
        """Give each request its rows of the logits (wanted, V) or hidden states (hidden, D)."""
        logits = np.split(outcome.logits, np.cumsum([part.wanted for part in plan.parts])[:-1])
        hidden = np.split(outcome.hidden, np.cumsum([part.hidden for part in plan.parts])[:-1])
        for part, rows, states in zip(plan.parts, logits, hidden, strict=True):
            task = self._tasks[part.work.id]
            if part.wanted:
                self._advance(task, partial(self._take, task, rows, part.first))
            elif part.hidden:
                self._advance(task, partial(task.pool, states))

    def _take(self, task: Task, rows: np.ndarray, first: int) -> Event | None:
        """What a request makes of its rows. What was guessed right is read already."""
        event = task.take(rows, first)
        if event and event.ids:
            self.scheduler.accept(task.work, len(event.ids) - 1)
        return event

    def _advance(self, task: Task, act: Callable[[], Event | None]) -> None:
        """Let one request go on, and tell what is new. What goes wrong in it ends it alone."""
        try:
            event = act()
        except Exception as problem:  # the other broad one: this thread must go on for the others
            log.event("engine.error", request=task.request.id, traceback=traceback.format_exc())
            event = task.failed(_said(problem))
        if event and event.finish:
            self._forget(task, event.finish)
        if event:
            self._tell(task, event)

    def _forget(self, task: Task, finish: Finish) -> None:
        """The request is over. What it read is kept for the next, unless it went wrong."""
        self.scheduler.end(task.work, keep=finish != "error")
        if self.drafts is not None:
            self.drafts.end(task)
        with self._changed:
            del self._tasks[task.request.id]
            if task.work.adapter:
                self.adapters.drop({other.work.adapter for other in self._tasks.values()})

    def _tell(self, task: Task, event: Event) -> None:
        """Whoever listens may be gone (a closed event loop): then nobody wants the rest."""
        try:
            task.deliver(event)
        except Exception as problem:
            task.cancel()
            log.event("engine.undelivered", request=task.request.id, problem=repr(problem))


class Stream(Iterator[Event]):
    """One request's events; the last one has `finish`. Closing or dropping the stream cancels the request."""

    def __init__(self, request_id: str, arrived: "queue.SimpleQueue[Event]", cancel: Callable[[], None]):
        self.id, self.arrived, self.cancel, self.over = request_id, arrived, cancel, False

    def __next__(self) -> Event:
        if self.over:
            raise StopIteration
        event = self.arrived.get()
        self.over = event.finish is not None
        return event

    def close(self) -> None:
        """Cancel the request if it still runs. Events that came, and the last one, can still be read."""
        self.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.cancel()


def _context(asked: int | None, made_for: int, held: int) -> int:
    """Positions that a request may take, so that each fits into the cache alone."""
    context = min(made_for, held) if asked is None else asked
    need(
        0 < context <= made_for,
        f"a context of {context:,} is not possible: the model was made for {made_for:,} positions",
        f"1 to {made_for:,}",
    )
    need(
        context <= held,
        f"a context of {context:,} is not possible: the cache holds {held:,} positions",
        f"1 to {held:,}, or a larger cache",
    )
    return context


def _said(problem: Exception) -> str:
    return str(problem) if isinstance(problem, PunaError) else f"{type(problem).__name__}: {problem}"


def _check_ids(ids: Sequence[int], size: int) -> None:
    if min(ids) < 0 or max(ids) >= size:
        outside = next(id for id in ids if not 0 <= id < size)
        raise RequestError(f"{outside} is no token of this model; it knows 0 to {size - 1}")


def _check_settings(request: Request, size: int) -> None:
    outside = next((id for id in request.sampling.logit_bias if not 0 <= id < size), None)
    need(
        outside is None,
        f"logit_bias: {outside} is no token of this model; it writes 0 to {size - 1}",
        error=RequestError,
    )
    for name, value in {"max_tokens": request.max_tokens, "logprobs": request.logprobs}.items():
        need(value is None or value >= 0, f"{name}: {value} is below 0", error=RequestError)
    alone = request.max_tokens == 0 and not request.prompt_logprobs
    need(
        request.embed is None or alone,
        "embed: a vector comes alone, without text or scores",
        "max_tokens=0, prompt_logprobs=False",
        RequestError,
    )
    need(all(request.stop), "stop: an empty string would end every answer", error=RequestError)
