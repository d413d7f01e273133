"""A receipt says what a task did and proves it by the hashes of its files. Written last, it is what makes a
task done.

It holds as long as the task is still the same (its `spec_hash` covers settings, versions and inputs) and its
files still hash to what it says. So a changed stage redoes what is downstream of it, and only that; a file
that was cut short, changed or lost is made again.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from puna.data.store import Store
from puna.settings import Settings


class Output(Settings):
    name: str  # relative to the run
    sha256: str
    size: int  # bytes of the file
    rows: int


class Receipt(Settings):
    task: str  # "00-read/000003"
    spec_hash: str
    inputs: dict[str, str]  # what it read -> a stamp or hash of it
    rows_in: int
    rows_out: int
    drops: dict[str, int]  # reason -> documents
    skipped: dict[str, int]  # what a source left out while reading: it never was a row
    bytes: int  # of text, in what it kept
    tokens: int  # of what it kept, where a stage counted them
    stage_s: dict[str, float]  # stage -> CPU seconds
    cpu_s: float
    wall_s: float
    rss_mb: int  # the most that its process held so far
    outputs: tuple[Output, ...]

    def kept(self) -> list[Output]:
        return [output for output in self.outputs if "/kept/" in output.name]


def digest(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def outputs_digest(receipts: Iterable[Receipt]) -> str:
    """One hash of all that these tasks wrote."""
    return digest([[output.name, output.sha256] for receipt in receipts for output in receipt.outputs])


def receipt_name(task: str) -> str:
    step, _, number = task.rpartition("/")
    return f"{step}/receipts/{number}.json"


def write_receipt(store: Store, receipt: Receipt) -> None:
    said = receipt.model_dump(mode="json")
    store.put(receipt_name(receipt.task), json.dumps(said | {"seal": digest(said)}, indent=1).encode())


def read_receipt(store: Store, task: str) -> Receipt | None:
    """The receipt of a task; None where there is none, or where it was damaged."""
    try:
        said = json.loads(store.read(receipt_name(task)) or b"null")
        sealed = isinstance(said, dict) and said.pop("seal", None) == digest(said)
        return Receipt.model_validate(said) if sealed else None
    except (ValueError, ValidationError):
        return None


def damage(store: Store, receipt: Receipt, trust: bool = False) -> list[str]:
    """What is wrong with the files of a receipt; with `trust` only their sizes are looked at."""
    problems = []
    for output in receipt.outputs:
        size = store.size(output.name)
        if size is None:
            problems.append(f"{output.name} is gone")
        elif size != output.size:
            problems.append(f"{output.name} has {size:,} bytes, not {output.size:,}")
        elif not trust and store.sha256(output.name) != output.sha256:
            problems.append(f"{output.name} has changed since it was written")
    return problems
