"""Sampling: each rule is its textbook definition, written here slowly; draws follow the distribution."""

import collections
import math
import random

import numpy as np
import pytest

from puna.engine.request import Sampling
from puna.engine.sample import (
    Marks,
    Sampler,
    best,
    choose,
    choose_natively,
    cut,
    discourage_seen,
    discourage_written,
    draw,
    odds,
    odds_natively,
    score,
    top_p,
)
from puna.errors import PunaError
from puna.kernels import llama

V = 300


def row(seed, ties=False):
    logits = np.random.default_rng(seed).standard_normal(V) * 3
    return (logits * 2).round() / 2 if ties else logits


def softmax(logits):
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    return [w / sum(weights) for w in weights]


def in_order(values):
    return sorted(range(len(values)), key=lambda id: (-values[id], id))


def textbook(logits, s):
    """Probabilities after temperature, top-k, top-p and min-p, by plain lists."""
    logits = [x / s.temperature for x in logits.tolist()]
    kept = in_order(logits)[: s.top_k or None]
    shares = dict(zip(kept, softmax([logits[id] for id in kept]), strict=True))
    if s.top_p < 1:
        nucleus, before = [], 0.0
        for id in kept:
            if before > s.top_p:
                break
            nucleus.append(id)
            before += shares[id]
        kept = nucleus
    kept = [id for id in kept if shares[id] >= s.min_p * shares[kept[0]] * (1 - 1e-12)]
    again = dict(zip(kept, softmax([logits[id] for id in kept]), strict=True))
    return np.array([again.get(id, 0.0) for id in range(len(logits))])


