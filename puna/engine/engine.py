"""The engine: requests come in from any thread, one thread reads and writes for all of them, events go out.

Requests being served take turns: a turn reads one chunk of a prompt or writes one token, so a long prompt
does not silence a short answer. The others wait in a queue with an end. Nothing is batched here: this
engine is the definition that faster ones are held to.
"""

import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from torch import Tensor

from puna import hardware, log
from puna.engine.prefix import Prefixes
from puna.engine.request import Event, Finish, Request
from puna.engine.runner import Cancelled, TorchRunner
from puna.engine.sample import score
from puna.engine.task import Task, Vocabulary
from puna.errors import PunaError, RequestError, need
from puna.model.attend import Memory
from puna.model.transformer import Llama

CHUNK = 512  # prompt positions a turn reads
SCORED_CHUNK = 64  # the same where every position's logits are wanted: (64, 128_256) fp32 are 33 MB
Deliver = Callable[[Event], None]


class Engine:
    """Serves one model. `submit` gives a stream of events; `begin` hands them to a function instead.

    context: positions a request may take, prompt and answer together; None: what the model was made for.
    together: requests that take turns; waiting: how many more may stand in the queue.
    kept_bytes: for the memories of ended requests; None: a quarter of the free memory.
    """

    def __init__(
        self,
        model: Llama,
        tokenizer: Vocabulary,
        *,
        context: int | None = None,
        together: int = 4,
        waiting: int = 64,
        kept_bytes: int | None = None,
    ):
        made_for = model.config.max_position_embeddings
        self.context = made_for if context is None else context
        need(
            0 < self.context <= made_for,
            f"a context of {self.context:,} is not possible: the model was made for {made_for:,} positions",
            f"1 to {made_for:,}",
        )
        need(together > 0 and waiting > 0, "an engine that serves no request is of no use")
        self.runner, self.config, self.tokenizer = TorchRunner(model), model.config, tokenizer
        self.size = min(model.config.vocab_size, tokenizer.size)  # models pad it; padding is not written
        self.together, self.waiting = together, waiting
        self.prefixes = Prefixes(_quarter_of_memory() if kept_bytes is None else kept_bytes)
        self._changed = threading.Condition()
        self._tasks: dict[str, Task] = {}  # all that have not ended
        self._queue: deque[Task] = deque()
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
        task = Task(request, deliver, self.context, self.tokenizer, self.size)
        with self._changed:
            if self._closed:
                raise RequestError("the engine is closed", 503, "engine_closed")
            need(
                request.id not in self._tasks,
                f"a request {request.id!r} is still running",
                error=RequestError,
            )
            if len(self._queue) >= self.waiting:
                raise RequestError(
                    f"the engine is busy: {self.waiting} requests wait already\n  try: again in a moment",
                    429,
                    "queue_full",
                )
            self._tasks[request.id] = task
            self._queue.append(task)
            self._changed.notify()
        return task.cancel

    def cancel(self, request_id: str) -> None:
        """End a request soon, with finish "cancelled"; what it read stays. Unknown ids are no error."""
        with self._changed:
            if task := self._tasks.get(request_id):
                task.cancel()

    def close(self) -> None:
        """Cancel everything and stop. Every stream gets its last event. May be called twice."""
        with self._changed:
            self._closed = True
            for task in self._tasks.values():
                task.cancel()
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
        _check_ids(request.ids, self.size)
        _check_settings(request, self.size)
        wanted = len(request.ids) + (request.max_tokens != 0)
        if wanted > self.context:
            raise RequestError(
                f"the prompt has {len(request.ids):,} tokens; with at least one to write, the context "
                f"of {self.context:,} is too short\n  try: a shorter prompt, or a longer context",
                code="context_length_exceeded",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        """The one thread that touches the model."""
        active: deque[Task] = deque()
        try:
            while self._admit(active):
                task = active.popleft()
                if not self._turn(task):
                    active.append(task)
        finally:  # also if a listener of the log fails: nobody may wait for ever
            self._closed = True
            for task in tuple(self._tasks.values()):
                task.cancel()
                self._turn(task)

    def _admit(self, active: deque[Task]) -> bool:
        """Move waiting tasks among the active; wait if there is nothing to do. False: the engine closes."""
        with self._changed:
            self._changed.wait_for(lambda: active or self._queue or self._closed)
            for task in [task for task in self._queue if task.cancelled]:
                self._queue.remove(task)
                active.appendleft(task)  # its turn only ends it
            while self._queue and len(active) < self.together:
                active.append(self._queue.popleft())
            return not self._closed

    def _turn(self, task: Task) -> bool:
        """One step of one task; true if it was the last. What goes wrong in a step ends its own task only."""
        try:
            event = self._step(task)
        except Exception as problem:  # the one broad except: this thread must go on for the others
            log.event("engine.error", request=task.request.id, traceback=traceback.format_exc())
            said = str(problem) if isinstance(problem, PunaError) else f"{type(problem).__name__}: {problem}"
            event = task.failed(said)
        if event and event.finish:
            self._forget(task, event.finish)
        if event:
            self._tell(task, event)
        return event is not None and event.finish is not None

    def _step(self, task: Task) -> Event | None:
        """Read what comes next; if then nothing is left to read, write one token."""
        try:
            if task.cancelled:
                raise Cancelled
            logits = self._read(task)
        except Cancelled:
            return task.last_event("cancelled")
        if task.memory is not None and task.memory.length < len(task.ids):
            return None
        if task.limit == 0:
            return task.last_event("length")
        assert logits is not None
        return task.write(logits[-1])

    def _read(self, task: Task) -> Tensor | None:
        """Read one chunk, or the token just written: logits (rows, V). None if there is nothing to ask."""
        request = task.request
        if task.limit == 0 and not request.prompt_logprobs:
            return None
        if task.memory is None:
            task.memory = self._memory(request)
            task.cached = task.memory.length
        here = task.memory.length
        chunk = task.ids[here : here + (SCORED_CHUNK if request.prompt_logprobs else CHUNK)]
        rows = len(chunk) if request.prompt_logprobs and here < len(request.ids) else 1
        logits = self.runner.run(chunk, task.memory, rows, lambda: task.cancelled)  # (rows, V)
        if request.prompt_logprobs:
            following = request.ids[here + 1 : here + 1 + rows]
            for row, id in zip(logits, following, strict=False):
                task.prompt_scores.append(score(row, id, request.logprobs or 0, self.size))
        return logits

    def _memory(self, request: Request) -> Memory:
        """What begins as this prompt does and was read before. To score a prompt all of it must be read."""
        known = None if request.prompt_logprobs else self.prefixes.take(request.ids)
        return known or Memory(self.config, self.context, start=len(request.ids) + 256)

    def _forget(self, task: Task, finish: Finish) -> None:
        """The task is over. What it read is kept for the next, unless it went wrong."""
        if task.memory is not None and finish != "error":
            self.prefixes.give(task.ids[: task.memory.length], task.memory)
        task.memory = None
        with self._changed:
            del self._tasks[task.request.id]

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


def _check_ids(ids: Sequence[int], size: int) -> None:
    need(ids, "the prompt is empty", "at least one token", RequestError)
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
    need(all(request.stop), "stop: an empty string would end every answer", error=RequestError)


def _quarter_of_memory() -> int:
    return hardware.available_memory() // 4 or 2**30
