"""Web archives written by warcio, then broken in every way we could think of."""

import gzip
import io
import itertools
import random

import pytest
import zstandard
from data.test_sources import PAGE, counting, whole

from puna.data.sources.warc import Warc, Wet

writer = pytest.importorskip("warcio.warcwriter", reason="warcio writes the archives of these tests")
from warcio.statusandheaders import StatusAndHeaders  # noqa: E402

HTML = ("Content-Type", "text/html; charset=utf-8")


class Archive:
    """Bytes of a WARC that grows by records; `starts` are their places."""

    def __init__(self, packed=True):
        self.out, self.starts = io.BytesIO(), []
        self.writer = writer.WARCWriter(self.out, gzip=packed)

    def page(self, body, url="http://x.org/", status="200 OK", headers=(HTML,), **more):
        self.starts.append(self.out.tell())
        said = StatusAndHeaders(status, list(headers), protocol="HTTP/1.1")
        self._write(url, "response", body, http_headers=said, **more)
        return self

    def _write(self, url, kind, body, **more):
        body = body.encode() if isinstance(body, str) else body
        record = self.writer.create_warc_record(url, kind, payload=io.BytesIO(body), length=len(body), **more)
        self.writer.write_record(record)

    def text(self, body, url="http://x.org/"):
        self._write(url, "conversion", body, warc_content_type="text/plain")
        return self

    @property
    def bytes(self):
        return self.out.getvalue()


def pages(tmp_path, data, ending=".gz", **settings):
    (tmp_path / f"a.warc{ending}").write_bytes(data)
    return whole(Warc(name="w", paths=(str(tmp_path),), **settings))


def five(packed=True):
    archive = Archive(packed)
    for n in range(5):
        archive.page(PAGE.format(f"This is page number {n}, with words."), f"http://X.org/{n}")
    return archive


def numbers(rows):
    return [int(row["url"].rsplit("/", 1)[1]) for row in rows]


def framed(archive):
    ends = [*archive.starts[1:], len(archive.bytes)]
    return b"".join(zstandard.compress(archive.bytes[a:z]) for a, z in zip(archive.starts, ends, strict=True))


@pytest.mark.parametrize(
    ("ending", "data"),
    [
        (".gz", lambda: five().bytes),
        ("", lambda: five(packed=False).bytes),
        (".zst", lambda: framed(five(packed=False))),
        (".zst", lambda: zstandard.compress(five(packed=False).bytes)),
    ],
)
def test_pages_come_out_as_text_with_their_address_date_and_host(tmp_path, ending, data):
    rows = pages(tmp_path, data(), ending)
    assert [row["text"] for row in rows] == [f"This is page number {n}, with words." for n in range(5)]
    assert numbers(rows) == list(range(5))
    for row in rows:
        assert (row["host"], row["mime"], row["status"]) == ("x.org", "text/html", 200)
        assert row["date"].startswith("20") and row["date"].endswith("Z")


def test_answers_that_are_no_pages_are_counted_by_reason(tmp_path):
    archive = (
        five().page("gone", status="404 Not Found").page(b"\x89PNG", headers=[("Content-Type", "image/png")])
    )
    archive.page("").page("no page at all, only words", headers=[])
    archive.page(PAGE.format("Nobody said what this is."), url="http://x.org/5", headers=[])
    archive.page(PAGE.format("y " * 5000))
    with counting() as counts:
        rows = pages(tmp_path, archive.bytes, document_bytes=4000)
    assert numbers(rows) == [0, 1, 2, 3, 4, 5]
    assert counts == {"status": 1, "not_html": 2, "empty": 1, "too_long": 1}


@pytest.mark.parametrize("broken", range(5))
def test_a_damaged_member_costs_its_own_record_only(tmp_path, broken):
    archive = five()
    data = bytearray(archive.bytes)
    for at in range(archive.starts[broken] + 60, archive.starts[broken] + 100):
        data[at] ^= 0x5A
    with counting() as counts:
        rows = pages(tmp_path, bytes(data))
    assert numbers(rows) == [n for n in range(5) if n != broken]
    assert sum(counts.values()) >= 1


