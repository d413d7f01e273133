"""The page shows hostile documents as text, asks nobody for anything, and its samples are bounded."""

import html
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import HOSTILE, Known
from toy_stages import recipe

from puna.data import glance, pairs
from puna.data import samples as looking
from puna.data.page.beside import beside
from puna.data.page.figures import histogram, number, percent, size
from puna.data.page.html import Html, joined, named, tag
from puna.data.page.page import page
from puna.data.pipeline import run
from puna.data.report import report
from puna.data.samples import samples

ALLOWED = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "nav",
        "a",
        "div",
        "b",
        "span",
        "i",
    ),
    *(
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "wbr",
        "figure",
        "figcaption",
        "small",
        "svg",
        "path",
        "line",
    ),
    *("details", "summary", "dl", "dt", "dd", "pre", "code", "del", "ins", "footer"),
}


class Seen(HTMLParser):
    """What a browser would make of it: tags, attributes, text; and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = set(), [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a run's folder")
    run(recipe(sources=(Known(),), sample=1.0), folder)
    return folder


@pytest.fixture(scope="module")
def made(out):
    return page(report(out), samples(out), str(out))


def test_hostile_documents_stay_text(made):
    seen = Seen(made)
    assert seen.open == [] and seen.tags <= ALLOWED
    assert HOSTILE in "".join(seen.text)  # it is shown, as what it is
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", made)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_the_page_asks_nobody_for_anything(made):
    seen = Seen(made)
    assert {value[0] for name, value in seen.attributes if name == "href"} == {"#"}
    assert not {name for name, _ in seen.attributes} & {"src", "srcset", "action", "data", "poster"}
    assert "@import" not in made and "url(" not in made
    policy = next(value for name, value in seen.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_links_and_commands_of_the_page_work(made, out):
    seen = Seen(made)
    anchors = {value for name, value in seen.attributes if name == "id"}
    assert {value[1:] for name, value in seen.attributes if name == "href"} == anchors
    commands = [line for line in "".join(seen.text).splitlines() if line.startswith("puna data explain")]
    assert commands and all(shlex.split(line)[3] == str(out) for line in commands)


def test_every_reason_has_samples_and_copies_stand_side_by_side(out):
    found = samples(out)
    assert set(found["dropped"]) == {"toy.short.few_words", "toy.same.text"}
    for reason, rows in found["dropped"].items():
        assert 0 < len(rows) <= looking.OF_REASON
        assert all(row["reason"] == reason and row["text"] for row in rows)
    for couple in found["pairs"]["toy.same"]:
        assert (
            couple["gone"]["text"] == couple["kept"]["text"] and couple["gone"]["id"] != couple["kept"]["id"]
        )
    words = np.sort(found["values"]["toy.short.few_words"]["dropped"])
    assert len(words) == sum(len(Known().row(p, r)["text"].split()) < 8 for p in range(4) for r in range(60))
    assert words.max() < 8
    assert found["clusters"]["toy.same"][4] > 0


def test_kept_documents_that_carry_the_measure_stand_above_the_line():
    drawn = histogram([(0.1, 1), (0.2, 3)], [(0.7, 2), (0.9, 1)], 0.5)
    assert 'class="kept"' in drawn and 'class="dropped"' in drawn
    x = float(re.search(r'x1="([\d.]+)"[^>]*class="threshold"', drawn)[1])
    assert x == pytest.approx(320 * (0.5 - 0.1) / 0.8, abs=0.1)
    assert histogram([], [], None) is None and histogram([(float("nan"), 1)], [], None) is None
    assert "threshold" not in histogram([(1, 1)], [], None)


def test_only_some_files_are_looked_into_and_few_texts_read(out, monkeypatch):
    for module in (looking, pairs):
        monkeypatch.setattr(module, "FILES", 2)
    monkeypatch.setattr(looking, "TRIES", 1)
    monkeypatch.setattr(looking, "GROUPS", 1)
    groups, read = [], pq.ParquetFile.read_row_group

    def counting(file, group, columns=None, **more):
        groups.append("text" in (columns or ["text"]))
        return read(file, group, columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    found = samples(out)
    few = sum(groups)
    assert found["kept"] and set(found["dropped"]) == {"toy.short.few_words", "toy.same.text"}
    monkeypatch.undo()
    files = [name for name in out.rglob("*.parquet") if name.parent.name in ("kept", "dropped")]
    assert few < 12 < len(files)


def test_a_text_too_large_is_not_read(out, monkeypatch):
    monkeypatch.setattr(looking, "GROUP_BYTES", 10)
    monkeypatch.setattr(glance, "GROUP_BYTES", 10)
    found = samples(out)
    shown = [row for rows in found["dropped"].values() for row in rows]
    assert found["kept"] == [] and shown and all(row["text"] is None for row in shown)
    assert page(report(out), found, str(out)).startswith("<!doctype html>")


def test_what_differs_is_marked_and_only_that():
    one, other, differ = beside("a b c d", "a b x d e")
    assert differ and "<del>c</del>" in one and "<ins>x</ins>" in other and "<ins>e</ins>" in other
    assert (
        "<del>" not in beside("same words", "same  words")[0] and not beside("same words", "same  words")[2]
    )
    long = "w " * 5000
    left, right, differ = beside(long + "one", long + "two")
    assert differ and "words the same" in left and "one" in left and "two" in right and len(left) < 2000
    assert len(beside("x" * 10**6, "y" * 10**6)[0]) < 1000


@given(st.text(), st.text())
def test_side_by_side_shows_each_text(gone, kept):
    left, right, _ = beside(gone, kept)
    for text, shown in ((gone, left), (kept, right)):
        seen = Seen(shown)
        words = "".join(seen.text).split()
        assert seen.tags <= {"div", "del", "ins"} and len(words) <= len(joined(text).split()) + 6


@given(st.text())
def test_markup_is_only_what_tag_makes(text):
    seen = Seen(tag("p", text, named(text), title=text))
    assert (
        seen.tags <= {"p", "wbr"} and seen.open == [] and [name for name, _ in seen.attributes] == ["title"]
    )
    assert joined(Html("<b>"), text) == "<b>" + joined(text)
    assert html.unescape(joined("a<b>\n\t&")) == "a<b>\n\t&"


def test_numbers_are_short_and_exact():
    assert [number(v) for v in (None, 0, 7, 1234567, 0.65, 0.95714, 1234.56)] == [
        "–", "0", "7", "1,234,567", "0.65", "0.957", "1,234.6"
    ]  # fmt: skip
    assert [percent(v) for v in (0, 0.00001, 0.5, 1)] == ["0.0%", "<0.1%", "50.0%", "100.0%"]
    assert [size(v) for v in (0, 999, 1000, 2.5e9, 3e16)] == ["0 B", "999 B", "1.0 kB", "2.5 GB", "30.0 PB"]


def test_the_same_run_gives_the_same_page(out, made):
    assert page(report(out), samples(out), str(out)) == made


def test_a_run_in_which_nothing_is_done_has_a_page(tmp_path):
    run(recipe(), tmp_path, shard=(7, 8), step="00-read")
    assert "Nothing was read yet" in page(report(tmp_path), samples(tmp_path), "run")


def test_whatever_is_hostile_the_page_is_whole(out):
    facts, found = report(out), samples(out)
    found["dropped"] = {_poisoned(reason): rows for reason, rows in found["dropped"].items()}
    found["values"] = {_poisoned(reason): seen for reason, seen in found["values"].items()}
    made = page(_poisoned(facts), _poisoned(found), HOSTILE)
    seen = Seen(made)
    assert seen.open == [] and seen.tags <= ALLOWED and "<script" not in made
    assert not {name for name, _ in seen.attributes if name.startswith("on")}


def _poisoned(value):
    """Every text in it made hostile: reasons, stages, sources, languages, hosts, settings, pieces, documents."""
    if isinstance(value, dict):
        return {key: _poisoned(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_poisoned(inside) for inside in value)
    return f"{HOSTILE}'\"--></style>{value}" if isinstance(value, str) else value
