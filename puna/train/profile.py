"""Where the time of some steps goes: a trace for Chrome (chrome://tracing, Perfetto) and a table."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from puna import log
from puna.train.step import Step

ROWS = 40  # of the table
EVENTS = 200_000  # of CUDA's memory that are kept


def profiled(steps: Iterator[Step], first: int, last: int, folder: Path) -> Iterator[Step]:
    """The same steps; first .. last are traced, with what is done between them.

    folder/trace.json   for Chrome
    folder/table.txt    the operations that took longest
    folder/memory.pickle  on CUDA: every allocation, for pytorch.org/memory_viz
    """
    watch: profile | None = _begun() if first == 0 else None
    try:
        for step in steps:
            if watch and step.step >= last:
                _written(watch, folder, first, step.step)
                watch = None
            yield step
            if step.step + 1 == first:
                watch = _begun()
    finally:
        if watch:  # the run ended within
            _written(watch, folder, first, last)


def _begun() -> profile:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.memory._record_memory_history(max_entries=EVENTS)
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    watch = profile(activities=kinds, profile_memory=True)
    watch.start()
    return watch


def _written(watch: profile, folder: Path, first: int, last: int) -> None:
    watch.stop()
    folder.mkdir(parents=True, exist_ok=True)
    watch.export_chrome_trace(str(folder / "trace.json"))
    cuda = torch.cuda.is_available()
    by = "self_device_time_total" if cuda else "self_cpu_time_total"
    table = watch.key_averages().table(sort_by=by, row_limit=ROWS, max_name_column_width=60)
    (folder / "table.txt").write_text(table, encoding="utf-8")
    if cuda:
        torch.cuda.memory._dump_snapshot(str(folder / "memory.pickle"))
        torch.cuda.memory._record_memory_history(enabled=None)
    log.event("profiled", first=first, last=last, path=str(folder))
