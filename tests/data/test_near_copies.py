"""Near copies: found as often as theory says, removed only where it is true, the same in any order."""

import time

import numpy as np
import pyarrow as pa
import pytest

from puna.data.dedup.minhash import UNSIGNED, MinHash, signatures
from puna.data.dedup.near import NearCopies
from puna.data.dedup.subject import Subject
from puna.data.dedup.verify import Rules
from puna.data.document import make_id, text_buffers
from puna.errors import DataError
from tests.data.planted import containment, jaccard, pairs, random_words, replaced, sets, table
from tests.data.rounds import dealt, decided, run, survivors

ANY = Rules(agreement=0, contained=0, alike=0, lost=10**9)  # whoever meets is a copy


def name(number):
    return make_id("planted", str(number))


def corpus(rng, clusters=150, words=150):
    """Clusters of an original and up to 5 copies of it or of copies, among them exact and shorter ones."""
    texts = []
    for _ in range(clusters):
        family = [random_words(rng, words)]
        for _ in range(rng.integers(0, 6)):
            copy = replaced(rng, family[rng.integers(len(family))], rng.choice([0, 0.01, 0.02, 0.05]))
            family.append(copy[: len(copy) - rng.choice([0, 0, 5, 30])])
        texts += [" ".join(member) for member in family]
    return table(texts)


def test_recall_by_jaccard_index_follows_the_curve_of_14_bands_of_8():
    texts, planted = pairs(np.random.default_rng(3), 3000)
    gone, _ = decided(NearCopies(rules=ANY), dealt(table(texts), 3))
    found = np.array([name(a) in gone or name(b) in gone for a, b, _ in planted])
    truth = np.array([index for *_, index in planted])
    expected = 1 - (1 - truth**8) ** 14
    for low in np.arange(0.4, 1, 0.05):
        here = (truth >= low) & (truth < low + 0.05)
        spread = np.sqrt((expected[here] * (1 - expected[here])).sum())
        assert abs(found[here].sum() - expected[here].sum()) <= 4 * spread + 1, low
    assert found.sum() > 1000
    assert len(gone) == found.sum(), "two documents that were not planted as a pair met"


def test_signatures_estimate_the_jaccard_index():
    texts, planted = pairs(np.random.default_rng(4), 500)
    signed = signatures(*text_buffers(table(texts)), MinHash())
    errors = [(signed[a] == signed[b]).mean() - index for a, b, index in planted]
    assert abs(np.mean(errors)) < 0.01
    assert np.sqrt(np.mean(np.square(errors))) < 0.05


def test_a_signature_does_not_depend_on_the_documents_beside_it():
    rng = np.random.default_rng(5)
    texts = [" ".join(random_words(rng, int(n))) for n in rng.integers(0, 400, 40)] + ["", "日本語" * 60, "é"]
    together = signatures(*text_buffers(table(texts)), MinHash())
    alone = [signatures(*text_buffers(table([text])), MinHash())[0] for text in texts]
    assert (together == np.array(alone)).all()
    slices = table(texts).slice(7, 20)
    assert (signatures(*text_buffers(slices), MinHash()) == together[7:27]).all()
    assert (together[-2] != UNSIGNED).any(), "a text of 180 Chinese characters has 180 words"


def test_every_document_that_goes_is_a_copy_of_one_that_stays():
    documents = corpus(np.random.default_rng(6))
    texts = dict(zip(documents["id"].to_pylist(), documents["text"].to_pylist(), strict=True))
    gone, notes = decided(NearCopies(), dealt(documents, 3))
    assert len(gone) > 100
    for member, (_, value, kept) in gone.items():
        assert kept not in gone
        assert len(sets(texts[member], 3) - sets(texts[kept], 3)) <= 64
        contained, alike = containment(texts[member], texts[kept]), jaccard(texts[member], texts[kept])
        assert contained >= 0.95 or alike >= 0.90
        assert value == pytest.approx(max(contained, alike), abs=1e-5)
        assert (len(texts[kept]), kept) != (len(texts[member]), member)
        assert len(texts[kept]) >= len(texts[member])
    for kept, size in notes.items():
        assert size == 1 + sum(sibling == kept for *_, sibling in gone.values())


def test_decisions_do_not_depend_on_the_order_of_documents_or_on_partitions():
    documents, rng = corpus(np.random.default_rng(7), clusters=80), np.random.default_rng(8)
    first = decided(NearCopies(), [documents], partitions=1)
    for count, partitions in ((1, 16), (2, 2), (5, 8), (7, 64)):
        assert decided(NearCopies(), dealt(documents, count, rng), partitions) == first


def test_a_second_run_removes_nothing_more():
    documents = dealt(corpus(np.random.default_rng(9)), 3)
    gone, _ = decided(NearCopies(), documents)
    assert gone and decided(NearCopies(), survivors(documents, gone))[0] == {}


