"""`puna chat` as people meet it: real processes in pipes, real pseudo-terminals, a dumb one too."""

import json
import re
import subprocess
import sys

import pytest

pytest.importorskip("torch")
from terminal import ROOT, SCRIPT, Terminal, environment
from tiny_session import ANSWER, SHOWN


def puna(*words, home, stdin=b"", **more):
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, timeout=60, env=environment(home, **more)
    )


def test_one_question_one_answer_in_a_pipe(tmp_path):
    done = puna("chat", "known", "-p", "hello", "--stats", home=tmp_path)
    assert done.returncode == 0 and done.stdout.decode() == ANSWER + "\n"  # a pipe gets every character
    assert re.fullmatch(
        rb"12 tokens in .* s, first after .* s, then .* tokens/s, prompt 9 tokens\n", done.stderr
    )


def test_json_is_one_object_and_piped_text_follows_the_prompt(tmp_path):
    (tmp_path / "a.txt").write_text("alpha")
    words = ("chat", "known", "--json", "-p", "why?", "--system", "-x-", "--file", str(tmp_path / "a.txt"))
    done = puna(*words, home=tmp_path, stdin="because é\n".encode())
    record = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == b"" and done.stdout.count(b"\n") == 1
    assert record["text"] == ANSWER and record["finish"] == "stop" and record["model"] == "known"
    assert record["ids"] == [*ANSWER.encode(), 257] and record["usage"]["completion_tokens"] == 12
    asked = "--- a.txt ---\nalpha\n--- end of a.txt ---\n\nwhy?\n\nbecause é"
    assert record["usage"]["prompt_tokens"] == 1 + (2 + 3) + (2 + len(asked.encode())) + 1


def test_piped_text_alone_is_the_prompt(tmp_path):
    done = puna("chat", "endless", "--json", "--max-tokens", "2", home=tmp_path, stdin=b"hello\n")
    record = json.loads(done.stdout)
    assert record["text"] == "ab" and record["finish"] == "length" and record["usage"]["prompt_tokens"] == 9


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        ((), b"", b"there is no question"),
        ((), b"\n\n", b"there is no question"),
        ((), b"\xff\xfe", b"standard input: not UTF-8"),
        (("-p", "x"), b"a\0b", b"standard input: holds zero bytes"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_loaded(words, stdin, said, tmp_path):
    command = [sys.executable, "-m", "puna.cli.main", "chat", *words]  # no engine is needed
    done = subprocess.run(
        command, input=stdin, capture_output=True, timeout=60, env=environment(tmp_path), cwd=ROOT
    )
    assert done.returncode == 2 and said in done.stderr and done.stdout == b""


def test_a_question_too_long_for_the_model_is_refused(tmp_path):
    done = puna("chat", "known", "--context", "64", home=tmp_path, stdin=b"x" * 100)
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.startswith(b"puna: the conversation takes 104 tokens, the model remembers 64\n  try: ")


def test_a_reader_that_goes_away_ends_the_answer_quietly(tmp_path):
    command = [sys.executable, str(SCRIPT), "chat", "endless", "-p", "hello"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert process.stdout.read(3) == b"abc"  # it streams
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_whole_sitting_in_a_terminal(tmp_path):
    five = r"abcde\r?\n\[cut after 5"
    with Terminal("chat", "endless", home=tmp_path) as terminal:
        terminal.wait_for(r"loading endless \.\.\.")
        terminal.wait_for(r"endless\. Ctrl-D")

        def at_prompt(keys, shows):
            terminal.wait_for(r"\?2004h[^>]*>")  # the editor is ready
            terminal.type(keys)
            terminal.wait_for(shows)

        at_prompt("\x03", r"\(Ctrl-D or /quit leaves")
        at_prompt("hello\r", "abcdef")  # an answer that would never end
        terminal.type("\x03\x03\x03\x03\x03")  # as people do
        terminal.wait_for(r"\[stopped\]")
        at_prompt("/set max_tokens 5\r", r"max_tokens +5")
        at_prompt("first\x1b\rsecond\\\rthird\r", five)  # Alt-Enter and a backslash: one question
        at_prompt("\x1b[200~pasted \\\nlines\n\x1b[201~\r", five)  # bracketed paste does not send
        at_prompt('"""\rblock\r\r"""\r', five)
        at_prompt("/sav\t", "e")  # Tab completes a command
        terminal.type(f" {tmp_path}/talk.json\r")
        terminal.wait_for("saved 8 messages")
        at_prompt("/regen\r", "did you mean /regenerate")
        at_prompt("\x12hel\r\r", five)  # Ctrl-R searches the history
        at_prompt("caf\udce9\r", five)  # a byte that is no UTF-8
        at_prompt("/stats\r", "last answer: 5 tokens")
        at_prompt("\x04", r"2004l")
        assert terminal.end() == 0
    asked = [m["content"] for m in json.loads((tmp_path / "talk.json").read_text())["messages"]][::2]
    assert asked == ["hello", "first\nsecond\nthird", "pasted \\\nlines\n", "block"]
    history = tmp_path / ".local" / "state" / "puna" / "chat_history"
    assert "+hello" in history.read_text() and history.stat().st_mode & 0o77 == 0


def test_a_dumb_terminal_gets_plain_lines_and_no_escape_sequences(tmp_path):
    with Terminal("chat", "known", "--stats", home=tmp_path, term="dumb") as terminal:
        for keys, shows in (
            ("hello\n", re.escape(SHOWN)),
            ("\x03", r"\(Ctrl-D"),
            ("one\\\n", r"\. "),
        ):
            terminal.wait_for("> ")
            terminal.type(keys)
            terminal.wait_for(shows)
        terminal.type("two\n")
        terminal.wait_for(re.escape(SHOWN))
        terminal.wait_for("first after")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.all


def test_one_question_in_a_terminal_is_cleaned_and_ctrl_c_ends_it_with_130(tmp_path):
    with Terminal("chat", "known", "-p", "hello", home=tmp_path) as terminal:
        terminal.wait_for(re.escape(SHOWN))
        assert terminal.end() == 0
        assert b"\x1b[31m" not in terminal.all
    with Terminal("chat", "endless", "-p", "hello", home=tmp_path) as terminal:
        terminal.wait_for("abc")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert b"Traceback" not in terminal.all


def test_json_in_a_terminal_wants_a_question(tmp_path):
    with Terminal("chat", "known", "--json", home=tmp_path) as terminal:
        assert terminal.end() == 2
        assert b"--json needs one question" in terminal.all
