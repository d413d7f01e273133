"""A whole recipe through the command line: pages and code in, token shards out, one sha whoever does it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from puna.data.shard_set import ShardSet
from puna.tokenizer.formats import load, to_hf
from puna.tokenizer.merges import from_ranks
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import LLAMA3
from puna.tokenizer.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
PROSE = (
    "The plain lies high between two ranges, and in the dry months the grass turns yellow. People who live there "
    "keep animals for wool, and they move with them when the snow comes. In the morning the lakes are frozen at "
    "the edge, and by noon the sun has melted the ice again. Traders used to cross it with salt and cloth. "
)
RECIPE = """
partitions = 4
[source.pages]
kind = "pages"
paths = ["pages"]
[source.lines]
kind = "jsonl"
paths = ["lines.jsonl"]
[stage."language.of"]
[stage."language.gate"]
wanted = ["en"]
[stage."quality.gopher"]
[stage."dedup.exact"]
[stage."dedup.near"]
[stage."tokens.shards"]
tokenizer = "vocabulary"
"""


def puna(*words, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "puna.cli.main", "data", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "pages").mkdir()
    for n in range(6):
        text = f"<p>{PROSE}</p><p>Page number {n} tells of the {['lake', 'wool', 'salt', 'ice', 'road', 'snow'][n]} alone. {PROSE}</p>"
        (folder / "pages" / f"{n}.html").write_text(f"<html><body><main>{text}</main></body></html>")
    texts = [
        PROSE * 2,
        PROSE * 2,
        "This is a short one, and that is all.",
        "Das ist ein deutscher Satz über die Hochebene. " * 20,
    ]
    texts += [f"{PROSE} {n} {PROSE[n:]}" for n in range(4)]
    lines = [{"text": text, "url": f"https://example.org/{n}"} for n, text in enumerate(texts)]
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b" and"]
    specials = Specials.gathered({"<|begin|>": 260, "<|end|>": 261}, bos=260, eos=261)
    to_hf(Tokenizer(from_ranks(words), LLAMA3, specials), folder / "vocabulary")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def test_everyone_writes_the_same_shards_and_says_why_documents_went(world):
    digests = {
        puna("run", "recipe.toml", "--out", out, *more, cwd=world).split()[1]
        for out, more in {
            "inline": ("--runner", "inline"),
            "pool": ("-j", "2"),
        }.items()
    }
    assert len(digests) == 1
    report = json.loads(puna("report", "inline", "--json", cwd=world))
    drops = {row["reason"]: row["documents"] for row in report["reasons"]}
    assert drops["language.unwanted"] == drops["dedup.exact.copy"] == 1
    assert drops["quality.gopher.few_words"] >= 1
    [files] = (world / "inline").glob("*-tokens.shards/files")
    shards, tokenizer = ShardSet(files), load(world / "vocabulary")
    assert shards.count == report["kept"]["documents"] > 0
    assert shards.size == report["stages"][-1]["tokens_left"]
    assert PROSE[:40] in tokenizer.decode(shards.document(0).tokens.tolist())
    for url in ("https://example.org/2", "https://example.org/3"):
        [answer] = [json.loads(puna("explain", "inline", url, "--json", cwd=world))]
        assert "dropped" in answer and answer["reason"].split(".")[0] in ("language", "quality")
    assert "every file is as it was written" in puna("verify", "inline", cwd=world)
    assert json.loads(puna("diff", "inline", "pool", cwd=world))["drops"] == {}


def test_a_damaged_file_is_found_and_made_again(world):
    puna("run", "recipe.toml", "--out", "bent", "--runner", "inline", cwd=world)
    [file, *_] = sorted((world / "bent").glob("*-tokens.shards/files/*"))
    before = file.read_bytes()
    file.write_bytes(before[:-1])
    assert file.name in puna("verify", "bent", cwd=world, code=1)
    puna("run", "recipe.toml", "--out", "bent", "--runner", "inline", cwd=world)
    assert file.read_bytes() == before


def test_a_plan_on_paper_tells_what_a_crawl_takes(world):
    facts = json.loads(
        puna("plan", "recipe.toml", "--documents", 3_000_000_000, "--pieces", 90_000, "--json", cwd=world)
    )
    assert facts["core_hours"] > 100 and facts["tasks"] > 90_000 and facts["memory_mb_per_worker"] < 2000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nowhere.toml", "--out", "x"), "nowhere.toml"),
        (("run", "recipe.toml", "--quality.gofer.few_words", "3", "--out", "x"), "quality.gofer"),
        (("run", "recipe.toml", "--out", "x", "--shard", "7/7"), "--shard"),
        (("explain", "nowhere", "abc"), "nowhere"),
        (("plan",), "--help"),
    ],
)
def test_bad_words_are_refused(world, words, said):
    done = subprocess.run(
        [sys.executable, "-m", "puna.cli.main", "data", *words],
        capture_output=True,
        text=True,
        cwd=world,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2 and said in done.stderr and done.stdout == "", done.stderr
