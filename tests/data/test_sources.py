"""Every format that a source reads, from files written here; what is broken is left out and counted."""

import gzip
import io
import json
import os
import random
import stat
import subprocess
import sys
import zipfile
from collections import Counter
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from puna import log
from puna.data.document import SCHEMA, check
from puna.data.sources.code import Code
from puna.data.sources.jsonl import Jsonl
from puna.data.sources.pages import Pages
from puna.data.sources.parquet import Parquet
from puna.data.sources.text import Text
from puna.errors import DataError

PAGE = "<html><title>T</title><body><main><p>{}</p></main></body></html>"


@contextmanager
def counting():
    """What is left out while the block runs, by reason."""
    counts = Counter()

    def listener(record):
        if record["event"] == "skipped":
            counts[record["reason"]] += record["count"]

    with log.listening(listener):
        yield counts


def whole(source):
    """All rows of a source, after the checks that hold for any."""
    tables = [check(table, piece) for piece in source.inputs() for table in source.tables(piece)]
    assert all(0 < table.num_rows <= source.batch_rows for table in tables)
    assert all(table.schema == source.columns() for table in tables)
    assert source.columns().names[:5] == SCHEMA.names
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    assert len({row["id"] for row in rows}) == len(rows)
    return rows


def packed(data, ending):
    return {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[ending](data)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_json_lines_give_back_what_was_written(tmp_path, ending):
    rows = [{"text": f"Zeile {n} ☃", "url": f"http://H.org/{n}", "date": "2026-01-02"} for n in range(50)]
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(packed("\n".join(map(json.dumps, rows)).encode(), ending))
    read = whole(Jsonl(name="j", paths=(str(tmp_path),), batch_rows=7))
    assert [{k: row[k] for k in ("text", "url", "date")} for row in read] == rows
    assert {row["host"] for row in read} == {"h.org"}


def test_a_cut_file_of_json_lines_is_read_once_wherever_the_cuts_fall(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * (n % 37)}) + "\n" for n in range(1, 200)))
    plain = whole(Jsonl(name="j", paths=(str(path),)))
    for size in (1, 10, 33, 34, 100, 1000, path.stat().st_size - 1):
        assert whole(Jsonl(name="j", paths=(str(path),), piece_bytes=size)) == plain


def test_fields_of_json_lines_are_a_setting(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"body": {"raw": "hello"}, "meta": {"at": "http://x.org", "key": 7}}))
    source = Jsonl(name="j", paths=(str(path),), text="body.raw", url="meta.at", id="meta.key")
    (row,) = whole(source)
    assert (row["text"], row["url"]) == ("hello", "http://x.org")


