"""Gopher's, C4's and FineWeb's rules drop what they were made for, by the measure they name, and nothing else."""

import numpy as np
import pyarrow as pa
import pytest

from puna.data.document import documents, make_id
from puna.data.filters.c4 import C4, C4Lines
from puna.data.filters.fineweb import FineWeb
from puna.data.filters.gopher import GopherQuality, GopherRepetition
from puna.data.stage import KEEP

ANIMALS = ["llama", "alpaca", "vicuna", "guanaco", "condor", "puma", "fox", "hare", "frog", "toad"]
PLACES = ["river", "lake", "valley", "ridge", "village", "bridge", "market", "field", "meadow", "road"]
SENTENCE = (
    "The {} that lives by the {} is known to the people of place number {} and they have named it well."
)
PROSE = [
    SENTENCE.format(animal, place, chr(97 + i) * (i + 3))
    for i, (animal, place) in enumerate(zip(ANIMALS, PLACES, strict=True))
]
GOOD = "\n".join(
    [
        "The high grassland begins where the last trees end, and nobody has ever drawn its border on a map.",
        "Herds of small animals with soft wool walk there all year, followed by a child and two dogs.",
        "In winter the wind comes from the south and carries dust that settles on every roof in town.",
        "Old women say that a river once ran under the hill; at night you can hear it if you are quiet.",
        "My father built our house with stones from its bed. He was never asked to pay for them.",
        "Today a road leads to the city, but few people take it before the festival in the spring.",
    ]
)


def table(*texts):
    rows = [
        {"id": make_id("t", str(i)), "source": "t", "url": "", "date": "", "text": t}
        for i, t in enumerate(texts)
    ]
    return documents(rows)


def reasons(gate, *texts):
    verdict = gate(texts[0] if isinstance(texts[0], pa.Table) else table(*texts))
    return ["kept" if code == KEEP else gate.reasons[code].split(".")[-1] for code in verdict.codes]


@pytest.mark.parametrize("gate", [GopherQuality(), GopherRepetition(), FineWeb()], ids=lambda gate: gate.name)
def test_prose_is_kept(gate):
    assert reasons(gate, GOOD, GOOD.replace("\n", "\n\n")) == ["kept", "kept"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "few_words"),
        (" ".join(GOOD.split()[:49]), "few_words"),
        (GOOD * 900, "many_words"),
        ("the of " + "a b c d " * 30, "short_words"),
        ("the of " + "incomprehensibilities " * 60, "long_words"),
        (GOOD + " #" * 40, "number_signs"),
        (GOOD.replace(" ", "... ", 40), "ellipses"),
        ("\n".join("- " + line for line in GOOD.split("\n")), "bullet_lines"),
        (GOOD.replace(".\n", "...\n", 2), "ellipsis_lines"),
        ("the of " + "123 456 word " * 60, "few_alphabetic_words"),
        ("palabras " * 60, "few_stop_words"),
    ],
)
def test_gopher_quality_says_what_is_wrong(text, reason):
    assert reasons(GopherQuality(), text) == [reason]


def test_punctuation_is_no_word_without_letters_unless_it_is_counted_as_datatrove_does():
    manual = GOOD.replace(" a ", " `a`, ").replace("the ", "(the) ").replace("and ", "--and, ")
    assert reasons(GopherQuality(), manual) == ["kept"]
    signs = GopherQuality(alphabetic_of="words_and_symbols", least_alphabetic=0.85)
    assert reasons(signs, manual) == ["few_alphabetic_words"] and reasons(signs, GOOD) == ["kept"]


def test_a_language_can_leave_out_the_stop_words():
    assert reasons(GopherQuality(least_stop_words=0), "palabras " * 60) == ["kept"]
    assert reasons(GopherQuality(stop_words=("palabras", "otras")), "palabras otras " * 30) == ["kept"]


