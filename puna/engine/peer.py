"""llama.cpp beside our engine, for measurements: the same file, the same ids, through its C interface.

It is measured at its best: logits are not looked at, no token is chosen from them, nothing is turned to text.
"""

import statistics
import time
from collections.abc import Sequence

from puna import hub
from puna.engine.speed import Ids
from puna.errors import need

BATCH = 512  # rows of a batch, its own default
ROUND = 256  # a sequence's context is a multiple of it


class LlamaCpp:
    """Through llama-cpp-python, which holds the library and its C interface."""

    name = "llama.cpp"

    def __init__(self, model: str, threads: int, context: int, together: int = 1):
        import llama_cpp

        self.api, path = llama_cpp, hub.find(model).path
        need(
            path.suffix == ".gguf",
            f"{path}: llama.cpp opens GGUF files only",
            f"puna export {path} --to gguf",
        )
        self.model = llama_cpp.Llama(str(path), n_ctx=64, verbose=False)
        given = llama_cpp.llama_context_default_params()
        given.n_ctx = together * (-(-context // ROUND) * ROUND)
        given.n_batch = given.n_ubatch = BATCH
        given.n_threads = given.n_threads_batch = threads
        given.n_seq_max = together
        self.context = llama_cpp.llama_init_from_model(self.model._model.model, given)
        need(
            self.context,
            f"{path}: llama.cpp has no room for {together} x {context:,} tokens",
            "a shorter context",
        )
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    def first(self, ids: Ids, known: int = 0) -> float:
        self._forget()
        if known:
            self._read([ids[:known]], 0)
        return self._seconds([ids[known:]], known)

    def steps(self, prompts: Sequence[Ids], count: int) -> float:
        self._forget()
        for number, ids in enumerate(prompts):
            self._read([ids], 0, number)
        held = len(prompts[0])
        return statistics.median(
            self._seconds([[ids[n % held]] for ids in prompts], held + n) for n in range(count)
        )

    def _forget(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)

    def _seconds(self, sequences: Sequence[Ids], held: int) -> float:
        begun = time.perf_counter()
        self._read(sequences, held)
        return time.perf_counter() - begun

    def _read(self, sequences: Sequence[Ids], held: int, first: int = 0) -> None:
        """These ids of sequences `first`, first + 1 ..., which hold so many already."""
        for begin in range(0, len(sequences[0]), BATCH):
            batch, row = self.batch, 0
            for number, ids in enumerate(sequences, first):
                for place, id in enumerate(ids[begin : begin + BATCH], held + begin):
                    batch.token[row], batch.pos[row], batch.n_seq_id[row] = id, place, 1
                    batch.seq_id[row][0], batch.logits[row] = number, place == held + len(ids) - 1
                    row += 1
            batch.n_tokens = row
            done = self.api.llama_decode(self.context, batch)
            need(done == 0, f"llama.cpp could not read {row} tokens: it answered {done}", "a shorter context")
