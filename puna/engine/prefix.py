"""What was read once need not be read again: memories of ended requests, found by the ids they begin with.

The next turn of a chat begins with all of the last one, so it reads only what is new. An answer that was
cancelled keeps its memory too. A reused prefix gives the logits it would give alone up to float rounding:
the same sums, made in chunks of another size.
"""

from collections.abc import Sequence

from puna.model.attend import Memory


class Prefixes:
    """Memories and the ids they hold, the latest used last, together at most `most_bytes`."""

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self.kept: list[tuple[list[int], Memory]] = []

    def take(self, ids: Sequence[int]) -> Memory | None:
        """A memory that holds a beginning of `ids`, all but the last at most, for the caller to own.

        It is handed over when most of it is of use, else copied: a shared system prompt must not cost another
        conversation its memory.
        """
        lengths = [common(ids[:-1], held) for held, _ in self.kept]
        length = max(lengths, default=0)
        if length == 0:
            return None
        index = lengths.index(length)
        held, memory = self.kept.pop(index)
        if 2 * length >= len(held):
            memory.keep(length)
            return memory
        self.kept.append((held, memory))
        return copy(memory, length)

    def give(self, ids: list[int], memory: Memory) -> None:
        """Keep a memory that holds `ids`; what it contains already, and the longest unused, make room."""
        if memory.length == 0 or size(memory) > self.most_bytes:
            return
        self.kept = [kept for kept in self.kept if common(ids, kept[0]) < len(kept[0])]
        self.kept.append((ids, memory))
        while sum(size(memory) for _, memory in self.kept) > self.most_bytes:
            del self.kept[0]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with together."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))


def size(memory: Memory) -> int:
    """Bytes that a memory takes, its spare room included."""
    return sum(held.nbytes for held in (*memory.keys, *memory.values) if held is not None)


def copy(memory: Memory, length: int) -> Memory:
    """A memory of its own that holds the first `length` positions."""
    twin = Memory(memory.config, memory.most, start=length)
    twin.keys = [None if held is None else held[:, :length].clone() for held in memory.keys]
    twin.values = [None if held is None else held[:, :length].clone() for held in memory.values]
    twin.length = length
    return twin
