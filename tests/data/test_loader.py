"""What a sample reads follows from its number alone: in any batch, on any rank, after any restart."""

import numpy as np
import pytest

from puna.data.loader import BLOCK, Loader, Row, Share, shuffled
from puna.data.shard_set import ShardSet
from puna.data.shards import ShardWriter, shard_name
from puna.errors import ConfigError, DataError

UNIT = 64


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two folders of shards whose tokens can be told apart: 0 .. 9,999 in order, and as many from 20,000 on."""
    made = []
    for which in range(2):
        folder, rng = tmp_path_factory.mktemp(f"set{which}"), np.random.default_rng(which)
        for number, tokens in enumerate(np.array_split(np.arange(10_000) + 20_000 * which, 3)):
            lengths = []
            while sum(lengths) < len(tokens):
                lengths.append(min(int(rng.integers(1, 90)), len(tokens) - sum(lengths)))
            with ShardWriter(folder / shard_name(number), 40_000, ["a"]) as shard:
                ids = rng.integers(0, 256, (len(lengths), 16), dtype=np.uint8)
                shard.extend(tokens, np.array(lengths), ids, np.zeros(len(lengths), int))
        made.append(ShardSet(folder))
    return made


def loader(shards, length=32, weights=(1.0, 3.0), seed=5, before=(0, 0)):
    rows = [Row(one, UNIT, seed) for one in shards]
    return Loader([Share(*given) for given in zip(rows, weights, before, strict=True)], length, seed)


def test_a_permutation_takes_every_place_once_and_epochs_differ():
    for count in (1, 2, 3, 7, 64, 1000):
        orders = [[shuffled(turn, count, 1, epoch) for turn in range(count)] for epoch in range(3)]
        assert all(sorted(order) == list(range(count)) for order in orders)
        assert count < 64 or (orders[0] != orders[1] and orders[0] != list(range(count)))
    moved = [shuffled(turn, 1000, 1, 0) for turn in range(1000)]
    assert abs(np.corrcoef(np.arange(1000), moved)[0, 1]) < 0.1


def test_an_epoch_reads_every_unit_once(shards):
    row = Row(shards[0], UNIT, 7)
    tokens = np.concatenate([row.sequence(n * 32, 32)[0] for n in range(2 * row.units)])
    assert sorted(tokens.tolist()) == list(range(row.units * UNIT)) and row.units == 9_999 // UNIT


def test_targets_follow_and_documents_end_their_sentences(shards):
    batch = loader(shards).batch(0, 40)
    assert (batch.targets == batch.tokens + 1).all()
    for row in range(40):
        owners = batch.documents[row]
        assert (np.diff(owners) >= 0).all()
        starts = np.flatnonzero(np.diff(owners)) + 1
        assert (batch.positions[row][starts] == 0).all() and (batch.positions[row] <= np.arange(32)).all()
        assert (batch.weights[row][starts - 1] == 0).all()
        assert batch.weights[row].sum() in (32 - len(starts), 32 - len(starts) - 1)


def test_any_cut_of_the_samples_reads_the_same(shards):
    one = loader(shards)
    whole = one.batch(1000, 96)
    for count in (1, 7, 32):
        parts = [loader(shards).batch(n, min(count, 1096 - n)) for n in range(1000, 1096, count)]
        for name in ("tokens", "targets", "positions", "documents", "weights"):
            assert (np.concatenate([getattr(part, name) for part in parts]) == getattr(whole, name)).all()


def test_sets_have_their_weights_in_every_block(shards):
    one = loader(shards, weights=(1.0, 2.0))
    for samples in (BLOCK, 3 * BLOCK, 10 * BLOCK):
        counts = one.counts(samples)
        assert counts.sum() == samples and abs(counts[0] - samples / 3) <= 1
    which = [source for source, _ in one.sources(0, BLOCK)]
    assert [which[:n].count(0) for n in (BLOCK,)] == [one.counts(BLOCK)[0]]
    assert (one.counts(777) == [which[:777].count(0), which[:777].count(1)]).all()
    assert which != sorted(which)


def test_a_longer_sequence_goes_on_where_the_shorter_ones_ended(shards):
    short = loader(shards[:1], 16, (1.0,), before=(0,))
    long = loader(shards[:1], 64, (1.0,), before=(16 * 101,))
    seen = {start + n for _, start in short.sources(0, 101) for n in range(16)}
    then = {start + n for _, start in long.sources(0, 10) for n in range(64)}
    assert not seen & then and min(then) - max(seen) <= 64
    assert len(then) == 640


def test_what_is_held_out_is_never_trained_on(shards):
    row = Row(shards[0], UNIT, 3, held_out=0.1)
    assert row.held == 16 and row.units == 156 - 16
    trained = {int(t) for n in range(2 * row.units) for t in row.sequence(n * UNIT, UNIT)[0]}
    held = row.held_batch(0, row.held, UNIT).tokens
    assert held.shape == (16, UNIT) and not trained & set(held.flatten().tolist())
    assert len(trained) == row.units * UNIT
    halves = row.held_batch(0, 2 * row.held, UNIT // 2).tokens
    assert (halves.reshape(held.shape) == held).all()


def test_what_cannot_be_is_refused(shards):
    with pytest.raises(DataError, match="too few for units of 20,000"):
        Row(shards[0], 20_000, 1)
    with pytest.raises(ConfigError, match="do not divide"):
        loader(shards, 48)
    with pytest.raises(ConfigError, match="no set of shards has a weight"):
        loader(shards, weights=(0.0, 0.0))
