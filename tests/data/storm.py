"""A small world with every kind of step, run through the command line, and what must hold of it whatever
befell the run: the same files, every document once."""

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from puna.data.pipeline import result, verify
from puna.data.shard_set import ShardSet
from puna.tokenizer.formats import to_hf
from puna.tokenizer.merges import from_ranks
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import LLAMA3
from puna.tokenizer.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SAYINGS = [
    "The plain lies high between two ranges, and in the dry months the grass turns yellow.",
    "People who live there keep animals for wool, and they move with them when the snow comes.",
    "In the morning the lakes are frozen at the edge, and by noon the sun has melted the ice again.",
    "Traders used to cross it with salt and cloth, which they gave for potatoes and dried meat.",
    "A road was built along the river, but the floods of the first spring took half of it away.",
    "The old say that the mountain to the east was once a man, who sat down to wait for the rain.",
    "There is a school with one room, and the children who come to it walk for two hours each way.",
]
PLACES = [
    "lake",
    "road",
    "ridge",
    "river",
    "village",
    "bridge",
    "market",
    "church",
    "mill",
    "well",
    "field",
    "camp",
    "gate",
    "tower",
]
RECIPE = """
partitions = 4
shard_bytes = 60_000
group_bytes = 10_000
[source.lines]
kind = "jsonl"
paths = ["lines"]
[stage."urls.hosts"]
[stage."quality.gopher"]
[stage."dedup.url"]
[stage."dedup.exact"]
[stage."pii.mask"]
[stage."dedup.near"]
settle_rounds = 2
[stage."dedup.lines"]
[stage."tokens.shards"]
tokenizer = "vocabulary"
"""


def build(folder: Path, files: int = 4, documents: int = 60) -> Path:
    """Documents with addresses, texts, near copies and lines that come again; a vocabulary; a recipe."""
    (folder / "lines").mkdir(parents=True)
    for file in range(files):
        rng = random.Random(file)
        rows = [json.dumps(row(rng, file, number)) for number in range(documents)]
        (folder / "lines" / f"{file}.jsonl").write_text("\n".join(rows) + "\n")
    vocabulary(folder / "vocabulary")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def row(rng: random.Random, file: int, number: int) -> dict:
    sayings = [f"{rng.choice(SAYINGS)[:-1]} near the {rng.choice(PLACES)} {rng.random()}." for _ in range(12)]
    if number % 6 == 0:  # the same text in every file, and almost the same
        sayings = [
            f"{SAYINGS[(number + n) % 7][:-1]} by the {PLACES[number * n % 14]} {n}." for n in range(12)
        ]
        sayings += ["And that is all there is."] * (file % 2)
    if number % 10 == 3:
        sayings = sayings[:1]  # too short
    text = "\n".join([*sayings, "All rights are reserved by the people of the plain."])
    page = number % 20 if number % 9 == 0 else 100 * file + number
    return {"text": text, "url": f"https://example.org/{page}", "date": f"2026-{1 + number % 12:02}"}


def vocabulary(folder: Path) -> None:
    words = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b" and"]
    specials = Specials.gathered({"<|begin|>": 260, "<|end|>": 261}, bos=260, eos=261)
    to_hf(Tokenizer(from_ranks(words), LLAMA3, specials), folder)


def begun(folder: Path, out: str, *more: str, before: str = "", **given) -> subprocess.Popen:
    """`puna data run` as a process of its own; `before`: Python that is run first in it."""
    code = (
        f"import sys; {before}\nif __name__ == '__main__':\n    from puna.cli.main import main\n    main()\n"
    )
    start = ["-c", code] if before else ["-m", "puna.cli.main"]
    words = ["data", "run", "recipe.toml", "--out", out, *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *start, *words]
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes, start_new_session=True, **given)


def carried_out(folder: Path, out: str, *more: str, code: int = 0, **given) -> str:
    """The hash that a run prints at its end, or what it says where it ends badly."""
    process = begun(folder, out, *more, **given)
    said, problem = process.communicate(timeout=900)
    assert process.returncode == code, (process.returncode, problem[-2000:])
    assert "Traceback" not in problem, problem[-4000:]
    return said.split()[-1] if code == 0 else problem


def done(out: Path) -> int:
    """Tasks that are done."""
    return sum(1 for _ in out.glob("*/receipts/[0-9]*.json"))


def tree(out: Path) -> dict[str, bytes]:
    """Every file of a run; of receipts only the names, for they tell times."""
    files = [path for path in out.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(out)): b"" if "receipts" in path.parts else path.read_bytes() for path in files
    }


def whole(out: Path, documents: int) -> None:
    """Every document is kept or in one sidecar, never both, never twice; the token shards hold what is kept."""
    kept = [name for path in result(out) for name in pq.read_table(path)["id"].to_pylist()]
    gone = [
        name for path in out.glob("*/dropped/*.parquet") for name in pq.read_table(path)["id"].to_pylist()
    ]
    assert len(kept) + len(gone) == documents and len({*kept, *gone}) == documents
    [files] = out.glob("*-tokens.shards/files")
    shards = ShardSet(files)
    written = [shards.document(number).id for number in range(shards.count)]
    assert Counter(written) == Counter(kept)
    assert verify(out) == []


class Peak:
    """The most memory, in MB, that a process and all below it held at once, looked at every 50 ms."""

    def __init__(self, process: subprocess.Popen):
        self.process, self.mb = process, 0.0
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while self.process.poll() is None:
            self.mb = max(self.mb, *map(resident, [self.process.pid, *below(self.process.pid)]))
            threading.Event().wait(0.05)


def below(pid: int) -> list[int]:
    """The processes that a process has begun, and those have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it is over
        return []
    return [found for child in map(int, children) for found in (child, *below(child))]


def resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    except (OSError, IndexError):
        return 0.0
