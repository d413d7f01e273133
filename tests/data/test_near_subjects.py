"""A copy is about the same thing: pages of one template stay, the same text with a new date or holder goes."""

import time

import numpy as np
import pytest

from puna.data.dedup.near import NearCopies
from puna.data.dedup.subject import Subject
from puna.data.dedup.verify import Rules
from tests.data.planted import containment, jaccard, pairs, table
from tests.data.rounds import decided

PROSE = """The reader keeps every page of the journal in one folder and asks for the next one only when the last
was closed. Whoever writes to it waits until all readers have let go, and what they wrote is on the disk before
anybody hears of it. A journal that was cut short is repaired when it is opened again: its last whole page is
found from the end, everything after it is thrown away, and the first reader is told how much was lost. Pages are
never changed in place. Old ones are collected while nobody looks, in the order of their numbers, and a folder
that is empty goes with its last page. Nothing here depends on the clock of the machine, so two copies of one
journal that saw the same writes are the same to the last byte, wherever and whenever they were made. That is what
the tests compare, and why a broken disk is noticed at the next opening and not a year later by its owner.
"""


def goes(kept, member, **rules):
    """Is `member` dropped for `kept`, which is made longer so that it is the one that stays?"""
    rows = table([kept + "\n" + "~" * len(member.encode()), member])
    return len(decided(NearCopies(rules=Rules(subject=Subject(**rules))), [rows])[0]) == 1


@pytest.mark.parametrize(
    ("kept", "member"),
    [
        ("JournalReader.close()\n" + PROSE, "JournalWriter.close()\n" + PROSE),
        ("Function operator!=\n" + PROSE, "Function operator<\n" + PROSE),
        ("complex_ode.integrate\n" + PROSE, "ode.integrate\n" + PROSE),
        ("ls(1)\n" + PROSE + "See also dir.", "dir(1)\n" + PROSE + "See also ls."),
        (PROSE + "What follows is new here.", PROSE + "Was hier folgt, steht sonst nirgends geschrieben."),
    ],
)
def test_a_page_about_something_else_stays(kept, member):
    assert jaccard(kept, member) > 0.9 or containment(member, kept) > 0.95
    assert not goes(kept, member)
    assert goes(kept, member, own=1, own_words=99, opening=0, passage=99), "the rules that this test is about"


@pytest.mark.parametrize(
    ("kept", "member"),
    [
        ("Version 3.1, 2024-02-01\n" + PROSE, "Version 3.0, 2023-11-30\n" + PROSE),
        ("Copyright (c) 2024 Ann Other\n" + PROSE, "Copyright (c) 2019 Jo Somebody\n" + PROSE),
        ("© 2024 Ann Other and friends\n" + PROSE, "© 2019 Jo Somebody\n" + PROSE),
        (PROSE + "sha1 0d5c1eb9a77fbc31", PROSE + "sha1 9f3e77aa2bd0c451"),
        ("A preface.\n" + PROSE, PROSE),
        (PROSE, PROSE.replace("thrown", "cast")),
        (
            "".join(map(chr, range(0x4E00, 0x4F00))) + "。大。",
            "".join(map(chr, range(0x4E00, 0x4F00))) + "。口。",
        ),
    ],
)
def test_the_same_text_with_another_number_or_holder_or_word_goes(kept, member):
    assert goes(kept, member)


def test_a_number_with_another_unit_keeps_a_document():
    assert not goes(PROSE + "It needs 780MB at least.", PROSE + "It needs 485MB at least.")
    assert goes(PROSE + "It needs 780 at least.", PROSE + "It needs 485 at least.")


def test_a_clause_of_its_own_keeps_a_document_and_as_many_words_here_and_there_do_not():
    words = PROSE.split() + [f"w{number}" for number in range(900)]
    sentence = ["readers", "wherever", "folder", "nobody", "saw", "last"]
    assert not goes(" ".join(words), " ".join([*words[:300], *sentence, *words[300:]]))
    spread = list(words)
    for place, word in zip(range(250, 1000, 100), sentence, strict=False):
        spread[place] = word
    assert goes(" ".join(words), " ".join(spread))


def test_a_long_line_about_copyright_hides_nothing_and_costs_little():
    noise = " copyright" * 200_000
    started = time.process_time()
    assert goes(PROSE + noise, PROSE + noise)
    assert time.process_time() - started < 5
    flat = PROSE.replace("\n", " ")
    assert not goes("Copyright of the reader. " + flat, "Copyright of somebody else: a writer. " + flat)


def test_recall_by_jaccard_index_follows_the_curve_and_the_verification():
    rng = np.random.default_rng(17)
    texts, planted = pairs(rng, 2000, words=300, most=0.06)
    gone, _ = decided(NearCopies(), [table(texts)])
    ids = table(texts)["id"].to_pylist()
    found = np.array([ids[a] in gone or ids[b] in gone for a, b, _ in planted])
    truth = np.array([index for *_, index in planted])
    alike = np.array(
        [max(containment(texts[a], texts[b]), containment(texts[b], texts[a])) for a, b, _ in planted]
    )
    meant = (alike >= 0.95) | (truth >= 0.90)
    expected = meant * _met_and_agreed(rng, truth)
    for low in np.arange(0.5, 1, 0.05):
        here = (truth >= low) & (truth < low + 0.05 + (low > 0.94))
        spread = np.sqrt((expected[here] * (1 - expected[here])).sum())
        assert abs(found[here].sum() - expected[here].sum()) <= 4 * spread + 1, low
    assert found[~meant].sum() == 0 and found.sum() > 400


def _met_and_agreed(rng, truth):
    """The chance that some band of 14 x 8 agrees whole and 84 of all 112 hashes do, by drawing hashes."""
    same = rng.random((400, 14, 8, 1)) < np.linspace(0, 1, 101)  # (draws, bands, rows, Jaccard indexes)
    chance = (same.all(axis=2).any(axis=1) & (same.sum(axis=(1, 2)) >= 84)).mean(axis=0)
    return np.interp(truth, np.linspace(0, 1, 101), chance)