def test_rubbish_between_records_and_an_end_cut_short_are_passed_over(tmp_path):
    archive = five(packed=False)
    a, b = archive.starts[2], archive.starts[4]
    data = archive.bytes[:a] + b"rubbish\r\n\r\n" + archive.bytes[a:-20]
    with counting() as counts:
        rows = pages(tmp_path, data, "")
    assert numbers(rows) == [0, 1, 2, 3]
    assert counts == {"damaged": 1, "truncated": 1}
    with counting() as counts:
        assert numbers(pages(tmp_path, archive.bytes[: b + 150], "")) == [0, 1, 2, 3]
    assert sum(counts.values()) <= 1


@pytest.mark.parametrize("coding", ["gzip", "chunked", "both"])
def test_what_a_server_packed_is_unpacked(tmp_path, coding):
    body, headers = PAGE.format("Packed words.").encode(), [HTML]
    if coding != "chunked":
        body, headers = gzip.compress(body), [*headers, ("Content-Encoding", "gzip")]
    if coding != "gzip":
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        headers.append(("Transfer-Encoding", "chunked"))
    rows = pages(tmp_path, Archive().page(body, headers=headers).bytes)
    assert [row["text"] for row in rows] == ["Packed words."]


def test_a_bomb_is_left_at_the_first_byte_too_many(tmp_path):
    archive = Archive()
    packed = gzip.compress(gzip.compress(b"<p>" + b"a" * 50_000_000))
    inner = gzip.decompress(packed)
    archive.page(inner, headers=[HTML, ("Content-Encoding", "gzip")]).page(b"a" * 10_000_000)
    archive.page(b"not gzip", headers=[HTML, ("Content-Encoding", "gzip")])
    archive.page(PAGE.format("After the bombs."), "http://x.org/7")
    with counting() as counts:
        rows = pages(tmp_path, archive.bytes)
    assert numbers(rows) == [7]
    assert (counts["too_long"], counts["malformed"]) == (2, 1)


@pytest.mark.parametrize("declared", ["header", "meta", "nothing", "a lie"])
def test_the_charset_is_right_whoever_says_it(tmp_path, declared):
    text = "Съешь же ещё этих мягких французских булок, да выпей чаю."
    meta = '<meta charset="windows-1251">' if declared == "meta" else ""
    encoding = "utf-8" if declared == "a lie" else "windows-1251"
    body = PAGE.format(text).replace("<head>", f"<head>{meta}").encode(encoding)
    body = body.replace(b"<title>", meta.encode() + b"<title>")
    said = {"header": "; charset=windows-1251", "a lie": "; charset=iso-8859-1"}.get(declared, "")
    rows = pages(tmp_path, Archive().page(body, headers=[("Content-Type", "text/html" + said)]).bytes)
    assert [row["text"] for row in rows] == [text]


def test_wet_files_give_their_text(tmp_path):
    archive = Archive().text("Some words.\nMore: ☃").text(b"bad \xff byte", "http://x.org/2")
    (tmp_path / "a.wet.gz").write_bytes(archive.bytes)
    rows = whole(Wet(name="w", paths=(str(tmp_path),)))
    assert [row["text"] for row in rows] == ["Some words.\nMore: ☃", "bad \ufffd byte"]


def test_random_damage_never_raises_nor_repeats_a_page(tmp_path):
    dice, whole_file = random.Random(7), five().bytes
    for _, packed in itertools.product(range(40), (True, False)):
        data = bytearray(whole_file if packed else five(packed=False).bytes)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
        rows = pages(tmp_path, bytes(data), ".gz" if packed else "")
        (tmp_path / ("a.warc.gz" if packed else "a.warc")).unlink()
        assert len(rows) <= 5
