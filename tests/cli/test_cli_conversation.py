"""A conversation: what is kept, taken back, saved and refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.cli.conversation import Conversation, from_json, load, save, to_json
from puna.errors import DataError, PunaError

TALK = Conversation(system="Be brief.").said("one?").answered("1").said("two?").answered("2", "cancelled")


def said(talk):
    return [(message.role, message.content) for message in talk.messages()]


def test_turns_stand_in_order_behind_the_system_text():
    roles = [
        ("system", "Be brief."),
        ("user", "one?"),
        ("assistant", "1"),
        ("user", "two?"),
        ("assistant", "2"),
    ]
    assert said(TALK) == roles


def test_undo_takes_back_one_question_and_its_answer():
    assert said(TALK.undone()) == said(TALK)[:3]
    assert said(TALK.undone().undone()) == said(TALK)[:1]
    with pytest.raises(DataError, match="nothing was asked"):
        TALK.undone().undone().undone()


def test_regenerating_keeps_the_question():
    assert said(TALK.unanswered()) == said(TALK)[:4]


def test_files_are_read_before_the_first_question_and_survive_undo():
    talk = (
        Conversation(files=(("a.txt", "alpha\n"), ("b.txt", "beta")))
        .said("which?")
        .answered("a")
        .said("why?")
    )
    first = (
        "--- a.txt ---\nalpha\n--- end of a.txt ---\n\n--- b.txt ---\nbeta\n--- end of b.txt ---\n\nwhich?"
    )
    assert said(talk)[0] == ("user", first)
    assert said(talk)[2] == ("user", "why?")
    assert said(talk.undone().undone().said("again?"))[0][1].endswith("again?")
    assert "alpha" in said(talk.undone().undone().said("again?"))[0][1]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["stop", "cancelled", "length"])), min_size=1))
def test_saved_and_loaded_is_the_same(system, turns):
    talk = Conversation(system=system)
    for question, answer, finish in turns:
        talk = talk.said(question).answered(answer, finish)
    assert from_json(json.loads(json.dumps(to_json(talk, "m"))), "here") == talk


def test_a_file_keeps_how_an_answer_ended(tmp_path):
    save(TALK, tmp_path / "talk.json", "smollm2")
    assert load(tmp_path / "talk.json") == TALK
    values = json.loads((tmp_path / "talk.json").read_text())
    assert values["model"] == "smollm2" and values["messages"][-1]["finish"] == "cancelled"
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


def test_saving_replaces_a_conversation_and_nothing_else(tmp_path):
    path, other = tmp_path / "talk.json", tmp_path / "notes.txt"
    save(TALK, path, "m")
    save(TALK.undone(), path, "m")
    assert load(path) == TALK.undone()
    other.write_text("dear diary")
    with pytest.raises(DataError, match="not a conversation"):
        save(TALK, other, "m")
    assert other.read_text() == "dear diary"
    with pytest.raises(DataError, match="not saved"):
        save(TALK, tmp_path / "missing" / "talk.json", "m")
    with pytest.raises(DataError, match="nothing was said"):
        save(Conversation(), tmp_path / "empty.json", "m")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "null",
        "[]",
        "{}",
        '{"messages": 3}',
        '{"messages": [3]}',
        '{"messages": [{"role": "king", "content": "x"}]}',
        '{"messages": [{"role": ["user"], "content": "x"}]}',
        '[{"role": "user", "content": 7}]',
        '[{"role": "user", "content": "x"}, {"role": "system", "content": "late"}]',
        '[{"role": "user", "content": "x", "finish": "exploded"}]',
        '[{"role": "user", "content": "x", "finish": {}}]',
        '[{"role": "assistant", "tool_calls": [{}]}]',
        '[{"role": "user", "content": "\\ud800"}]',
    ],
)
def test_a_bad_file_is_a_sentence(text, tmp_path):
    path = tmp_path / "talk.json"
    path.write_text(text)
    with pytest.raises(PunaError, match=r"talk\.json"):
        load(path)


def test_loading_something_that_is_no_file_says_so(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "missing.json")
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path)
