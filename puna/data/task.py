"""What steps are made of: a task is plain values that any worker can carry out, its work is what it did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from puna.data.receipts import Output, Receipt
from puna.errors import DataError

ENGINE = 3  # raise it when the engine begins to write other bytes for the same stages
Done = Mapping[str, Sequence[Receipt]]  # step -> receipts, in the order of its tasks


class PieceError(DataError):
    """A piece that cannot be read; the other ones are not concerned."""


@dataclass(frozen=True)
class Task:
    """Its `spec_hash` covers settings and versions of its stages and the hashes of what it reads."""

    step: str
    number: int
    spec_hash: str
    inputs: dict[str, str]
    reads: str = ""  # a piece, or a file
    source: int = -1  # index of the piece's source
    files: int = 0  # how many files of rows it reads a slice of
    places: int = 0  # into how many places its rows go

    def __str__(self) -> str:
        return f"{self.step}/{self.number:06d}"


@dataclass
class Work:
    """What a task has done so far: the part of its receipt that is not about time."""

    rows_in: int = 0
    rows_out: int = 0
    bytes: int = 0
    tokens: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)


def shards(receipts: Sequence[Receipt]) -> list[Output]:
    """The kept files of a step; the place in this list is a shard's number."""
    return [output for receipt in receipts for output in receipt.kept()]


def rows_names(step: str, files: int) -> list[str]:
    return [f"{step}/rows/{number:06d}.rows" for number in range(files)]
