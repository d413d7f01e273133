"""What of a page becomes text, on pages written for this; and what no page can do."""

import json
import resource
import subprocess
import sys

import pytest

from puna.data.extract.charset import decode
from puna.data.extract.page import Extract

WORDS = "A paragraph that a reader came for, with words enough to be taken for one: it ends in a full stop."
PAGE = """<!doctype html><html><head><title>The title</title><style>p {{color: red}}</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/a">About</a></li></ul></nav>
<article><h1>The heading</h1><p>{words}</p>{inside}<p>{words}</p></article>
<script>let a = "<p>never shown</p>";</script><footer><p>All rights reserved.</p></footer></body></html>"""


def inside(html, **settings):
    """What becomes of HTML between two paragraphs of an article."""
    text = Extract(**settings).page(PAGE.format(words=WORDS, inside=html).encode()).text
    before, between, after = text.split(WORDS)
    assert after == "" and (before == "" or settings)
    return between.strip("\n")


def test_an_article_comes_without_menus_scripts_and_footer():
    page = Extract().page(PAGE.format(words=WORDS, inside="<h2>A part</h2>").encode())
    assert page.text == f"{WORDS}\n\nA part\n\n{WORDS}"
    assert page.title == "The title"


def test_code_keeps_every_space_and_line():
    code = "def f(x):\n\n    if x &lt; 1:\n\treturn  '&lt;p&gt;'  # &amp;amp;"
    raw = "def f(x):\n\n    if x < 1:\n\treturn  '<p>'  # &amp;"
    assert inside(f'<pre><code class="py"><span>{code}</span></code></pre>') == raw
    assert inside(f"<pre>{code}</pre>", markdown=True) == f"```\n{raw}\n```"
    assert inside("<pre>Read more\nClick here\nAdvertisement</pre>") == "Read more\nClick here\nAdvertisement"


def test_a_table_of_data_is_a_line_a_row():
    rows = "<tr><th>Name</th><th>Size</th></tr><tr><td><p>a</p></td><td>1<br>2</td></tr><tr><td>b<td>\n3</tr>"
    assert inside(f"<table>{rows}</table>") == "Name | Size\na | 1 2\nb | 3"


def test_a_table_that_lays_out_a_page_keeps_its_paragraphs():
    text = "Words that fill a column of an old page. " * 20
    found = inside(f"<table><tr><td><p>First. {text}</p><p>Second. {text}</p></td></tr></table>")
    assert found.split("\n\n") == [f"First. {text.strip()}", f"Second. {text.strip()}"]


def test_lists_keep_their_bullets_numbers_and_depth():
    items = "<ul><li>one</li><li>two<ol><li>in</li><li>side</li></ol></li></ul>"
    assert inside(items) == "- one\n- two\n  1. in\n  2. side"


@pytest.mark.parametrize(
    "html",
    [
        '<math><semantics><mrow><mi>x</mi></mrow><annotation encoding="application/x-tex">a&lt;b^2</annotation></semantics></math>',
        '<math alttext="a&lt;b^2"><mi>x</mi></math>',
        '<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi><annotation encoding="application/x-tex">a&lt;b^2</annotation></semantics></math></span><span class="katex-html" aria-hidden="true">xx</span></span>',
        '<span class="MathJax_Preview">x</span><script type="math/tex">a<b^2</script>',
        '<img class="mwe-math-fallback-image-inline" alt="a&lt;b^2" src="f.png">',
        '<img src="https://x.org/latex.php?q" alt="a&lt;b^2">',
    ],
)
def test_a_formula_is_its_source_once(html):
    assert inside(f"<p>See {html} here.</p>") == "See $a<b^2$ here."


def test_other_pictures_speak_when_asked():
    assert inside('<p>Look: <img src="a.png" alt="a hill"> here.</p>') == "Look: here."
    assert inside('<p>Look: <img src="a.png" alt="a hill"> here.</p>', alts=True) == "Look: a hill here."


def test_marks_and_heading_come_when_asked():
    text = (
        Extract(markdown=True, title=True)
        .page(PAGE.format(words=WORDS, inside="<h3>Deep</h3>").encode())
        .text
    )
    assert text == f"# The heading\n\n{WORDS}\n\n### Deep\n\n{WORDS}"


