"""The same bytes wherever inputs and outputs lie: on this disk, or in a bucket that fails as buckets do."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from data.object_store import ENVIRONMENT, Proxy, copied, objects, s3_server
from data.test_warc import HTML, Archive

from puna.cli.main import main
from puna.data import place
from puna.data.place import located
from puna.data.sources.files import find
from puna.data.sources.text import Text
from puna.data.store import Store
from puna.errors import DataError

WORDS = Path(__file__).read_text().split()
RECIPE = """
name = "pampa"
shard_bytes = 6_000
group_bytes = 3_000
partitions = 2
[source.crawl]
kind = "warc"
paths = ["@/crawl/*.warc.gz"]
[source.wet]
paths = ["@/wet"]
[source.pages]
paths = ["@/pages"]
[source.lines]
kind = "jsonl"
paths = ["@/lines/**.jsonl*"]
piece_bytes = 5000
[source.rows]
kind = "parquet"
paths = ["@/rows"]
piece_bytes = 4000
[source.notes]
kind = "text"
paths = ["@/notes"]
split = "blank_lines"
[source.tree]
kind = "code"
paths = ["@/tree"]
[stage."pii.mask"]
[stage."dedup.exact"]
"""


def text(seed, words=40):
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def page(seed):
    return f"<html><head><title>{seed}</title></head><body><main><p>{text(seed)}</p></main></body></html>"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with something for every source."""
    root = tmp_path_factory.mktemp("inputs")
    for name in ("crawl", "wet", "pages/deep", "lines/more", "rows", "notes/b", "tree/src"):
        (root / name).mkdir(parents=True)
    for n in range(2):
        archive = Archive()
        for i in range(6):
            archive.page(page(f"{n} {i % 5}"), f"http://x.org/{n}/{i}", headers=(HTML,))
        (root / f"crawl/{n}.warc.gz").write_bytes(archive.bytes)
    (root / "wet/a.wet.gz").write_bytes(Archive().text(text(1), "http://x.org/t").bytes)
    for name in ("a.html", "b.html", "deep/c.html"):
        (root / "pages" / name).write_text(page(name))
    with zipfile.ZipFile(root / "pages/saved.zip", "w") as saved:
        saved.writestr("in/zip.html", page("zip"))
    lines = "".join(json.dumps({"text": text(n), "url": f"http://l.org/{n}"}) + "\n" for n in range(20))
    (root / "lines/plain.jsonl").write_text(lines)
    (root / "lines/more/z.jsonl.zst").write_bytes(
        zstandard.compress(lines.replace("l.org", "z.org").encode())
    )
    rows = pa.table({"text": [text(n + 100) for n in range(30)]})
    pq.write_table(rows, root / "rows/a.parquet", row_group_size=10)
    (root / "notes/a.txt").write_text("\n\n".join(text(n + 200) for n in range(5)))
    (root / "notes/b/c.txt.gz").write_bytes(gzip.compress(text(300).encode()))
    (root / "tree/LICENSE").write_text("MIT License")
    (root / "tree/src/a b?.py").write_text(f"# {text(400)}\n")
    return root


@pytest.fixture(scope="module")
def port(inputs):
    with pytest.MonkeyPatch.context() as here, s3_server() as port:
        for name, value in ENVIRONMENT.items():
            here.setenv(name, value)
        copied(port, inputs, "pampa/in")
        yield port


@contextmanager
def web(folder):
    """The port of a server of the files in a folder."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def endpoint(monkeypatch, port):
    """Where a user's environment says that the store is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    place._system.cache_clear()  # a process asks its environment once


def recipe(folder, where, name="recipe.toml"):
    path = folder / name
    path.write_text(RECIPE.replace("@", str(where)))
    return path


def short(folder, where):
    """A recipe of few requests: those to a server that fails take seconds each."""
    path = folder / "short.toml"
    said = RECIPE.replace("@", str(where))
    path.write_text(said[: said.index("[source.pages]")] + said[said.index("[source.notes]") :])
    return path


def carried_out(path, out, *more):
    return main(["data", "run", str(path), "--out", str(out), "--runner", "inline", *more])


