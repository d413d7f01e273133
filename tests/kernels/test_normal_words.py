"""Normal words: every way of writing a text that means the same to a reader gives the same hashes."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.kernels import normal
from puna.kernels.words import words
from tests.kernels.texts import FIXTURES, column


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
        st.sampled_from(
            "aAbB 0,.-\n\t'éÉß“”ﬁ½Ⅳ日本ñ\u0301\u0345\u200b\u00ad\U0001f600\U0002f800Ωπ한각\u1112\u1161\u11a8กำ\u0e31\0"
        ),
        st.sampled_from("مُحَمَّدٌ לָ क्ष \U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea e\u0323\u0302"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


def spoken(texts, signs=False):
    """The hashes of each text."""
    found = words(*column(texts), "signs" if signs else "normal")
    return [found.hashes[a:b].tolist() for a, b in zip(found.first, found.first[1:], strict=False)]


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=5), st.booleans())
def test_words_and_their_places_are_those_of_the_slow_definition(texts, signs):
    data, offsets = column(texts)
    found = words(data, offsets, "signs" if signs else "normal")
    meaning = {}
    for row, text in enumerate(texts):
        slow = slow_words(text, signs)
        mine = slice(*found.first[row : row + 2])
        bytes_at = np.cumsum([offsets[row], *(len(c.encode()) for c in text)])
        places = list(zip(found.starts[mine].tolist(), found.ends[mine].tolist(), strict=True))
        assert places == [(bytes_at[begin], bytes_at[end]) for _, begin, end in slow]
        for (word, _, _), number in zip(slow, found.hashes[mine].tolist(), strict=True):
            assert meaning.setdefault(word, number) == number
    assert len(set(meaning.values())) == len(meaning)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.booleans())
def test_composed_and_decomposed_texts_have_the_same_words(text, signs):
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    composed, decomposed, *compatible = spoken(forms, signs)
    assert composed == decomposed == spoken([text], signs)[0]
    assert compatible[0] == compatible[1]


def test_all_ways_to_write_the_same_words_give_the_same_hashes():
    one = spoken(["Déjà vu: it’s ﬁne"])
    for other in (
        "deja\u0301 vu its fine".replace("its", "it s"),
        "DÉJÀ  VU, (it's) *ﬁne*",
        "dé\u00adjà v\u200bu it s ｆｉｎｅ",
    ):
        assert spoken([other]) == one
    assert spoken(["deja vu it was fine"]) != one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("قُرْآن", "قرآن"),
        ("한국어", unicodedata.normalize("NFD", "한국어")),
        ("ガ", "ｶﾞ"),
        ("Ⅳ ½", "iv 1\u20442"),
        ("ΟΔΟΣ", "οδος"),
    ],
)
def test_marks_width_and_old_forms_hide_nothing(one, other):
    assert spoken([one]) == spoken([other])


def test_the_hashes_are_those_of_every_other_day():
    assert spoken(["Puna, the high grassland"]) == [
        [11012700483790313616, 9799236388598190538, 15647059651103939589, 2200890369042348370]
    ]


def test_the_table_is_what_unicodedata_says():
    if unicodedata.unidata_version != "14.0.0":
        pytest.skip("the table is of Unicode 14, this Python is not")
    assert normal.TABLE.read_text("utf-8") == normal.table()


def test_what_is_read_from_the_table_is_what_was_written():
    kinds, folds = normal.kinds_and_folds()
    for text in FIXTURES:
        for c in text:
            whole = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", c).casefold())
            plain = "".join(part for part in whole if not unicodedata.combining(part))
            assert folds.get(ord(c), c) == ("" if unicodedata.category(c) == "Cf" else plain)
    assert {kinds[ord(c)] for c in "aé9ा"} == {"L"} and kinds[ord("日")] == "H" and kinds[ord("!")] == "S"
