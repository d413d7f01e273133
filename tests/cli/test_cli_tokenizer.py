"""`puna tokenizer` as people meet it: real processes, real files, exit codes."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import ROOT, environment

pytest.importorskip("rustbpe", reason="the library that merges")

from puna import lineage
from puna.tokenizer.formats import load

TEXT = Path(random.__file__)


def puna(*words, home):
    command = [sys.executable, "-m", "puna.cli.main", "tokenizer", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment(home), cwd=ROOT
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    done = puna("train", TEXT, "--size", 700, "--out", home / "mine", "--json", home=home)
    return home, done


def test_training_writes_a_tokenizer_for_every_reader_and_says_so(learned):
    home, (code, out, err) = learned
    facts = json.loads(out)
    assert code == 0 and err == "" and out.count("\n") == 1
    assert (facts["size"], facts["special"], facts["split"]) == (700, 256, "llama-bpe")
    assert {"tokenizer.json", "tokenizer.model", "tokenizer.gguf"} <= set(facts["files"])
    tokenizer = load(home / "mine")
    assert tokenizer.fingerprint() == facts["fingerprint"] and tokenizer.size == 700
    text = TEXT.read_text()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_vocabulary_says_what_it_was_learned_from_and_look_tells_it(learned):
    home, (_, out, _) = learned
    node, facts = lineage.read(home / "mine"), json.loads(out)
    assert (node.kind, node.facts["fingerprint"]) == ("vocabulary", facts["fingerprint"])
    assert [(p.relation, p.id) for p in node.parents] == [("trained_on", lineage.node_of(TEXT, "file").id)]
    assert lineage.problems(home / "mine") == []
    command = [sys.executable, "-m", "puna.cli.main", "look", str(home / "mine"), "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, env=environment(home)).stdout)
    assert (told["layout"], told["size"], told["lineage"]["id"]) == ("vocabulary", 700, node.id)


def test_other_rules_and_special_tokens_are_a_flag(learned):
    home, _ = learned
    words = ("--split", "gpt-2", "--special", "chatml", "--out", home / "chat")
    assert puna("train", TEXT, TEXT, "--size", 400, *words, home=home) == (0, f"{home / 'chat'}\n", "")
    assert sorted(load(home / "chat").specials) == ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]


def test_measuring_is_a_table_or_one_object(learned):
    home, _ = learned
    code, out, err = puna("measure", home / "mine", TEXT, "--json", home=home)
    found = json.loads(out)[str(home / "mine")]
    tokens = len(load(home / "mine").encode(TEXT.read_text()))
    assert (code, err) == (0, "") and found["all"] == found[str(TEXT)]
    assert found["all"]["tokens"] == tokens and found["all"]["round_trip_failures"] == 0
    both = puna("measure", home / "mine" / "tokenizer.json", TEXT, "--against", home / "mine", home=home)
    lines = both[1].splitlines()
    assert both[0] == 0 and len(lines) == 5 and len(set(map(len, lines))) == 1  # columns line up
    assert lines[0].split()[:3] == ["file", "tokenizer", "bytes"] and all(
        f"{tokens:,}" in each for each in lines[1:]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "--size", 700, "--out", "x"), "no files"),
        (("train", "nothing.txt", "--size", 700, "--out", "x"), "nothing.txt: no such file"),
        (("train", TEXT, "--size", 400, "--out", "x"), "a size of 400"),
        (("train", TEXT, "--size", 100_000, "--out", "x"), "the texts make"),
        (("train", TEXT, "--size", "big", "--out", "x"), "big"),
        (("train", TEXT, "--size", 700), "--out"),
        (("train", TEXT, "--size", 700, "--out", "HOME/mine"), "already there\n  try: --overwrite"),
        (("train", TEXT, "--size", 700, "--out", "x", "--special", "t5"), "t5"),
        (("measure", "HOME/nothing", TEXT), "no such file or folder"),
        (("measure", "HOME/mine"), "no files"),
        (("measure", "HOME/mine", "HOME/mine/tokenizer.gguf"), "not UTF-8"),
        (("trian",), "Did you mean"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_says_why(words, said, learned):
    home, _ = learned
    code, out, err = puna(*(str(word).replace("HOME", str(home)) for word in words), home=home)
    assert (code, out) == (2, "") and err.startswith("puna: ") and said in err and "Traceback" not in err
    assert not (ROOT / "x").exists()


def test_without_the_library_the_user_is_told_what_to_install(tmp_path):
    code = "import sys; sys.modules['rustbpe'] = None; from puna.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["tokenizer", "train", str(TEXT), "--size", "700", "--out", str(tmp_path / "x")]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment(tmp_path), cwd=ROOT
    )
    assert done.returncode == 2 and "pip install 'puna[data]'" in done.stderr
    assert not (tmp_path / "x").exists()


def test_progress_is_told_where_it_takes_long(tmp_path, capfd):
    from puna.cli.progress import shown
    from puna.tokenizer.texts import texts

    with shown(sys.stderr, "learning", every_s=0):
        list(texts([TEXT]))
    size = TEXT.stat().st_size
    assert capfd.readouterr().err == f"learning: {size:,} of {size:,}\n"
