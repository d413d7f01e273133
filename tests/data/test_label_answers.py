import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.data.classify.labels import LABELS, REQUESTS, LabelPrompt, label
from puna.data.document import documents, make_id
from puna.errors import ConfigError, DataError

HOW = LabelPrompt(
    prompt="Rate this {braces} page:\n{text}\nEnd with: Educational score: <n>", most_characters=10
)


def pages(*texts):
    rows = [
        {"id": make_id("t", str(at)), "source": "t", "url": "", "date": "", "text": text}
        for at, text in enumerate(texts)
    ]
    return documents(rows)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("It covers 3 topics in 200 words. Educational score: 4", 4),
        ("Score: **2.5**", 2.5),
        ("The score is 3.", 3),
        ("Rating - 5/5", 5),
        ("score 1 at first; then I changed my mind. Educational score: 3 points", 3),
        ("I would say 4", 4),
        ("4 out of 5.", 4),
        ("4/5", 4),
        ("3 good points and much else besides", None),
        ("Score: 7", None),
        ("Score: -1", None),
        ("Score: 12345", None),
        ("", None),
        ("no idea", None),
    ],
)
def test_an_answer_gives_its_score_or_none(answer, score):
    assert HOW.score(answer) == score


@given(st.text())
def test_no_answer_gives_a_score_outside_the_scale(answer):
    found = HOW.score(answer)
    assert found is None or 0 <= found <= 5


def test_a_long_answer_is_read_from_its_end():
    assert HOW.score("score: " * 1_000_000 + "2") == 2


def test_requests_hold_the_text_as_it_is_and_no_longer_than_allowed():
    table = HOW.requests(pages("short", "{text} is long, and cut"))
    assert table.schema == REQUESTS
    first, second = table["prompt"].to_pylist()
    assert first == "Rate this {braces} page:\nshort\nEnd with: Educational score: <n>"
    assert "\n{text} is \n" in second


def test_every_document_gets_the_answer_to_its_own_question():
    table, asked = pages("one", "two", "none", "three", "four"), []

    def ask(prompts):
        asked.append(len(prompts))
        for prompt in prompts:
            word = prompt.split("\n")[1]
            yield f"Score: {['none', 'one', 'two', 'three', 'four'].index(word)}" if word != "none" else "?"

    found = label(table, HOW, ask, at_once=2)
    assert found.schema == LABELS
    assert found["score"].to_pylist() == [1, 2, None, 3, 4]
    assert found["id"].to_pylist() == table["id"].to_pylist()
    assert asked == [2, 2, 1]


def test_answers_that_are_missing_are_noticed():
    with pytest.raises(DataError, match="1 answers to 2"):
        label(pages("a", "b"), HOW, lambda prompts: prompts[:1])
    with pytest.raises((ConfigError, DataError)):
        LabelPrompt.read({"prompt": "no place for it"}, "here")