CUTS = [
    {},
    {"temperature": 0.3},
    {"temperature": 7.5},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 10_000},
    {"top_p": 0.01},
    {"top_p": 0.9},
    {"top_p": 0.999, "temperature": 5.0},  # reaches past the first 64
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"temperature": 1.3, "top_k": 50, "top_p": 0.8, "min_p": 0.02},
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("settings", CUTS)
def test_every_cut_leaves_exactly_the_textbook_distribution(settings, ties):
    s = Sampling(**settings)
    for seed in range(20):
        logits = row(seed, ties)
        np.testing.assert_allclose(softmax(cut(logits, s)), textbook(logits, s), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", CUTS)
def test_draws_follow_the_distribution(settings):
    s, logits, n = Sampling(**settings, seed=5), row(1)[:12], 4000
    expected = textbook(logits, s) * n
    sampler = Sampler(s, [], 12)
    seen = collections.Counter(sampler.choose(logits) for _ in range(n))
    assert all(expected[id] > 0 for id in seen), "a token that was ruled out was drawn"
    common = [id for id in range(12) if expected[id] >= 5]
    rest = n - sum(seen[id] for id in common), n - float(sum(expected[id] for id in common))
    pairs = [(seen[id], float(expected[id])) for id in common] + [rest] * (rest[1] >= 5)
    chi = sum((saw - want) ** 2 / want for saw, want in pairs)
    freedom = max(1, len(pairs) - 1)
    assert chi < freedom + 4 * math.sqrt(2 * freedom), (chi, freedom)  # about one in 10,000 for chance


def test_meta_keeps_the_token_that_crosses_top_p():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    kept = {p: int(np.isfinite(top_p(logits, p)).sum()) for p in (0.4, 0.6, 0.85, 0.96)}
    assert kept == {0.4: 1, 0.6: 2, 0.85: 3, 0.96: 4}


def test_among_equal_logits_the_lower_id_goes_first():
    logits = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert best(logits, 4).tolist() == [1, 3, 2, 4]
    assert Sampler(Sampling(temperature=0), [], 6).choose(logits) == 1


def test_a_draw_never_gives_a_token_without_probability():
    logits = np.array([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    below_one = 1 - 2**-53
    assert [draw(logits, u) for u in (0.0, 0.49, 0.5, below_one)] == [1, 1, 3, 3]


def test_seen_tokens_are_divided_above_zero_and_multiplied_below():
    logits = np.array([2.0, -2.0, 2.0, -2.0])
    seen = np.array([True, True, False, False])
    assert discourage_seen(logits, seen, 2.0).tolist() == [1.0, -4.0, 2.0, -2.0]


def test_written_tokens_pay_once_for_presence_and_each_time_for_frequency():
    logits, times = np.zeros(3), np.array([0, 1, 4])
    assert discourage_written(logits, times, 0.5, 0.25).tolist() == [0.0, -0.75, -1.5]


def test_repetition_counts_the_prompt_and_presence_does_not():
    logits = np.array([4.0, 3.9, 3.8])
    repetition = Sampler(Sampling(temperature=0, repetition_penalty=1.5), [0, 99], 3)
    assert [repetition.choose(logits) for _ in range(3)] == [1, 2, 0]
    presence = Sampler(Sampling(temperature=0, presence_penalty=1.0), [0], 3)
    assert [presence.choose(logits) for _ in range(4)] == [0, 1, 2, 0]
    frequency = Sampler(Sampling(temperature=0, frequency_penalty=0.06), [0], 3)
    assert [frequency.choose(logits) for _ in range(5)] == [0, 0, 1, 0, 1]  # 4, 3.94, 3.9, 3.88, 3.84


def test_logit_bias_forces_and_forbids():
    logits = row(3)
    forced = Sampler(Sampling(logit_bias={7: 100.0}, seed=0), [], V)
    assert {forced.choose(logits) for _ in range(20)} == {7}
    top = int(logits.argmax())
    forbidden = Sampler(Sampling(temperature=0, logit_bias={top: -100.0}), [], V)
    assert forbidden.choose(logits) == in_order(logits.tolist())[1]


@pytest.mark.parametrize("temperature", [1e-320, 1e-9, 100.0])
def test_no_temperature_overflows(temperature):
    logits = row(2)
    chosen = Sampler(Sampling(temperature=temperature, seed=1), [], V).choose(logits)
    assert 0 <= chosen < V
    assert chosen == int(logits.argmax()) or temperature == 100.0


def test_the_same_seed_draws_the_same_and_no_seed_draws_anew():
    def drawn(seed):
        sampler = Sampler(Sampling(temperature=3.0, seed=seed), [], V)
        return [sampler.choose(row(n)) for n in range(20)]

    assert drawn(11) == drawn(11) != drawn(12)
    random.seed(0)
    one = drawn(None)
    random.seed(0)
    assert one != drawn(None)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_damaged_model_is_reported_not_sampled(poison):
    logits = row(0)
    logits[5] = poison
    with pytest.raises(PunaError, match="weights may be damaged"):
        Sampler(Sampling(temperature=0), [], V).choose(logits)


def test_scores_are_the_models_own_log_probabilities():
    logits = row(4).astype(np.float32)
    wanted = np.log(softmax(logits.tolist()))
    got = score(logits, 9, 3, V)
    assert got.id == 9 and got.logprob == pytest.approx(float(wanted[9]))
    assert [id for id, _ in got.best] == in_order(logits.tolist())[:3]
    assert [p for _, p in got.best] == pytest.approx([float(wanted[id]) for id, _ in got.best])
    with pytest.raises(PunaError, match="damaged"):
        score(np.where(logits < 0, np.float32(math.nan), logits), 9, 3, V)
    assert score(logits, 9, 0, V).best == () and len(score(logits, 9, 10_000, V - 5).best) == V - 5


def instructions():
    return [] if llama.works_here() else llama.native().instructions()


def any_case(dice):
    """A row, settings, marks and a mask: whatever can come together."""
    size = int(dice.choice([1, 2, 63, 64, 65, 700, 5000]))
    logits = dice.standard_normal(size) * dice.choice([0.1, 3, 30])
    if dice.random() < 0.4:
        logits = (logits * 2).round() / 2  # ties
    logits[dice.random(size) < dice.choice([0, 0.5])] = -math.inf
    logits[dice.integers(size)] = dice.choice([0, 5, 40])

    def often(value, usual):
        return value if dice.random() < 0.5 else usual

    s = Sampling(
        temperature=float(dice.choice([0, 1e-320, 0.6, 1, 30])),
        top_k=often(int(dice.choice([1, 3, 40, 65, 4000])), 0),
        top_p=often(float(dice.choice([dice.uniform(0.001, 1), 0.25, 0.5])), 1.0),
        min_p=often(float(dice.choice([1e-9, 0.05, 1])), 0.0),
        repetition_penalty=often(1.3, 1.0),
        presence_penalty=often(0.5, 0.0),
        frequency_penalty=0.25,
    )
    some = dice.random() < 0.5
    marks = Marks(
        dice.random(size if s.repetition_penalty != 1 else 0) < 0.3,
        dice.integers(0, 3, size if some else 0).astype(np.float64),
        dice.choice([0.0, 0.0, 7.5], size if not some else 0),
    )
    allowed = np.packbits(dice.random((size + 31) // 32 * 32) < 0.2, bitorder="little").view(np.int32)
    allowed[dice.random(len(allowed)) < 0.5] = dice.choice([0, -1])
    return logits.astype(np.float32), s, marks, often(allowed, None)


@pytest.mark.parametrize("name", instructions())
def test_the_native_sampler_chooses_what_the_definition_chooses(name):
    dice, chosen = np.random.default_rng(0), collections.Counter()
    for _ in range(1500):
        case = *any_case(dice), float(dice.random())
        try:
            wanted = choose(*case)
        except PunaError:  # nothing that is allowed is possible
            with pytest.raises(PunaError, match="no finite greatest"):
                choose_natively(*case, name)
            continue
        assert choose_natively(*case, name) == wanted, case
        chosen[wanted] += 1
    assert len(chosen) > 200 and chosen.total() > 1000


@pytest.mark.parametrize("name", instructions())
def test_native_odds_are_those_of_the_definition(name):
    dice = np.random.default_rng(1)
    for _ in range(500):
        logits, *_ = any_case(dice)
        size, k = int(dice.integers(1, len(logits) + 1)), int(dice.choice([0, 1, 5, 100]))
        total, ids = odds(logits, size, min(k, size))
        native, same = odds_natively(logits, size, min(k, size), name)
        assert same == ids and native == pytest.approx(total, rel=1e-14, abs=1e-13)
    row = dice.uniform(-800, 0, (50, 5)).astype(np.float32)
    for logits in np.concatenate((row, np.zeros((50, 1), np.float32)), axis=1):
        assert odds_natively(logits, 6, 0, name)[0] == pytest.approx(
            odds(logits, 6, 0)[0], rel=1e-14, abs=1e-15
        )
    with pytest.raises(PunaError, match="damaged"):
        choose_natively(
            np.float32([1, math.nan]), Sampling(), Sampler(Sampling(), [], 2).marks, None, 0.5, name
        )


def test_without_the_native_module_the_definition_chooses(monkeypatch):
    logits, settings = row(5).astype(np.float32), Sampling(seed=3, top_p=0.9, frequency_penalty=0.1)
    fast = Sampler(settings, [], V)
    wanted = [fast.choose(logits) for _ in range(20)], score(logits, 3, 2, V)
    monkeypatch.setattr(llama, "works_here", lambda: "not built")
    slow = Sampler(settings, [], V)
    assert [slow.choose(logits) for _ in range(20)] == wanted[0]
    assert score(logits, 3, 2, V).logprob == pytest.approx(wanted[1].logprob, rel=1e-14)
