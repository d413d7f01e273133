"""Mixing: weights are met where there is enough, what is short is said, and nothing depends on order."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.chance import draws, id_bytes, shares
from puna.data.document import make_id
from puna.data.mix import COPIES, Mix, Mixing, copies, weights
from puna.data.recipe import read_recipe
from puna.errors import ConfigError, DataError

IDS = np.random.default_rng(0).integers(0, 256, (20_000, 16), dtype=np.uint8)


def documents(count, seed=0):
    draw = np.random.default_rng(seed)
    return pa.table(
        {
            "id": pa.array([make_id("x", f"{seed} {n}") for n in range(count)], pa.binary(16)),
            "lang": pa.array(draw.choice(["en", "de", "qu"], count)).dictionary_encode(),
            "q.web": pa.array(draw.random(count).astype(np.float32)),
            "tokens": pa.array(draw.integers(1, 1000, count), pa.uint32()),
        }
    )


def mix(**changes):
    parts = [
        {"name": "good", "where": {"lang": ["en"], "q.web": {"least": 0.5}}, "weight": 3, "epochs": 2},
        {"name": "english", "where": {"lang": ["en"]}, "weight": 2},
        {"name": "german", "where": {"lang": ["de"]}, "weight": 5},
    ]
    return Mix.read({"parts": parts} | changes, "mix")


def test_a_document_is_of_the_first_part_that_fits():
    table = documents(500)
    for row, part in zip(table.to_pylist(), mix().part_of(table), strict=True):
        english = 0 if row["q.web"] >= 0.5 else 1
        assert part == {"en": english, "de": 2, "qu": -1}[row["lang"]]


def test_counts_of_pieces_add_up_to_the_count_of_all():
    table = documents(500)
    whole = mix().count(table)
    assert (mix().count(table[:123]) + mix().count(table[123:]) == whole).all()
    assert whole.sum(axis=0).tolist() == [500, sum(table["tokens"].to_pylist())]
    assert (mix().count(table[:0]) == 0).all()


def test_what_was_asked_had_and_is_short_adds_up():
    had = np.array([[10, 1_000], [10, 10_000], [10, 4_000], [7, 700]])
    shares = weights(mix(tokens=10_000), had)
    good, english, german, nowhere = shares
    assert (good.asked, good.taken, good.short, good.epochs) == (3_000, 2_000, 1_000, 2)
    assert english.taken == pytest.approx(2_000 + 1_000 * 2 / 7) and english.short == 0
    assert german.taken == pytest.approx(5_000 + 1_000 * 5 / 7)
    assert (nowhere.part, nowhere.documents, nowhere.had, nowhere.taken) == ("(in no part)", 7, 700, 0)
    for share in shares[:3]:
        assert share.epochs * share.had == pytest.approx(share.taken)


def test_without_a_budget_the_weights_hold_exactly():
    shares = weights(mix(), np.array([[10, 1_000], [10, 10_000], [10, 4_000], [0, 0]]))
    total = sum(share.taken for share in shares)
    assert total == pytest.approx(2_000 / 0.3)
    assert [share.taken / total for share in shares] == pytest.approx([0.3, 0.2, 0.5, 0])


positive = st.integers(1, 10**12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, 10**9), st.floats(0.1, 8)), min_size=1, max_size=8
    ),
    budget=positive,
)
def test_no_part_goes_over_its_epochs_and_the_budget_is_met_where_it_can_be(rows, budget):
    if not any(weight for weight, _, _ in rows):
        return
    parts = [{"name": str(n), "weight": w, "epochs": e} for n, (w, _, e) in enumerate(rows)]
    had = np.array([[1, tokens] for _, tokens, _ in rows] + [[0, 0]])
    shares = weights(Mix.read({"parts": parts, "tokens": budget}, "mix"), had)[:-1]
    most = [tokens * epochs if weight else 0 for weight, tokens, epochs in rows]
    assert all(share.taken <= top * (1 + 1e-9) for share, top in zip(shares, most, strict=True))
    assert sum(share.taken for share in shares) == pytest.approx(min(budget, sum(most)))
    level = max((s.taken / s.weight for s in shares if s.weight), default=0)
    for share, top in zip(shares, most, strict=True):  # who is not full stands as high as anyone
        assert share.taken == pytest.approx(min(top, share.weight * level), rel=1e-6, abs=1e-6)
        assert share.taken + share.short >= share.asked * (1 - 1e-9)


def taken(rate, table, seed=0, parts=({"name": "all", "weight": 1, "epochs": 9},)):
    chosen = Mix.read({"parts": list(parts), "seed": seed}, "mix")
    stage = copies(chosen, ()).model_copy(update={"rates": (rate,)})
    return stage(table)[COPIES].to_numpy()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(low=st.floats(0, 5), high=st.floats(0, 5))
def test_a_higher_rate_keeps_all_that_a_lower_one_took(low, high):
    table = documents(200)
    low, high = sorted((low, high))
    assert (taken(low, table) <= taken(high, table)).all()
    assert set(taken(high, table)) <= {int(high), int(high) + 1}


def test_on_average_a_document_is_taken_at_its_rate():
    table = documents(4000)
    for rate in (0.01, 0.5, 1, 2.3):
        spread = 4 * (4000 * 0.25) ** 0.5
        assert abs(taken(rate, table).sum() - 4000 * rate) <= spread
    assert (taken(0.5, table, seed=1) != taken(0.5, table, seed=2)).any()


def test_the_expected_tokens_are_nearly_those_taken():
    table, chosen = documents(6000), mix(tokens=1_500_000)
    shares = weights(chosen, chosen.count(table))
    rows = copies(chosen, shares)(table)
    part, size = chosen.part_of(table), table["tokens"].to_numpy().astype(int) * rows[COPIES].to_numpy()
    for place, share in enumerate(shares[:-1]):
        assert size[part == place].sum() == pytest.approx(share.taken, rel=0.1)
    assert (rows[COPIES].to_numpy()[part == -1] == 0).all()


def test_a_document_is_taken_alike_alone_and_among_others_in_any_order():
    table, stage = documents(300), copies(mix(), weights(mix(), mix().count(documents(300))))
    whole = stage(table)
    order = np.random.default_rng(1).permutation(300)
    assert stage(table.take(order)) == whole.take(order)
    assert pa.concat_tables([stage(table[n : n + 1]) for n in range(300)]) == whole.slice(0)
    assert stage(table[10:20]) == whole[10:20]


PART = '[[stage.mix.parts]]\nname = "a"\n'


def test_a_recipe_is_read_from_toml_and_its_mistakes_are_named(tmp_path):
    path = tmp_path / "web.toml"
    path.write_text(
        f'[stage.mix]\ntokens = 5\n{PART}where = {{ lang = ["en"], q = {{ below = 1 }} }}\nweight = 1\n'
    )
    [stage] = read_recipe(path, {}, {"mix": Mixing}).stages
    assert (stage.tokens, stage.parts[0].where["q"].below) == (5, 1)
    for text, said in (
        (f"{PART}weigth = 1\nweight = 1", "did you mean 'weight'|unknown setting"),
        (f"{PART}weight = 0", "no part has a weight"),
        (f"{PART}weight = 1\n" * 2, "two parts have one name"),
        ("[stage.mix]\nparts = []", "parts"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_recipe(path, {}, {"mix": Mixing})


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"topic": ["law"]}, "part 'a': where: no stage before it writes 'topic'"),
        ({"lang": {"least": 1}}, "holds no numbers"),
        ({"tokens": ["1"]}, "holds no names"),
    ],
)
def test_a_part_that_asks_for_what_is_not_there_is_refused(where, said):
    chosen = mix(parts=[{"name": "a", "where": where, "weight": 1}])
    with pytest.raises(DataError, match=said):
        chosen.part_of(documents(5))
    with pytest.raises(DataError, match="no column 'size'"):
        mix(size="size").count(documents(5))


def test_weights_that_nothing_can_meet_are_refused_not_met_with_nothing():
    had = np.array([[10, 1_000], [0, 0], [10, 4_000], [0, 0]])
    with pytest.raises(DataError, match="no documents of 'english'"):
        weights(mix(), had)
    assert [share.taken for share in weights(mix(tokens=800), had)] == pytest.approx([300, 0, 500, 0])
    table = documents(5).set_column(3, "tokens", pa.array([1, None, 2, 3, 4], pa.uint32()))
    with pytest.raises(DataError, match="of every document's tokens"):
        mix().count(table)


def test_what_is_not_known_is_in_no_range_and_no_list():
    table = pa.table({"id": pa.array([bytes(16)] * 2, pa.binary(16)), "lang": [None, "en"], "q": [None, 1.0]})
    for where in ({"lang": ["en"]}, {"q": {"below": 2}}):
        chosen = mix(parts=[{"name": "a", "where": where, "weight": 1}])
        assert chosen.part_of(table).tolist() == [-1, 0]


def test_draws_are_even_and_every_input_matters():
    counts = np.bincount((shares(IDS, 1, "a") * 16).astype(int), minlength=16)
    assert abs(counts - 1250).max() < 5 * 1250**0.5
    first = draws(IDS, 1, "a")
    assert len(np.unique(first)) == len(IDS)
    for other in (draws(IDS, 2, "a"), draws(IDS, 1, "b"), draws(IDS, 1, "a", 1)):
        flipped = np.unpackbits((first ^ other).view(np.uint8)).mean()
        assert abs(flipped - 0.5) < 0.01
    for byte in range(16):
        changed = IDS.copy()
        changed[:, byte] ^= 1
        assert abs(np.unpackbits((first ^ draws(changed, 1, "a")).view(np.uint8)).mean() - 0.5) < 0.01


def test_draws_never_change_between_releases():
    ids = np.arange(32, dtype=np.uint8).reshape(2, 16)
    assert draws(ids, 7, "shuffle", 3).tolist() == [13095084367225616973, 16651044079607809269]


def test_ids_come_from_sliced_and_chunked_tables_alike():
    table = documents(10)
    chunked = pa.concat_tables([table[:3], table[3:4], table[4:]])
    whole = b"".join(table["id"].to_pylist())
    assert id_bytes(table).tobytes() == id_bytes(chunked).tobytes() == whole
    assert id_bytes(table[2:5]).tobytes() == whole[32:80] and id_bytes(table[:0]).shape == (0, 16)
