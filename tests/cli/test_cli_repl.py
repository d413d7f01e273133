"""A sitting with a tiny model, on plain streams: what is shown, what is kept, what every command does."""

import io
import json
import signal
import threading
import time

import pytest

pytest.importorskip("torch")
from tiny_session import ANSWER, SHOWN, open_chat

from puna.cli import answer
from puna.cli.answer import Wishes
from puna.cli.commands import COMMANDS
from puna.cli.conversation import Conversation, load
from puna.cli.keyboard import history, history_file, is_whole, meant, plain
from puna.cli.repl import converse
from puna.cli.screen import Screen, clean
from puna.cli.sitting import Sitting
from puna.engine.request import Sampling


class Pretend(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def sit(*lines, model="known", wishes=None, talk=None, context=512, read=None, pause_s=None):
    """Type these lines; the sitting afterwards and what was shown."""
    session, out, notes = open_chat(model, context=context), Pretend(), io.StringIO()
    session.engine.pause_s = session.engine.pause_s if pause_s is None else pause_s
    wishes = wishes or Wishes(sampling=Sampling(temperature=0), max_tokens=40)
    screen = Screen(out, notes)
    sitting = Sitting(session, screen, talk or Conversation(), wishes, context)
    typed = io.StringIO("".join(f"{line}\n" for line in lines))
    converse(sitting, read(typed, screen) if read else plain(typed, screen))
    assert session.engine.open == 0, "a stream was left open"
    return sitting, out.getvalue(), notes.getvalue()


def said(sitting):
    return [(message.role, message.content) for message in sitting.talk.messages()]


def test_a_question_is_answered_and_both_are_kept():
    sitting, shown, _ = sit("hello", "and more")
    assert said(sitting) == [
        ("user", "hello"),
        ("assistant", ANSWER),
        ("user", "and more"),
        ("assistant", ANSWER),
    ]
    assert f"> {SHOWN}\n> {SHOWN}\n> " in shown


def test_lines_are_joined_by_a_backslash_and_by_triple_quotes():
    sitting, _, _ = sit("one\\", "two", '"""', "three", "", "/four\\", '"""', '""" five """', "six\\\\")
    questions = [text for role, text in said(sitting) if role == "user"]
    assert questions == ["one\ntwo", "three\n\n/four\\", " five ", "six\\\\"]


@pytest.mark.parametrize("text", ['"""', '"""a', "a\\", "a\\\\\\", '"""a\\', '""" a ""', '""""'])
def test_enter_does_not_send_half_a_text(text):
    assert not is_whole(text)


def test_the_end_of_input_inside_a_block_sends_what_there_is():
    sitting, _, _ = sit('"""', "half")
    assert said(sitting)[0] == ("user", '"""\nhalf')
    assert meant('"""\nhalf') == '"""\nhalf'


def test_empty_lines_are_no_questions():
    assert said(sit("", "   ", "\t")[0]) == []


def test_regenerate_asks_the_same_again_and_says_when_nothing_can_change():
    sitting, shown, notes = sit("hello", "/regenerate")
    assert said(sitting) == [("user", "hello"), ("assistant", ANSWER)]
    assert shown.count(SHOWN) == 2 and "temperature 0" in notes


def test_regenerate_draws_again():
    wishes = Wishes(sampling=Sampling(temperature=1.0), max_tokens=20)
    first, _, _ = sit("hello", model="random", wishes=wishes)
    second, _, notes = sit("/regenerate", model="random", wishes=wishes, talk=first.talk)
    assert said(first)[0] == said(second)[0] and said(first)[1] != said(second)[1] and notes == ""


def test_undo_and_clear_forget():
    sitting, shown, _ = sit("one", "two\\", "lines", "/undo")
    assert said(sitting) == [("user", "one"), ("assistant", ANSWER)] and "taken back: two ..." in shown
    sitting, shown, _ = sit("/system Be brief.", "one", "/clear")
    assert said(sitting) == [("system", "Be brief.")] and "with the system text" in shown


def test_the_system_text_is_shown_changed_and_taken_away():
    sitting, shown, _ = sit("/system", "/system Be brief.", "hello", "/system")
    assert "system: none" in shown and said(sitting)[0] == ("system", "Be brief.")
    assert said(sit("/system none", talk=sitting.talk)[0])[0] == ("user", "hello")


def test_set_shows_and_changes_and_refuses():
    sitting, shown, notes = sit(
        "/set",
        "/set temperature 0.3",
        "/set top-p 0.5",
        "/set stop é",
        "/set max_tokens none",
        '/set logit_bias {"5": 2}',
    )
    assert notes == "" and sitting.wishes == Wishes(
        sampling=Sampling(temperature=0.3, top_p=0.5, logit_bias={5: 2.0}), stop=("é",)
    )
    assert all(name in shown for name in Wishes().values())
    before = sitting.wishes
    for wrong, word in {
        "temperature -1": "greater than or equal to 0",
        "temperature hot": "valid number",
        "temperature nan": "finite",
        "top_p 2": "less than or equal to 1",
        "temprature 1": "'temperature'",
        "temprature": "'temperature'",
        "max_tokens 0": "greater",
        'stop [""]': "at least 1",
        "stop [": "not valid JSON",
        "seed 1.5": "integer",
        "sampling {}": "no setting",
    }.items():
        sitting, _, notes = sit(f"/set {wrong}", wishes=before)
        assert word in notes and sitting.wishes == before, wrong


def test_set_default_goes_back():
    sitting, _, _ = sit("/set max_tokens 7", "/set max_tokens default", "/set stop X", "/set stop default")
    assert sitting.wishes == sitting.usual


def test_settings_reach_the_engine():
    sitting, shown, _ = sit("/set max_tokens 2", "hello")
    assert said(sitting)[1][1] == ANSWER[:2] and "[cut after 2 tokens: /set max_tokens allows more]" in shown
    assert sitting.talk.turns[-1].cut == "length"
    assert said(sit("/set stop [", "/set stop 3", "hello")[0])[1][1] == ANSWER[: ANSWER.index("3")]


def test_a_conversation_is_saved_and_goes_on(tmp_path):
    path = tmp_path / "my talk.json"
    sitting, shown, _ = sit("/system Be brief.", "hello", f"/save {path}")
    assert f"saved 3 messages to {path}" in shown and load(path) == sitting.talk
    again, shown, _ = sit(f"/load {path}", "more")
    assert said(again)[:3] == said(sitting) and len(said(again)) == 5
    assert "user: hello" in shown and f"assistant: {SHOWN}" in shown


def test_a_failed_load_or_save_changes_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("dear diary")
    sitting, _, notes = sit(
        "hello",
        f"/load {tmp_path}/notes.txt",
        f"/save {tmp_path}/notes.txt",
        "/load",
        "/save",
        "/load /no/such",
        "/load ~nobody/x",
    )
    assert said(sitting) == [("user", "hello"), ("assistant", ANSWER)]
    assert (tmp_path / "notes.txt").read_text() == "dear diary"
    assert (
        notes.count("a file name is needed") == 2
        and "not a conversation" in notes
        and notes.count("no such file") == 2
    )


def test_commands_without_anything_to_do_say_so():
    _, _, notes = sit("/undo", "/regenerate", "/save /tmp/x.json")
    assert notes.count("nothing was asked yet") == 2 and "nothing was said yet" in notes


@pytest.mark.parametrize(
    ("typed", "near"),
    [("/regen", "/regenerate"), ("/quti", "/quit"), ("/sats", "/stats"), ("/HELP", "/help")],
)
def test_an_unknown_command_names_the_nearest(typed, near):
    sitting, _, notes = sit(typed)
    assert f"did you mean {near}?" in notes and said(sitting) == []


def test_a_path_is_no_command_unless_it_begins_with_a_space():
    sitting, _, notes = sit("/etc/hosts is what?", " /etc/hosts is what?")
    assert "no such command" in notes and said(sitting)[0] == ("user", "/etc/hosts is what?")


def test_help_names_every_command():
    _, shown, _ = sit("/help")
    assert all(f"/{name}" in shown for name in COMMANDS)


def test_quit_leaves_at_once():
    assert said(sit("/quit", "hello")[0]) == []


def test_stats_tell_the_last_answer_and_the_room_left():
    _, shown, _ = sit("/stats", "hello", "/stats")
    assert "last answer: none yet" in shown and "conversation: 22 of 512 tokens" in shown
    assert f"last answer: {len(ANSWER.encode()) + 1} tokens in" in shown and "tokens/s" in shown


def test_a_full_context_says_what_to_do_and_the_chat_goes_on():
    sitting, _, notes = sit("hello", "x" * 100, "/undo", "again", context=64)
    assert "the conversation takes 124 tokens, the model remembers 64" in notes and "/undo" in notes
    assert [text for role, text in said(sitting) if role == "user"] == ["again"]


def test_an_answer_that_fills_the_context_says_so():
    wishes = Wishes(sampling=Sampling(temperature=0))
    _, shown, _ = sit("hello", model="endless", wishes=wishes, context=32, pause_s=0)
    assert "abcdefghijklmnopqrstuvw\n[cut: the model remembers 32 tokens and they are full: /undo" in shown


def interrupting(after_s):
    """A way to read after which Ctrl-C is pressed, while the answer is written."""
    main, pressing = threading.main_thread().ident, []

    def press():
        time.sleep(after_s)
        signal.pthread_kill(main, signal.SIGINT)

    def read(typed, screen):
        lines = plain(typed, screen)

        def one():
            for thread in pressing:
                thread.join()
            text = lines()
            if not text.startswith("/"):
                pressing.append(threading.Thread(target=press))
                pressing[-1].start()
            return text

        return one

    return read


def test_an_interrupt_stops_the_answer_and_keeps_what_was_written(tmp_path):
    path = tmp_path / "talk.json"
    sitting, shown, _ = sit("hello", f"/save {path}", model="endless", read=interrupting(0.4))
    role, text = said(sitting)[1]
    assert role == "assistant" and text.startswith("abc") and len(text) < 60
    assert "[stopped]" in shown and sitting.talk.turns[-1].cut == "cancelled"
    assert json.loads(path.read_text())["messages"][-1]["finish"] == "cancelled"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_before_the_first_word_takes_the_question_back():
    sitting, shown, _ = sit("hello", model="endless", read=interrupting(0.1), pause_s=0.5)
    assert said(sitting) == [] and "[stopped; the question was taken back]" in shown


def test_an_interrupt_at_the_prompt_only_hints():
    def read(typed, screen):
        keys = iter([KeyboardInterrupt, "hello", KeyboardInterrupt, EOFError])

        def one():
            key = next(keys)
            if isinstance(key, str):
                return key
            raise key

        return one

    sitting, shown, _ = sit(read=read)
    assert shown.count("(Ctrl-D or /quit leaves") == 2 and len(said(sitting)) == 2


def test_an_engine_that_does_not_stop_is_left_after_a_while(monkeypatch):
    monkeypatch.setattr(answer, "PATIENCE_S", 0.05)
    ended = []
    with pytest.raises(KeyboardInterrupt), answer.on_interrupt(lambda: ended.append(1)):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert len(ended) == 2
        time.sleep(0.06)
        signal.raise_signal(signal.SIGINT)


def test_a_redirected_output_holds_the_answers_as_written_and_nothing_else():
    out, notes = io.StringIO(), io.StringIO()
    screen = Screen(out, notes)
    sitting = Sitting(open_chat("known"), screen, Conversation(), Wishes(), 512, stats=True)
    converse(sitting, plain(io.StringIO("hello\n/set\n/nonsense\nagain\n"), screen))
    assert out.getvalue() == f"{ANSWER}\n{ANSWER}\n"
    assert "temperature" in notes.getvalue() and "no such command" in notes.getvalue()


def test_bytes_that_are_no_text_do_not_end_the_chat():
    sitting, _, _ = sit("caf\udce9")
    assert said(sitting)[0] == ("user", "caf?")


def test_control_characters_do_not_reach_a_terminal():
    nasty = "".join(map(chr, range(0x110)))
    kept = clean(nasty)
    assert "\n" in kept and "\t" in kept and "é" in kept
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in kept if c not in "\n\t")


def test_history_lives_in_the_state_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "puna" / "chat_history"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_file() == tmp_path / ".local" / "state" / "puna" / "chat_history"


def test_without_a_place_for_history_the_chat_says_so_and_goes_on(monkeypatch, tmp_path):
    (tmp_path / "puna").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    screen = Screen(io.StringIO(), io.StringIO())
    assert history(screen) is None
    assert "not remembered" in screen.notes.getvalue()