def test_nobody_goes_by_hearsay():
    rng = np.random.default_rng(10)
    a = random_words(rng, 300)
    b = [*a[12:], *random_words(rng, 6)]
    c = [*b[12:], *random_words(rng, 6)]
    d = [*c[12:], *random_words(rng, 6)]
    rules = Rules(contained=0.97, alike=1)
    texts = [" ".join(words) for words in (a, b, c, d)]
    assert all(containment(texts[i + 1], texts[i]) > 0.97 for i in range(3))
    assert all(containment(texts[i + 2], texts[i]) < 0.97 for i in range(2))
    gone, notes = decided(NearCopies(rules=rules), dealt(table(texts), 2))
    assert {member: kept for member, (_, _, kept) in gone.items()} == {name(1): name(0), name(3): name(2)}
    assert notes == {name(0): 2, name(2): 2}


def test_a_chain_longer_than_the_rounds_keeps_what_is_not_settled():
    rng = np.random.default_rng(11)
    links = [random_words(rng, 400)]
    for _ in range(9):
        links.append([*links[-1][10:], *random_words(rng, 5)])
    texts = [" ".join(words) for words in links]
    rules = Rules(contained=0.98, alike=1)
    assert all(
        containment(texts[i + 1], texts[i]) > 0.98 > containment(texts[min(i + 2, 9)], texts[i])
        for i in range(8)
    )
    for rounds, wanted in ((2, {1}), (4, {1, 3}), (12, {1, 3, 5, 7, 9})):
        gone, _ = decided(NearCopies(rules=rules, settle_rounds=rounds), [table(texts)])
        assert set(gone) == {name(number) for number in wanted}


def test_the_priority_column_outranks_length_and_date():
    words = random_words(np.random.default_rng(12), 200)
    texts = [" ".join(words[: 200 - number]) for number in range(3)]
    rows = table(texts, dates=["2026-01", "2026-02", ""]).append_column("q", pa.array([None, 0.5, 0.9]))
    whole = Rules(contained=0.9, alike=0.9)
    assert set(decided(NearCopies(rules=whole, priority="q"), [rows])[0]) == {name(0), name(1)}
    assert set(decided(NearCopies(rules=whole), [rows])[0]) == {name(1), name(2)}
    with pytest.raises(DataError, match="no column 'rank' to rank by"):
        decided(NearCopies(priority="rank"), [rows])


def test_documents_of_different_scopes_are_not_compared():
    rows = table([" ".join(random_words(np.random.default_rng(13), 90))] * 6)
    rows = rows.append_column("lang", pa.array(["en", "en", "de", "de", None, None]))
    gone, _ = decided(NearCopies(within="lang"), dealt(rows, 3))
    assert len(gone) == 3 and len(decided(NearCopies(), [rows])[0]) == 5
    with pytest.raises(DataError, match="no column 'tongue'"):
        decided(NearCopies(within="tongue"), [rows])


@pytest.mark.parametrize("count", [3000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_a_very_large_group_is_done_in_bounded_time_and_marked_a_template(count):
    rng = np.random.default_rng(14)
    boiler = " ".join(random_words(rng, 60))
    copies = [boiler + f" n{number}" for number in range(count)]
    rows = table([*copies, *(" ".join(random_words(rng, 60)) for _ in range(20))])
    shards, stage = dealt(rows, 4), NearCopies(cap=count // 3)
    began = time.process_time()
    told, rounds = run(stage, shards)
    assert time.process_time() - began < 1 + count / 1000
    assert len(told) == count, "one stays for all, with a note"
    codes = np.bincount(told["code"].to_numpy() + 1)
    assert codes[0] == 1 and codes[2] > 0.9 * count
    assert max(told["value"].to_pylist()) == count
    sides = pa.concat_tables(rounds["texts"])
    carried = sides.filter(pa.compute.is_valid(sides["text"])).select(["head", "shard"]).to_pylist()
    assert len(carried) == len({tuple(row.items()) for row in carried}), "a text travels once to a shard"
    assert len(rounds["bands"][0]) + len(carried) < 14 * 4 * count


def test_only_texts_of_candidates_travel():
    rng = np.random.default_rng(15)
    words = random_words(rng, 100)
    texts = [" ".join(random_words(rng, 100)) for _ in range(500)] + [" ".join(words)] * 3
    sent = pa.concat_tables(run(NearCopies(), dealt(table(texts), 5))[1]["texts"])
    assert set(sent["text"].drop_null().to_pylist()) == {" ".join(words)}


def test_a_long_document_is_not_removed_where_a_passage_would_be_lost():
    rng = np.random.default_rng(16)
    kept = random_words(rng, 5000)
    for own, goes in ((60, True), (70, False)):
        member = [*kept[:2000], *random_words(rng, own - 2), *kept[2000:4900]]
        assert containment(" ".join(member), " ".join(kept)) > 0.98
        rules = Rules(subject=Subject(passage=100))
        gone, _ = decided(NearCopies(rules=rules), [table([" ".join(kept), " ".join(member)])])
        assert (name(1) in gone) == goes


def test_empty_and_tiny_documents_stay():
    texts = [
        "",
        "",
        "a",
        "a b c",
        "the same words " * 3,
        "the same words " * 3,
        "\n\n",
        "日本" * 10,
        "日本" * 10,
    ]
    assert decided(NearCopies(), dealt(table(texts), 2)) == ({}, {})
    assert decided(NearCopies(), [table([])]) == ({}, {})
    assert decided(NearCopies(), [table([]), table(["one two " * 30]), table([])]) == ({}, {})
