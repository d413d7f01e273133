"""Processes that stay: N ranks on gloo that carry out one function after the other, all of them at once.

A rank that fails would leave the others waiting, so it ends the pool, and its traceback is the test's.
"""

import multiprocessing
import os
import queue
import sys
import tempfile
import time
import traceback
from pathlib import Path

LIMIT_S = 300.0


class Pool:
    """Call it with a function of a module and its arguments -> what each rank returned, in order of ranks."""

    def __init__(self, ranks: int):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["parallel.preload"])
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the server of forks does not take ours over
        self.ranks, self.folder = ranks, tempfile.TemporaryDirectory()
        self.asked = [context.SimpleQueue() for _ in range(ranks)]
        self.told = context.Queue()
        meeting = str(Path(self.folder.name) / "meeting")
        self.processes = [
            context.Process(target=_serve, args=(rank, ranks, meeting, asked, self.told), daemon=True)
            for rank, asked in enumerate(self.asked)
        ]
        for process in self.processes:
            process.start()

    def __call__(self, function, *args):
        for asked in self.asked:
            asked.put((function, args))
        found, problems, deadline = {}, [], time.monotonic() + LIMIT_S
        while len(found) < self.ranks and time.monotonic() < deadline:
            try:
                rank, problem, value = self.told.get(timeout=1.0)
            except queue.Empty:
                dead = [rank for rank, process in enumerate(self.processes) if not process.is_alive()]
                problems += [
                    f"ranks {dead} died with {[self.processes[rank].exitcode for rank in dead]}"
                ] * bool(dead)
                if problems:
                    break
                continue
            if problem:
                problems.append(f"rank {rank} of {self.ranks}:\n{problem}")
            found[rank] = value
        if problems or len(found) < self.ranks:
            self.close()
            raise AssertionError("\n".join(problems) or "no answer in time")
        return [found[rank] for rank in range(self.ranks)]

    def close(self):
        for asked in self.asked:
            asked.put(None)
        for process in self.processes:
            process.join(2.0)
            process.kill()
        self.folder.cleanup()


def _serve(rank, ranks, meeting, asked, told):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    while (job := asked.get()) is not None:
        function, args = job
        try:
            told.put((rank, "", function(*args)))
        except BaseException:  # whatever it was, the one who asked must hear of it
            told.put((rank, traceback.format_exc(), None))
    os._exit(0)  # gloo's threads abort an orderly exit now and then


_pools: dict[int, Pool] = {}


def ranks(count: int) -> Pool:
    """The pool of so many ranks; there is one at a time, so tests of one size should stand together: each
    group of ranks that was ever made leaves a thread that polls, and fourteen idle ranks filled a core.
    """
    for size in list(_pools):
        if size != count or not all(process.is_alive() for process in _pools[size].processes):
            _pools.pop(size).close()
    if count not in _pools:
        _pools[count] = Pool(count)
    return _pools[count]
