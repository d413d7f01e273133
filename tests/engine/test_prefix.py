"""Memories of ended requests: found by their beginning, copied or handed over, within their bytes."""

import torch
from small_world import random_llama

from puna.engine.prefix import Prefixes, common, copy, size
from puna.engine.runner import TorchRunner
from puna.model.attend import Memory

MODEL = random_llama(64)
RUNNER = TorchRunner(MODEL)


def read(ids):
    memory = Memory(MODEL.config, start=len(ids))
    return RUNNER.run(ids, memory, rows=len(ids)), memory


def test_the_longest_beginning_is_found_and_leaves_a_token_to_read():
    prefixes = Prefixes(2**30)
    for ids in ([1, 2, 3], [1, 2, 3, 4, 5], [1, 9]):
        prefixes.give(list(ids), read(ids)[1])
    assert prefixes.take([1, 2, 3, 4, 5]).length == 4
    assert prefixes.take([7, 7]) is None
    assert prefixes.take([1]) is None


def test_a_memory_mostly_of_use_is_handed_over_and_a_short_beginning_is_copied():
    prefixes = Prefixes(2**30)
    long = list(range(20))
    memory = read(long)[1]
    prefixes.give(long, memory)
    borrowed = prefixes.take([0, 1, 2, 60])
    assert borrowed is not memory and borrowed.length == 3 and memory.length == 20
    assert prefixes.take([*long, 60]) is memory and not prefixes.kept


def test_a_copy_goes_on_like_the_original_and_shares_nothing():
    whole, _ = read([5, 6, 7, 8, 9])
    _, memory = read([5, 6, 7, 40, 41])
    twin = copy(memory, 3)
    torch.testing.assert_close(RUNNER.run([8, 9], twin, rows=2), whole[3:])
    torch.testing.assert_close(RUNNER.run([50], memory), read([5, 6, 7, 40, 41, 50])[0][-1:])


def test_memories_stay_within_their_bytes_and_the_longest_unused_goes_first():
    each = size(read(list(range(10)))[1])
    prefixes = Prefixes(2 * each)
    for first in (1, 2, 3):
        ids = [first, *range(10, 19)]
        prefixes.give(ids, read(ids)[1])
    assert [ids[0] for ids, _ in prefixes.kept] == [2, 3]
    huge = list(range(60))
    prefixes.give(huge, read(huge)[1])
    assert [ids[0] for ids, _ in prefixes.kept] == [2, 3], "one too large pushes nobody out"


def test_a_longer_memory_replaces_its_own_beginnings():
    prefixes = Prefixes(2**30)
    for ids in ([1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 4, 6]):
        prefixes.give(list(ids), read(ids)[1])
    assert [ids for ids, _ in prefixes.kept] == [[1, 2, 5], [1, 2, 3, 4, 6]]


def test_common_counts_what_two_sequences_begin_with():
    assert common([1, 2, 3], (1, 2, 4)) == 2 and common([], [1]) == 0 and common([1, 2], [1, 2, 3]) == 2
