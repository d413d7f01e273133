"""Which benchmarks lie where: a TOML file names them, or a folder holds them under their known names."""

import os
import tomllib
from pathlib import Path

from puna.data.benchmark_runs import BenchmarkRuns, BenchmarkSettings, build_runs
from puna.data.benchmarks import KNOWN, Benchmark
from puna.errors import DataError, need

_ENDS = (".jsonl", ".jsonl.gz", ".csv")


class BenchmarkFile(BenchmarkSettings):
    """What the TOML file holds."""

    common: tuple[str, ...] = ()  # files of text whose runs are nobody's: licences, hymns, boilerplate

    def runs(self) -> BenchmarkRuns:
        """Those of all its benchmarks; paths are from the working directory, as in every recipe."""
        settings = BenchmarkSettings.model_validate(self.model_dump(exclude={"common"}))
        return build_runs(settings, [_text(Path(path)) for path in self.common])


def read_benchmarks(path: str | Path) -> BenchmarkFile:
    """The benchmarks that a TOML file names, or all in a folder that are called as KNOWN calls them."""
    path = Path(path)
    need(path.exists(), f"{path}: there is no such file or folder", error=DataError)
    if path.is_dir():
        return BenchmarkFile(benchmarks=known_in(path))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        fix = "a TOML file with [[benchmarks]], or the folder where they lie"
        raise DataError(f"{path}: not TOML: {problem}\n  try: {fix}") from None
    return BenchmarkFile.read(values, str(path))


def known_in(folder: Path) -> tuple[Benchmark, ...]:
    """The folders and files below `folder` that bear a known benchmark's name; a folder is taken whole."""
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder):
        whole = [name for name in sorted(folders) if name.lower() in KNOWN]
        folders[:] = sorted(set(folders) - set(whole))
        for name in whole + [name for name in sorted(files) if _stem(name) in KNOWN]:
            called, path = _stem(name) or name.lower(), Path(place) / name
            twice = f"{called} is there twice: {found.get(called)} and {path}"
            need(called not in found, twice, "a TOML file that names one of them", DataError)
            found[called] = path
    fix = f"a TOML file with [[benchmarks]]; known by name are {', '.join(KNOWN)}"
    need(found, f"{folder}: no benchmark that is known by its name", fix, DataError)
    return tuple(Benchmark(name=name, path=str(found[name])) for name in sorted(found))


def _stem(name: str) -> str:
    """The name of a file that can be read, without its end; "" for other names."""
    end = next((end for end in _ENDS if name.lower().endswith(end)), "")
    return name[: -len(end)].lower() if end else ""


def _text(path: Path) -> str:
    need(path.is_file(), f"{path}: there is no such file of common texts", error=DataError)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8") from None
