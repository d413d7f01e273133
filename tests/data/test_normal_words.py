import unicodedata

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data import normal_words as rooms
from puna.data.normal_words import normal_words, runs_of


def slow_words(text, symbols=False):
    """The definition a textbook would print: [(folded word, begin, end)]."""
    found, last = [], None
    for at, character in enumerate(text):
        whole = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
        hidden = unicodedata.category(character) == "Cf" or 0xE0000 <= ord(character) < 0xE0200
        for c in "" if hidden else whole:
            if unicodedata.combining(c):
                continue
            kind = kind_of(c, symbols)
            if (kind == "word" and last == "word") or (kind == "symbol" and last == "symbol"):
                word, begin, _ = found[-1]
                found[-1] = word + c, begin, at + 1
            elif kind != "break":
                found.append((c, at, at + 1))
            last = kind
    return found


def kind_of(c, symbols):
    if ord(c) >= 0x20000:
        return "alone" if ord(c) < 0x40000 else "break"
    category = unicodedata.category(c)
    if c == "\n" or category[0] in "PS":
        return "symbol" if symbols else "break"
    if category[0] not in "LNM":
        return "break"
    spaceless = (
        (0xE00, 0xEFF),
        (0x1000, 0x109F),
        (0x1780, 0x17FF),
        (0x2E80, 0x312F),
        (0x31A0, 0x9FFF),
        (0xF900, 0xFAFF),
    )
    return "alone" if any(low <= ord(c) <= high for low, high in spaceless) else "word"


TEXTS = st.text(
    st.one_of(
        st.sampled_from("aAbB 0,.-\n\t'éÉß“”ﬁ½Ⅳ日本ñ\u0301\u200b\u00ad\U0001f600Ωπ한\0"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=5), st.booleans())
def test_words_and_their_places_are_those_of_the_slow_definition(texts, symbols):
    found = normal_words(texts, symbols)
    meaning = {}
    for row, text in enumerate(texts):
        slow = slow_words(text, symbols)
        mine = slice(*found.offsets[row : row + 2])
        places = list(zip(found.begins[mine].tolist(), found.ends[mine].tolist(), strict=True))
        assert places == [(begin, end) for _, begin, end in slow]
        for (word, _, _), number in zip(slow, found.hashes[mine].tolist(), strict=True):
            assert meaning.setdefault(word, number) == number
    assert len(set(meaning.values())) == len(meaning)


def test_all_ways_to_write_the_same_words_give_the_same_hashes():
    one = normal_words(["Déjà vu: it’s ﬁne"]).hashes
    for other in (
        "deja\u0301 vu its fine".replace("its", "it s"),
        "DÉJÀ  VU, (it's) *ﬁne*",
        "dé\u00adjà v\u200bu it s ｆｉｎｅ",
    ):
        assert normal_words([other]).hashes.tolist() == one.tolist()
    assert normal_words(["deja vu it was fine"]).hashes.tolist() != one.tolist()


def test_a_text_cut_into_pieces_has_the_words_it_has_in_one(monkeypatch):
    texts = ["one two three four " * 30, "", "日本 five\nsix " * 40, "seven"]
    whole = normal_words(texts)
    monkeypatch.setattr(rooms, "_PIECE", 50)
    pieces = normal_words(texts)
    for name in ("hashes", "begins", "ends", "offsets"):
        assert getattr(pieces, name).tolist() == getattr(whole, name).tolist()


def test_runs_stay_within_their_text():
    words = normal_words(["a b c", "d", "b c d e"])
    hashes, offsets = runs_of(words.hashes, words.offsets, 2)
    assert offsets.tolist() == [0, 2, 2, 5]
    assert hashes[1] == hashes[2]  # b c
    assert len(set(hashes.tolist())) == 4
    assert runs_of(words.hashes, words.offsets, 9)[0].tolist() == []


def test_the_hashes_are_those_of_every_other_day():
    found = normal_words(["Puna, the high grassland"])
    assert found.hashes.dtype == np.uint64
    assert found.hashes.tolist() == [
        11012700483790313616,
        9799236388598190538,
        15647059651103939589,
        2200890369042348370,
    ]