def test_calls_and_links_to_other_articles_go():
    links = "<h3>Related articles</h3><p>Ten things to know</p><p>You will not believe it</p>"
    assert inside(f"<p>Advertisement</p>{links}") == ""
    assert inside("<p>Advertisement, said the man, pays for everything.</p>") != ""


def test_what_a_page_says_of_robots_and_of_mining_comes_with_it():
    said = (
        '<meta name="Robots" content="noindex,  noai"><META NAME=robots CONTENT="no&#97;rchive">'
        '<meta name="tdm-reservation" content="1"><meta name="tdm-reservation" content="0"><meta name=robots>'
    )
    page = Extract().page(PAGE.format(words=WORDS, inside="").replace("<head>", f"<head>{said}").encode())
    assert (page.robots, page.tdm) == ("noindex, noai\nnoarchive", "1")
    refused = Extract().page(f"{said}<p>".encode())
    assert (refused.robots, refused.tdm, refused.refused) == (page.robots, page.tdm, "empty")
    plain = Extract().page(PAGE.format(words=WORDS, inside="").encode())
    assert (plain.robots, plain.tdm) == ("", "")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one<p>two<div>three</div>four", "one\n\ntwo\n\nthree\nfour"),
        ("<dl><dt>term<dd>meaning<dt>other<dd><p>more</dl>", "term\nmeaning\nother\n\nmore"),
        ("<ol><li>one<li><p>two</p><li>three<ul><li>in</ol>", "1. one\n2. two\n3. three\n  - in"),
        ("<ul><li><pre>code</pre></ul><p>after</p>", "code\n\nafter"),
        ("<p>a <b>bold<i>er</b> word</i></p>", "a bolder word"),
        ("<h2>Head<h3>Lower</h3>text", "Head\n\nLower\n\ntext"),
        ("<p>1 < 2 & 3 &lt 4 &copy &#8364; &#x20ac; &#128; &nosuch;</p>", "1 < 2 & 3 < 4 © € € € &nosuch;"),
        ("<p>x<!-- > -- <p>no</p> -->y<!doctype z><?php no ?></q>z</p>", "xyz"),
        ("<p title='a>b' class=\"x\"id=y>text<br/>line</br>end</p>", "text\nline\nend"),
        ("<textarea><p>no</textarea><select><option>no<option>no</select><p>yes", "yes"),
        ("<p hidden>no</p><p style='color:red; Display : none'>no</p><p>yes", "yes"),
        ("<svg><title>no</title><text>no</text></svg><math><mi>x</mi></math>", "x"),
        ("<p>a\0b &#0;</p>", "ab \ufffd"),
        ("<P CLASS=A>upper</P><XMP><p> &lt;</XMP>", "upper\n\n<p> &lt;"),
    ],
)
def test_what_authors_leave_out_is_understood(html, text):
    assert inside(html) == text


@pytest.mark.parametrize(
    ("data", "declared", "text"),
    [
        ("\ufeffgrün".encode("utf-16-le"), "utf-8", "grün"),
        ("\ufeffgrün".encode(), "latin-1", "grün"),
        ("grün".encode(), "latin-1", "grün"),
        ("grün".encode("latin-1"), "utf-8", "grün"),
        ("grün €".encode("cp1252"), "iso-8859-1", "grün €"),
        ("日本語の文章".encode("shift_jis"), "Shift_JIS", "日本語の文章"),
        ("日本語の文章".encode("iso2022_jp"), "iso-2022-jp", "日本語の文章"),
        ("文字".encode("gb18030"), "gb2312", "文字"),
        (b"plain", "no-such-charset", "plain"),
        (b"", None, ""),
    ],
)
def test_bytes_become_the_text_that_was_meant(data, declared, text):
    assert decode(data, declared) == text