def test_lines_that_are_no_documents_are_counted(tmp_path):
    lines = [
        b'{"text": "good"}',
        b"{",
        b'{"text": 3}',
        b'["text"]',
        b"\xff\xfe",
        b"[" * 100_000,
        b"",
        b'{"text": ""}',
    ]
    lines += [b'{"text": "' + b"x" * 5000 + b'"}', b'{"text": "half \\ud800 pair"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    with counting() as counts:
        rows = whole(Jsonl(name="j", paths=(str(tmp_path),), document_bytes=4000))
    assert [row["text"] for row in rows] == ["good", "half ? pair"]
    assert counts == {"malformed": 2, "no_text": 3, "too_long": 2}


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_cut_short_gives_what_came_before(tmp_path, ending):
    words = random.Random(1)
    rows = [json.dumps({"text": str(words.random())}) for _ in range(20_000)]
    data = packed("\n".join(rows).encode(), ending)
    (tmp_path / f"a.jsonl{ending}").write_bytes(data[: len(data) // 2])
    with counting() as counts:
        read = whole(Jsonl(name="j", paths=(str(tmp_path),)))
    assert counts == {"damaged": 1} if ending == ".gz" else {"malformed": 1}
    assert 1000 < len(read) < 20_000


def test_parquet_gives_back_what_was_written_however_it_is_cut(tmp_path):
    rows = [{"content": f"row {n}", "url": "", "when": f"2026-{n % 12 + 1:02}"} for n in range(1000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=100)
    fields = {"name": "p", "paths": (str(tmp_path),), "text": "content", "date": "when"}
    read = whole(Parquet(**fields))
    assert [(row["text"], row["date"]) for row in read] == [(row["content"], row["when"]) for row in rows]
    cut = Parquet(**fields, piece_bytes=3000)
    assert len(cut.inputs()) > 2
    assert whole(cut) == read
    with pytest.raises(DataError, match="no column 'text'"):
        whole(Parquet(name="p", paths=(str(tmp_path),)))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(DataError, match="not a Parquet file"):
        whole(Parquet(**fields))


def test_text_is_a_document_a_file_or_a_paragraph(tmp_path):
    (tmp_path / "b.txt").write_bytes("Grüße\r\n\r\nzwei\n".encode("latin-1"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n\n \nthree"))
    source = Text(name="t", paths=(str(tmp_path),))
    assert [row["text"] for row in whole(source)] == ["one\ntwo\n\n \nthree", "Grüße\n\nzwei\n"]
    assert source.inputs() == (str(tmp_path),)
    split = source.model_copy(update={"split": "blank_lines"})
    assert [row["text"] for row in whole(split)] == ["one\ntwo", "three", "Grüße", "zwei"]
    with counting() as counts:
        assert [row["text"] for row in whole(split.model_copy(update={"document_bytes": 7}))] == [
            "three",
            "Grüße",
            "zwei",
        ]
    assert counts == {"too_long": 1}


def test_saved_pages_come_from_folders_and_zips(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.html").write_text(PAGE.format("In a folder, some words."))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/one.html", PAGE.format("In a zip, some words."))
        archive.writestr("x/two.css", "p {}")
    rows = whole(Pages(name="h", paths=(str(tmp_path),)))
    assert [row["text"] for row in rows] == ["In a zip, some words.", "In a folder, some words."]
    assert [row["url"] for row in rows] == [
        f"{tmp_path.name}/a.zip/x/one.html",
        f"{tmp_path.name}/deep/b.html",
    ]


def test_a_zip_with_tricks_gives_its_good_page_only(tmp_path):
    good = PAGE.format("Good words here.")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../../up.html", "/etc/abs.html", "a\\b.html", "\x1b[2J.html"):
            archive.writestr(name, good)
        archive.writestr("bomb.html", b"<p>" + b"a" * 20_000_000)
        archive.writestr("good.html", good)
        archive.writestr("link.html", good)
        archive.filelist[-1].external_attr = (stat.S_IFLNK | 0o777) << 16
    with counting() as counts:
        rows = whole(Pages(name="h", paths=(str(tmp_path),)))
    assert [os.path.basename(row["url"]) for row in rows] == ["good.html", "link.html"]
    assert counts == {"unsafe_name": 4, "too_long": 1}
    assert sorted(os.listdir(tmp_path)) == ["a.zip"]


def test_entries_of_a_zip_that_share_their_bytes_are_read_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.html", PAGE.format("Only one."))
        for n in range(5):
            twin = zipfile.ZipInfo(f"twin{n}.html")
            for field in ("header_offset", "compress_size", "file_size", "CRC"):
                setattr(twin, field, getattr(archive.filelist[0], field))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    with counting() as counts:
        assert len(whole(Pages(name="h", paths=(str(tmp_path),)))) == 1
    assert counts["overlapping"] == 5


def test_code_knows_its_language_licence_and_what_no_hand_wrote(tmp_path):
    files = {
        "LICENSE": b"MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy",
        "src/a.py": b"print('hello')\n",
        "src/b.rs": b"// SPDX-License-Identifier: GPL-2.0-or-later\nfn main() {}\n",
        "src/c.js": b"// Code generated by a tool. DO NOT EDIT.\nlet a = 1;\n",
        "src/d.min.js": b"let a=1;" * 2000,
        "src/e.c": b"int x;\0\1\2",
        "Makefile": b"all:\n\ttrue\n",
        ".git/config.py": b"x = 1\n",
        "node_modules/m/index.js": b"let b\n",
        "src/photo.png": b"\x89PNG",
    }
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with counting() as counts:
        rows = {row["url"].partition("/")[2]: row for row in whole(Code(name="c", paths=(str(tmp_path),)))}
    found = {name: (row["code.language"], row["licence"]) for name, row in rows.items()}
    assert found == {
        "src/a.py": ("Python", "MIT"),
        "src/b.rs": ("Rust", "GPL-2.0"),
        "src/c.js": ("JavaScript", "MIT"),
        "src/d.min.js": ("JavaScript", "MIT"),
        "src/e.c": ("C", "MIT"),
        "Makefile": ("Makefile", "MIT"),
    }
    flags = {
        f: [n for n, row in rows.items() if row[f"code.{f}"]] for f in ("generated", "minified", "binary")
    }
    assert flags == {"generated": ["src/c.js"], "minified": ["src/d.min.js"], "binary": ["src/e.c"]}
    assert counts == {"language": 2}


def test_links_that_lead_out_of_a_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "a.txt").write_text("open")
    (inside / "b.txt").symlink_to(tmp_path / "secret.txt")
    (inside / "c.txt").symlink_to(inside / "a.txt")
    os.mkfifo(inside / "d.txt")
    assert [row["text"] for row in whole(Text(name="t", paths=(str(inside),)))] == ["open", "open"]


def test_ids_do_not_change_when_the_folder_moves(tmp_path):
    ids = []
    for place in ("here", "there/below"):
        folder = tmp_path / place / "books"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("words")
        ids += [row["id"] for row in whole(Text(name="t", paths=(str(folder),)))]
    assert ids[0] == ids[1]


def test_a_source_without_files_or_with_two_of_one_name_says_so(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Text(name="t", paths=(str(tmp_path / "none"),)).inputs()
    with pytest.raises(DataError, match="no file that ends in"):
        Text(name="t", paths=(str(tmp_path),)).inputs()
    for place in "ab":
        (tmp_path / place / "x").mkdir(parents=True)
        (tmp_path / place / "x" / "t.txt").write_text("t")
    with pytest.raises(DataError, match="have one name"):
        Text(name="t", paths=(str(tmp_path / "a" / "x"), str(tmp_path / "b" / "x"))).inputs()


def test_tables_are_closed_by_rows_and_by_bytes(tmp_path):
    lines = io.StringIO()
    for _ in range(100):
        lines.write(json.dumps({"text": "y" * 1000}) + "\n")
    (tmp_path / "a.jsonl").write_text(lines.getvalue())
    source = Jsonl(name="j", paths=(str(tmp_path),), batch_rows=30, batch_bytes=20_000)
    assert [t.num_rows for t in source.tables(source.inputs()[0])] == [20] * 5


def test_memory_is_bounded_whatever_a_file_unpacks_to(tmp_path):
    """300 MB in one line, then a document: read in a process that may not have as much."""
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"text": "')
        for _ in range(300):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "after"}\n')
    code = (
        "import resource, sys; from puna.data.sources.jsonl import Jsonl\n"
        "source = Jsonl(name='j', paths=(sys.argv[1],))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "texts = [t for p in source.inputs() for table in source.tables(p) for t in table['text'].to_pylist()]\n"
        "print(texts, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    texts, grown = done.stdout.rsplit(" ", 1)
    assert texts == "['after']" and int(grown) < 64
