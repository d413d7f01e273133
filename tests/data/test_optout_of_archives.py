"""What publishers say in headers and meta tags goes from an archive to the gate that heeds it."""

import json

import pytest
from data.test_recipe_to_shards import puna
from data.test_sources import PAGE, whole

pytest.importorskip("warcio.warcwriter", reason="warcio writes the archives of these tests")
from data.test_warc import HTML, Archive, pages

from puna.data.extract.page import Extract
from puna.data.filters.optout import COLUMNS
from puna.data.sources.pages import Pages
from puna.data.sources.text import Text

SAID = {  # what a page says -> (headers, meta tags, its four columns, why it goes)
    "silence": ([], "", (None, None, None, None), None),
    "noai": ([("X-Robots-Tag", "noai, noimageai")], "", ("noai, noimageai", None, None, "noai"), "robots_tag"),
    "two": (
        [("x-robots-tag", "otherbot: noai"), ("X-ROBOTS-TAG", "none")],
        "",
        ("otherbot: noai\nnone", None, None, "none"),
        "robots_tag",
    ),
    "ccbot": ([("X-Robots-Tag", "ccbot: noai")], "", ("ccbot: noai", None, None, None), "robots_tag"),
    "meta": ([], "<META content='NoIndex,follow' NAME=Robots>", (None, "NoIndex,follow", None, "noindex"), "meta_robots"),
    "tdm": ([("TDM-Reservation", "1")], "", (None, None, "1", "tdm"), "tdm"),
    "tdm meta": ([("TDM-Reservation", "0")], '<meta name="tdm-reservation" content="1">', (None, None, "1", "tdm"), "tdm"),
    "free": ([("TDM-Reservation", "0")], '<meta name="robots" content="all">', (None, "all", "0", None), None),
    "hidden": ([], '<!-- <meta name="robots" content="noai"> --><script>"<meta name=robots content=noai>"</script>',
               (None, None, None, None), None),
}  # fmt: skip


def archive():
    made = Archive()
    for name, (headers, meta, *_) in SAID.items():
        body = PAGE.format(f"This is the page of {name}, with words.").replace("<title>", f"{meta}<title>")
        made.page(body, f"http://x.org/{name.replace(' ', '-')}", headers=[HTML, *headers])
    return made.bytes


def test_an_archive_gives_what_each_publisher_says(tmp_path):
    rows = pages(tmp_path, archive())
    found = dict(zip(SAID, (tuple(row[column] for column in COLUMNS) for row in rows), strict=True))
    assert found == {name: columns for name, (_, _, columns, _) in SAID.items()}


def test_saved_pages_give_their_meta_tags_and_plain_texts_say_nothing(tmp_path):
    meta = '<meta name="robots" content="noai"><meta name="robots" content="nofollow">'
    (tmp_path / "a.html").write_text(PAGE.format("Some words.").replace("<title>", f"{meta}<title>"))
    (tmp_path / "a.txt").write_text("Some words.")
    (page,) = whole(Pages(name="p", paths=(str(tmp_path),)))
    (text,) = whole(Text(name="t", paths=(str(tmp_path),)))
    assert [page[column] for column in COLUMNS] == [None, "noai\nnofollow", None, "noai"]
    assert [text[column] for column in COLUMNS] == [None] * 4


@pytest.mark.parametrize("head", ["<meta " * 20_000, "<meta name=" * 9_000, "<meta content='" * 9_000 + ">"])
def test_a_head_without_an_end_says_nothing(head):
    page = Extract().page(f"<html>{head}<body><main><p>Some words.</p></main></body></html>".encode())
    assert page.robots == page.tdm == ""


def test_a_run_drops_who_wants_out_beside_sources_that_say_nothing(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(archive())
    (tmp_path / "a.txt").write_text("Some words.")
    (tmp_path / "recipe.toml").write_text(
        '[source.crawl]\nkind = "warc"\npaths = ["a.warc.gz"]\n[source.books]\nkind = "text"\npaths = ["a.txt"]\n'
        "[stage.optout]\n"
    )
    puna("run", "recipe.toml", "--out", "run", "--runner", "inline", cwd=tmp_path)
    report = json.loads(puna("report", "run", "--json", cwd=tmp_path))
    wanted = [f"optout.{reason}" for _, _, _, reason in SAID.values() if reason]
    assert {row["reason"]: row["documents"] for row in report["reasons"]} == {
        reason: wanted.count(reason) for reason in wanted
    }
    for name, (*_, reason) in SAID.items():
        url = f"http://x.org/{name.replace(' ', '-')}"
        (answer,) = map(json.loads, puna("explain", "run", url, "--json", cwd=tmp_path).splitlines())
        assert answer.get("reason") == (f"optout.{reason}" if reason else None)