HOSTILE = {
    "nested": ("<div>" * 100_000 + "x", "too_deep"),
    "formatting": ("<b><i><u><em>" * 30_000 + "x", "too_deep"),
    "reopened": ("<p><b>" * 20_000 + "x", ""),
    "tables": ("<table><tr><td>" * 50_000 + "x", "too_deep"),
    "attributes": ("<p " + " ".join(f"a{n}=1" for n in range(20_000)) + ">x", "too_many_attributes"),
    "quoted": ("<p " + " ".join(f'a{n}=">"' for n in range(20_000)) + ">x", "too_many_attributes"),
    "bare": ("<p " + "/".join(f"a{n}" for n in range(20_000)) + ">x", "too_many_attributes"),
    "scripts": ("<script>" * 40_000, "empty"),
    "maths": ("<math>" * 40_000 + "x", "too_deep"),
    "half tables": ("<table>" * 40_000 + "x", ""),
    "whole tables": ("<table></table>" * 80_000 + "x", "too_many_tags"),
    "alts": ("<img class=tex alt=" * 140_000 + "x", "too_many_attributes"),
    "cells": ("<table>" + "<td>" * 40_000 + "</table>x", ""),
    "comments": ("<!--" * 40_000, "empty"),
    "brackets": ("<" * 200_000, "too_many_tags"),
    "quotes": ("<a ='\"" * 140_000, "too_many_attributes"),
    "one line": ("a" * 2_000_000, ""),
    "spaces": (" \t" * 500_000 + "x", ""),
    "entities": ("&lt;p&gt;" * 100_000, ""),
    "wide": ("<div>" * 200 + "<b>x</b>" * 20_000, ""),
    "lists": ("<main>words<ul>" + "<li>x" * 20_000, ""),
    "ends of links": ("<a href=x>" + "<div>" * 250 + "</a>" * 140_000 + "x", ""),
    "ends of nothing": ("<p>" + "<span>" * 250 + "</b></section></p></td></li>" * 20_000, "empty"),
    "links": ("<a href=x>y" * 140_000, ""),
    "paragraphs": ("<p><b>x" * 70_000, ""),
    "rows": ("<table>" + "<tr><td>x<table>" * 60 + "<tr><td>x" * 60_000, ""),
    "no lists": ("<li>x" * 140_000, ""),
    "names": ("".join(f"<n{n}></n{n}>" for n in range(70_000)) + "x", ""),
    "references": ("&" * 2_000_000 + "&" + "a" * 2_000_000, ""),
    "annotations": ("<math>" + "<annotation tex" * 140_000 + "</math>x", ""),
    "half letters": ("<math>" + "<" * 140_000 + "</math>x", ""),
    "svgs": ("<svg>" * 140_000 + "x", ""),
    "half ends": ("<title>" + "</titl" * 140_000, "empty"),
    "lines": ("<pre>" + "\n \n" * 1_000_000 + "x", ""),
    "breaks": ("<p>" + "x<br>" * 140_000, ""),
    "too long": ("x" * 6_000_000, "too_long"),
}


READ_ALL = """
import json, sys, time
from puna.data.extract.page import Extract, defined
for line in sys.stdin:
    start, html = time.process_time(), json.loads(line)
    native = Extract().page(html.encode()) if sys.argv[1] == "native" else None
    page = native or (defined(Extract(), html) if len(html) <= 5 << 20 else Extract().page(html.encode()))
    print(json.dumps([page.refused, time.process_time() - start]), flush=True)
"""


@pytest.mark.parametrize("twin", ["native", pytest.param("definition", marks=pytest.mark.slow)])
def test_no_page_takes_long_or_much(twin):
    """In a process of its own: CPU and memory are bounded there, and a crash is seen."""

    def bound():
        resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    pages = "\n".join(json.dumps(html) for html, _ in HOSTILE.values())
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, twin], input=pages, capture_output=True, text=True, preexec_fn=bound
    )
    answers = dict(zip(HOSTILE, map(json.loads, done.stdout.splitlines()), strict=False))
    assert done.returncode == 0, f"after {list(answers)}: {done.stderr[-500:]}"
    assert {name: refused for name, (refused, _) in answers.items()} == {
        n: r for n, (_, r) in HOSTILE.items()
    }
    slow = {name: seconds for name, (_, seconds) in answers.items() if seconds > 15}
    assert slow == {}
