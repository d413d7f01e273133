"""What a model is asked about a text, and what of its answer is taken for a label."""

import json
import math

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.data.classify.label_file import NOTHING, documents_of, label_all, some
from puna.data.classify.labels import PROMPTS, LabelPrompt, Said, label, read_prompt, shares
from puna.data.document import documents, make_id
from puna.errors import ConfigError, DataError

HOW = LabelPrompt(
    user="Rate this {braces} page:\n{text}\nEnd with: Educational score: <n>", most_characters=10, how="write"
)
WORDS = LabelPrompt(user="{text}?", answers=("safe", "unsafe", "no idea"), how="write")
CHOICE = LabelPrompt(user="{text}?", answers=("safe", "unsafe"))
BY = {"model": "tiny", "model_sha256": "00"}


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
    assert HOW.label(answer) == (None if score is None else f"{score:g}")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("safe", "safe"),
        (" **Unsafe.** ", "unsafe"),
        ("Label: safe", "safe"),
        ("I read it twice.\nNo idea!\n", "no idea"),
        ("Unsafe\nbecause of its words", "unsafe"),
        ("It is not unsafe", None),
        ("safe or unsafe", None),
        ("unsafely", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_a_word_counts_only_where_it_is_the_whole_answer(answer, found):
    assert WORDS.label(answer) == found


@given(st.text())
def test_no_answer_gives_what_is_not_allowed(answer):
    found = HOW.score(answer)
    assert found is None or 0 <= found <= 5
    assert WORDS.label(answer) in (None, *WORDS.answers)


def test_a_long_answer_is_read_from_its_end():
    assert HOW.score("score: " * 1_000_000 + "2") == 2


def test_questions_hold_the_text_as_it_is_and_no_longer_than_allowed():
    (short,) = HOW.messages("short")
    assert short.content == "Rate this {braces} page:\nshort\nEnd with: Educational score: <n>"
    system, cut = HOW.model_copy(update={"system": "Be strict."}).messages("{text} is long, and cut")
    assert (system.role, system.content) == ("system", "Be strict.") and "\n{text} is \n" in cut.content


def test_the_likeliest_allowed_answer_is_the_label_and_its_chances_stand_beside_it():
    row = label("x", CHOICE, lambda how, messages: Said(logprobs=(math.log(0.001), math.log(0.003))))
    assert row == {"label": "unsafe", "answer": "unsafe", "chances": {"safe": 0.25, "unsafe": 0.75}}
    assert shares([-2000.0, -2000.0]) == [0.5, 0.5]
    refused = label("x", CHOICE, lambda how, messages: Said(problem="too long"))
    assert refused == {"label": None, "answer": "", "problem": "too long"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"user": "no place for it", "how": "write"}, "0 times"),
        ({"user": "{text}{text}", "how": "write"}, "2 times"),
        ({"user": "{text}"}, "nothing to choose from"),
        ({"user": "{text}", "answers": ["yes"]}, "two at least"),
        ({"user": "{text}", "answers": ["yes", " Yes."]}, "all different"),
        ({"user": "{text}", "how": "write", "low": 3, "high": 1}, "from 3 to 1"),
        ({"user": "{text}", "answer": ["a", "b"]}, "did you mean 'answers'"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_refused(values, said):
    with pytest.raises((ConfigError, DataError), match=said):
        LabelPrompt.read(values, "here")


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_prompt_that_comes_with_puna_can_be_asked(path):
    how = read_prompt(path.stem)
    assert how.answers and how.how == "score" and how == read_prompt(path)
    assert how.fingerprint() != how.model_copy(update={"seed": 1}).fingerprint()


def test_a_prompt_that_is_not_there_is_told(tmp_path):
    (tmp_path / "p.toml").write_text("= 3")
    with pytest.raises(DataError, match="not TOML"):
        read_prompt(tmp_path / "p.toml")
    with pytest.raises(DataError, match=r"education, safety"):
        read_prompt("nothing")


def texts(*words):
    return [(make_id("t", word), word) for word in words]


def writer(*, dies_after=None):
    """Says what the text is; "?" is no answer."""
    asked = []

    def ask(how, messages):
        if len(asked) == dies_after:
            raise KeyboardInterrupt
        asked.append(messages[-1].content.rstrip("?"))
        return Said(text=asked[-1])

    return ask, asked


WORDS_OF = ("safe", "unsafe", "perhaps", "safe.", "Unsafe!")


def test_killed_anywhere_and_run_again_is_the_file_of_one_run(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ask, _ = writer()
    counts = label_all(texts(*WORDS_OF), WORDS, ask, whole, BY, 5, with_text=True)
    assert counts == {"safe": 2, "unsafe": 2, NOTHING: 1}
    for line in map(json.loads, whole.read_text().splitlines()):
        assert line["prompt_sha256"] == WORDS.fingerprint() and line["model"] == "tiny" and line["text"]
    for done in range(5):
        ask, _ = writer(dies_after=done)
        with pytest.raises(KeyboardInterrupt):
            label_all(texts(*WORDS_OF), WORDS, ask, cut, BY, 5, with_text=True)
        cut.write_bytes(cut.read_bytes() + whole.read_bytes().splitlines()[done][: 1 + 17 * done])
        ask, asked = writer()
        assert label_all(texts(*WORDS_OF), WORDS, ask, cut, BY, 5, with_text=True) == counts
        assert cut.read_bytes() == whole.read_bytes() and asked == list(WORDS_OF[done:])
        cut.unlink()


def test_labels_of_another_prompt_or_model_are_not_mixed_in(tmp_path):
    ask, _ = writer()
    label_all(texts("safe"), WORDS, ask, tmp_path / "l", BY, 1)
    with pytest.raises(DataError, match="another prompt_sha256"):
        label_all(texts("safe"), WORDS.model_copy(update={"system": "x"}), ask, tmp_path / "l", BY, 1)
    with pytest.raises(DataError, match="another model_sha256"):
        label_all(texts("safe"), WORDS, ask, tmp_path / "l", BY | {"model_sha256": "11"}, 1)
    (tmp_path / "l").write_text("{}\n")
    with pytest.raises(DataError, match="l:1: not a row of labels"):
        label_all(texts("safe"), WORDS, ask, tmp_path / "l", BY, 1)


def test_documents_that_puna_wrote_keep_their_ids_and_others_get_those_of_a_source(tmp_path):
    rows = [{"id": make_id("t", w), "source": "t", "url": "", "date": "", "text": w} for w in WORDS_OF]
    pq.write_table(documents(rows), tmp_path / "kept.parquet")
    assert list(documents_of([tmp_path / "kept.parquet"])) == texts(*WORDS_OF)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": w}) + "\n" for w in WORDS_OF))
    (tmp_path / "b.txt").write_text("one text")
    found = list(documents_of([tmp_path / "a.jsonl", tmp_path / "b.txt"], "web"))
    assert [text for _, text in found] == [*WORDS_OF, "one text"]
    assert found[0][0] == make_id("web", "a.jsonl:0") and len({key for key, _ in found}) == 6
    with pytest.raises(DataError, match="no such file"):
        list(documents_of([tmp_path / "c.jsonl"]))


def test_some_of_the_texts_are_the_same_whatever_their_order():
    every = texts(*map(str, range(50)))
    assert list(some(every, 7)) == list(some(every[::-1], 7)) and len(list(some(every, 7))) == 7
    assert list(some(every, None)) == every