@pytest.mark.parametrize(
    "text, reason",
    [
        (f"{GOOD}\n\nTwice.\n\nTwice.\n\nTwice.", "duplicate_paragraphs"),
        ("\n\n".join([*PROSE[:3], GOOD[:400], GOOD[:400]]), "duplicate_paragraph_characters"),
        (f"{GOOD}\n" + "Menu\n" * 6, "duplicate_lines"),
        ("\n".join([*GOOD.split("\n"), "Short.", *GOOD.split("\n")[:2]]), "duplicate_line_characters"),
        ("buy now " * 8 + GOOD[:150], "top_2_gram"),
        (" ".join(f"we sell extraordinarily {word}" for word in ANIMALS[:5]) + GOOD[:450], "top_3_gram"),
        (" ".join(f"we sell you extraordinarily {word}" for word in ANIMALS[:4]) + GOOD[:450], "top_4_gram"),
    ],
)
def test_gopher_repetition_says_what_is_wrong(text, reason):
    assert reasons(GopherRepetition(), text) == [reason]


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9, 10])
def test_each_length_of_repeated_run_has_its_own_threshold(n):
    off, most = 1.0, [1.0] * 6
    most[n - 5] = 0.05
    gate = GopherRepetition(
        most_duplicate_paragraphs=off,
        most_duplicate_paragraph_characters=off,
        most_duplicate_lines=off,
        most_duplicate_line_characters=off,
        most_top_grams=(off,) * 3,
        most_duplicate_grams=tuple(most),
    )
    words = GOOD.replace("\n", " ").split()
    run = words[10 : 10 + n]
    text = " ".join(words + run * 3)
    again = sum(len(word.strip(".,;")) for word in run)
    verdict = gate(table(text, " ".join(words + run[:-1])))
    assert gate.reasons[verdict.codes[0]].endswith(f".duplicate_{n}_grams") and verdict.codes[1] == KEEP
    assert verdict.values[0] == np.float32(3 * again / len(text))


def test_the_value_that_was_measured_stands_in_the_verdict():
    verdict = GopherQuality()(table("one two three", GOOD, "the of " + "a b c d " * 30))
    assert verdict.values[0] == 3 and verdict.values[2] == np.float32((5 + 120) / 122)
    assert verdict.codes.dtype == np.int16 and verdict.values.dtype == np.float32


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "few_terminal_lines"),
        (GOOD.replace(".\n", "\n").rstrip("."), "few_terminal_lines"),
        ("A short one.\n" * 3 + "Yes it is.\n" + GOOD.split("\n")[0], "short_lines"),
        (f"{GOOD}\n{GOOD[:98]}", "duplicate_lines"),
        (GOOD.replace(".\n", "." + "\n" * 9), "many_lines"),
    ],
)
def test_fineweb_says_what_is_wrong(text, reason):
    assert reasons(FineWeb(), text) == [reason]


def cleaned(text, **settings):
    return C4Lines(**settings)(table(text))["text"].to_pylist()[0]


def test_c4_keeps_lines_that_are_sentences_and_trims_them():
    page = "Home | About\n  This line stays[1] as it is.  \nToo short.\nThis one trails off...\nIs this one kept[edit]?\n\nNo end"
    assert cleaned(page) == "This line stays as it is.\nIs this one kept?"
    assert cleaned(page, terminal=False, citations=False).startswith("Home | About\nThis line stays[1] as")


@pytest.mark.parametrize(
    "line",
    [
        "Please turn JavaScript on in here.",
        "We use cookies to serve you better.",
        "Read our Privacy Policy and the rest.",
        "An endless word " + "x" * 1001 + ".",
    ],
)
def test_c4_drops_lines_about_the_page_itself(line):
    assert cleaned(f"{GOOD}\n{line}") == GOOD


@pytest.mark.parametrize(
    "text, reason",
    [
        (GOOD, "kept"),
        (GOOD + "\nThe LOREM IPSUM text is here.", "lorem_ipsum"),
        (GOOD + "\nLorem ipsum", "kept"),  # the line is no sentence and goes before it is asked
        (GOOD + "\nif (x) { return to sender; }.", "curly_bracket"),
        ("\n".join(GOOD.split("\n")[:4]), "few_sentences"),
        ("\n".join(GOOD.split("\n")[:4]) + " And one more. ", "kept"),
        ("", "few_sentences"),
    ],
)
def test_c4_judges_what_its_lines_left(text, reason):
    assert reasons(C4(), C4Lines()(table(text))) == [reason]


def test_c4_leaves_a_table_of_the_same_shape():
    before = table(GOOD, "", "中文。 也 可以.\nnothing here")
    after = C4Lines()(before)
    assert after.schema.names == [*before.schema.names, *(name for name in C4Lines.writes if name != "text")]
    assert after.schema.field("text") == before.schema.field("text")
    assert C4Lines()(after)["text"].to_pylist() == after["text"].to_pylist()
    assert after["text"].to_pylist() == [GOOD, "", "中文。 也 可以."]
    assert C4Lines()(before.slice(1, 1))["text"].to_pylist() == [""]


def test_an_empty_table_gets_an_empty_answer():
    empty = C4Lines()(table(GOOD).slice(0, 0))
    for gate in (GopherQuality(), GopherRepetition(), FineWeb(), C4()):
        assert len(gate(empty).codes) == 0


def test_codes_are_named_after_their_stage_and_never_twice():
    for gate in (GopherQuality, GopherRepetition, C4, FineWeb):
        assert all(reason.startswith(f"{gate.name}.") for reason in gate.reasons)
        assert len(set(gate.reasons)) == len(gate.reasons)