@pytest.fixture(scope="module")
def local(inputs, tmp_path_factory):
    """A run on this disk: its folder."""
    folder = tmp_path_factory.mktemp("local")
    assert carried_out(recipe(folder, inputs), folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def brief(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("brief")
    assert carried_out(short(folder, inputs), folder / "run") == 0
    return folder / "run"


def tree(files):
    told = ("run.json", "lineage.json")  # they name the paths
    return {name: data for name, data in files.items() if "/receipts/" not in name and name not in told}


def written(out):
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return tree(found)


def test_input_and_output_in_a_bucket_give_the_same_bytes(local, port, tmp_path, monkeypatch, capsys):
    endpoint(monkeypatch, port)
    path, out = recipe(tmp_path, "s3://pampa/in"), "s3://pampa/run"
    assert carried_out(path, out) == 0
    assert len(written(local)) > 40 and tree(objects(port, "pampa/run")) == written(local)
    capsys.readouterr()
    assert main(["data", "verify", out]) == 0
    assert main(["data", "report", out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n")[2])["reasons"]
    assert {row["reason"]: row["documents"] for row in told}["dedup.exact.copy"] > 10
    assert main(["data", "explain", out, "http://l.org/3"]) == 0
    assert main(["data", "diff", out, str(local)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["only_first"]["documents"] == 0


def test_an_endpoint_may_stand_in_the_address(local, port, tmp_path):
    mark = f"?scheme=http&endpoint_override=127.0.0.1:{port}"
    path = recipe(tmp_path, "s3://pampa/in")
    path.write_text(
        "\n".join(
            line.replace('"]', f'{mark}"]') if "paths" in line else line
            for line in path.read_text().split("\n")
        )
    )
    assert carried_out(path, f"s3://pampa/marked{mark}") == 0
    assert tree(objects(port, "pampa/marked")) == written(local)


@pytest.mark.slow
def test_what_a_store_does_not_give_is_never_taken_for_damage(brief, port, tmp_path, monkeypatch, capsys):
    path, fetched = short(tmp_path, "s3://pampa/in"), lambda method, path: method == "GET" and "/in/" in path
    for number, how in enumerate(("500", "cut", "hang up")):
        proxy, out = Proxy(port, how, 0.4, fetched, seed=number + 1), f"s3://pampa/poor-{number}"
        with proxy.running() as poor:
            endpoint(monkeypatch, poor)
            code = carried_out(path, out)
        assert proxy.failed > 0
        told = capsys.readouterr().err
        assert code == 0 or (
            code == 2 and "tasks failed, the others are done" in told and "Traceback" not in told
        )
        receipts = {
            n: json.loads(d) for n, d in objects(port, out[5:]).items() if n.startswith("00-read/rec")
        }
        for name, held in receipts.items():
            whole = json.loads((brief / name).read_text())
            assert [held[key] for key in ("rows_in", "skipped", "outputs")] == [
                whole[key] for key in ("rows_in", "skipped", "outputs")
            ]
        endpoint(monkeypatch, port)
        assert carried_out(path, out) == 0 and tree(objects(port, out[5:])) == written(brief)


@pytest.mark.slow
def test_a_store_that_does_not_take_what_is_written_ends_the_run_and_it_goes_on(
    brief, port, tmp_path, monkeypatch, capsys
):
    path, out = short(tmp_path, "s3://pampa/in"), "s3://pampa/full"
    for number, how in enumerate(("500", "403", "hang up")):
        with Proxy(port, how, 0.1, lambda method, path: method != "GET", seed=number).running() as poor:
            endpoint(monkeypatch, poor)
            code = carried_out(path, out)
        told = capsys.readouterr().err
        assert code == 0 or (code in (1, 2) and "try:" in told and "Traceback" not in told), told
        for name, data in objects(port, "pampa/full").items():
            assert not name.endswith(".parquet") or data[-4:] == b"PAR1"
    endpoint(monkeypatch, port)
    assert carried_out(path, out) == 0 and tree(objects(port, "pampa/full")) == written(brief)


KILLED = """
import sys
from puna.cli.main import main
from puna.log import listening
if __name__ == "__main__":
    with listening(lambda record: print(record["event"], flush=True)):
        sys.exit(main(["data", "run", sys.argv[1], "--out", sys.argv[2], "-j", "2"]))
"""


@pytest.mark.slow
def test_a_run_killed_in_a_bucket_goes_on_to_the_same_bytes(brief, port, tmp_path, monkeypatch):
    endpoint(monkeypatch, port)
    path, out, rng = short(tmp_path, "s3://pampa/in"), "s3://pampa/killed", random.Random(1)
    (tmp_path / "killed.py").write_text(KILLED)
    for _ in range(4):
        begun = [sys.executable, tmp_path / "killed.py", path, out]
        process = subprocess.Popen(begun, stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(rng.randrange(1, 20)):
            assert process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert carried_out(path, out) == 0 and tree(objects(port, "pampa/killed")) == written(brief)


@pytest.mark.parametrize(
    ("where", "out", "why"),
    [
        ("s3://pampa/in", "s3://nobody/run", "nobody"),
        ("s3://nobody/in", "s3://pampa/lost", "no file that ends in"),
        ("s3://pampa/in", "s3://llama:grass@pampa/run", "a secret in an address"),
        ("s3://pampa/in?regoin=x", "s3://pampa/lost", "regoin"),
        ("zz://pampa/in", "s3://pampa/lost", "no file system for it"),
    ],
)
def test_a_wrong_address_is_a_sentence(port, tmp_path, monkeypatch, capsys, where, out, why):
    endpoint(monkeypatch, port)
    path = recipe(tmp_path, where)
    if "?" in where:
        address, _, options = where.partition("?")
        path.write_text(RECIPE.replace("@", address).replace("/pages", f"/pages?{options}"))
    assert carried_out(path, out) in (1, 2)
    told = capsys.readouterr().err
    assert why in told and "try:" in told and "Traceback" not in told


def test_a_store_that_refuses_is_a_sentence(port, tmp_path, monkeypatch, capsys):
    with Proxy(port, "403").running() as shut:
        endpoint(monkeypatch, shut)
        assert carried_out(recipe(tmp_path, "s3://pampa/in"), "s3://pampa/shut") == 1
    told = capsys.readouterr().err
    assert "ACCESS_DENIED" in told and "the rights to it" in told and "Traceback" not in told


def test_nothing_appears_where_writing_fails(port, monkeypatch):
    endpoint(monkeypatch, port)
    store = Store.at("s3://pampa/atomic")
    with pytest.raises(ZeroDivisionError), store.writing("a.bin") as sink:
        sink.write(b"x" * (12 << 20))
        assert store.names() == []
        raise ZeroDivisionError
    assert store.names() == []
    store.put("empty", b"")
    store.put("long.gz", b"y" * (11 << 20))
    assert (store.size("empty"), store.size("long.gz")) == (0, 11 << 20)


def test_patterns_and_strange_names_find_the_same_files_here_and_there(inputs, port, monkeypatch):
    endpoint(monkeypatch, port)
    for pattern in ("**.gz", "crawl/*.gz", "*/*.gz", "**/b/*", "tree/**", "lines/**.jsonl*", "pages"):
        here = [str(at)[len(str(inputs)) :] for at in find((f"{inputs}/{pattern}",), ("",))]
        there = [str(at).removeprefix("s3://pampa/in") for at in find((f"s3://pampa/in/{pattern}",), ("",))]
        assert here == [name.removesuffix("?") for name in there] != []
    for name in (
        "s3://b",
        "s3://b/a b/c?.py?",
        "s3://b/x?region=r",
        "https://h/x.gz?a=1",
        "s3://b/c?a=b?region=r",
    ):
        assert str(located(name)) == name
    with pytest.raises(DataError, match=r"or that fits"):
        find((f"{inputs}/*.nothing",), ("",))


def test_a_file_of_the_web_is_a_source(tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec opens addresses of the web with aiohttp")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"One page."))
    with web(tmp_path) as port:
        address = f"http://127.0.0.1:{port}/a.txt.gz?v=1"
        source = Text(name="t", paths=(address,))
        [piece] = source.inputs()
        [table] = source.tables(piece)
        assert table["text"].to_pylist() == ["One page."]
        with pytest.raises(DataError, match="no such file"):
            Text(name="t", paths=(address.replace("a.txt", "b.txt"),)).inputs()
