"""The native twin of extraction gives what its definition gives, on pages of every make and on broken ones."""

import gzip
import random
import subprocess
import sys
from html.entities import html5
from pathlib import Path

import pytest
from data.test_extract import HOSTILE
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.data.extract import words
from puna.data.extract.charset import decode
from puna.data.extract.page import Extract, defined
from puna.data.extract.tree import unescape

pytest.importorskip("puna.kernels._native", reason="the native extension is not built")
PAGES = Path(__file__).parents[3] / "shared" / "data" / "extraction" / "html"
PLAIN, MARKED = Extract(), Extract(markdown=True, title=True, alts=True)
TIGHT = Extract(most_depth=6, most_attributes=2, most_tags=40)

PROSE = "Words enough, in a row, to be taken for prose by whoever counts them. "
NAMES = sorted(
    words.SPECIAL | words.RAW | words.VOID | {"a", "b", "span", "my-own", "optgroup", "option", "label"}
)
CLASSES = [
    word.strip().replace(" ", "-") for word in (*words.FOREIGN, *words.UNLIKELY, *words.LIKELY, *words.KEPT)
]
ATTRIBUTES = st.sampled_from(
    [
        *(f'class="{name}"' for name in CLASSES),
        *("hidden", "style='display: NONE'", 'id="side_bar"', "role=main", 'class="section x" id=comments'),
        *("href=#x", "href='/away'", "HREF", "type=math/tex", 'type="math/tex; mode=display"', "name=robots"),
        *(
            "content='no&nbsp;archive '",
            "name=TDM-Reservation",
            "alt='a &lt; b'",
            "src=latex.php",
            "class=tex",
        ),
        *("=", '"', "'", "a='>", 'a=">"', "/", "a = b", "\u212alass=footer", "é=ü"),
    ]
)
STARTS = st.builds(
    "<{}{}{}>".format,
    st.sampled_from(NAMES) | st.sampled_from([name.upper() for name in NAMES]),
    st.lists(ATTRIBUTES, max_size=3).map(lambda said: "".join(f" {one}" for one in said)),
    st.sampled_from(["", "", "", "/", " ", "\n"]),
)
ENDS = st.sampled_from([f"</{name}>" for name in NAMES])
TEXTS = st.sampled_from(
    [
        *(
            PROSE,
            PROSE * 5,
            "x",
            " ",
            "\n",
            "\t",
            "\r\n",
            "\xa0",
            "\u3000",
            "&amp;",
            "&notit;",
            "&#x80;",
            "&#0;",
        ),
        *(
            "&#99999999999;",
            "&#xD800;",
            "&",
            "&;",
            "&#",
            "&#x",
            "&CounterClockwiseContourIntegral;",
            "&ampx",
            "<",
        ),
        *(
            "</",
            "<!",
            "<!--",
            "-->",
            "<!-- <p> -->",
            "<?x>",
            "</ x>",
            "<annotation encoding='x-tex'>a&lt;b",
            "```",
        ),
        *(
            "Related articles",
            "Click here!",
            "12 Comments",
            "Kommentare:",
            "Nov 18, 2019",
            "2019-11-18",
            "Read MORE",
        ),
        *("関連記事", "Ещё", "ÄHNLICHE ARTIKEL", "don’t miss", "№ 1", "a | b", "Share on Facebook »"),
    ]
) | st.text(max_size=12)
HTML = st.lists(STARTS | STARTS | ENDS | TEXTS, max_size=40).map("".join)


def hold(page, *hows):
    for how in hows or (PLAIN, MARKED, TIGHT):
        assert how.page(page) == defined(how, decode(page).replace("\0", ""))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(HTML.map(lambda html: html.encode("utf-8", "replace")))
@example(b"")
@example(b"<pre><ul><pre>x</pre></ul><ul>y")
@example(b"<table><td>" + PROSE.encode() * 20 + b"</table>x")
def test_twins_agree_on_any_order_of_tags_and_text(page):
    hold(page)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.binary(max_size=60) | st.binary(max_size=20).map(lambda part: b"<p>" + part + b"<p \xe3\x80" + part)
)
def test_twins_agree_on_any_bytes(page):
    hold(page)


@pytest.mark.skipif(not PAGES.is_dir(), reason="the article pages of shared/data/extraction are not here")
def test_twins_agree_on_pages_as_they_are_and_on_damaged_ones():
    dice = random.Random(7)
    for path in sorted(PAGES.glob("*.gz"))[::3]:
        page = gzip.decompress(path.read_bytes())
        hold(page, dice.choice((PLAIN, MARKED)))
        start = dice.randrange(len(page))
        part = bytearray(page[start : start + 20_000])
        for _ in range(40):
            at = dice.randrange(len(part))
            part[at : at + dice.randrange(3)] = dice.choice(
                (b"<", b">", b'"', b"</", b"&", b"=", b"", b"\xc2")
            )
        hold(bytes(part), PLAIN)


@pytest.mark.parametrize("name", HOSTILE)
def test_twins_agree_on_what_holds_others_up(name):
    hold(HOSTILE[name][0][:50_000].encode(), PLAIN)


def test_every_named_character_and_number_means_the_same():
    names = "".join(f"&{name} &{name[:-1]}x " for name in html5)
    numbers = "".join(f"&#{code} &#x{code:x}; " for code in [*range(300), *range(0xD7F0, 0x110010, 997)])
    page = f"<p>{PROSE}{names}{numbers}".encode()
    hold(page, PLAIN)
    assert unescape("&lt;&notit;&#60;&#x3C;&#128;&nosuch;") == "<¬it;<<€&nosuch;"


def test_without_a_compiler_pages_come_out_the_same():
    page = f"<title>T</title><p>{PROSE * 5}<ul><li>one<li><a href=x>two</a> and more</ul><pre>x</pre>"
    code = (
        "import sys; sys.modules['puna.kernels._native'] = None\n"
        "from puna.data.extract.page import Extract; print(Extract().page(sys.argv[1].encode()))"
    )
    done = subprocess.run([sys.executable, "-c", code, page], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(PLAIN.page(page.encode()))
