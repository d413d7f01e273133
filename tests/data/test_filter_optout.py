"""A publisher's wish is read as it is written and heeded for everybody it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.data.filters.optout import OptOut, directives
from puna.errors import DataError
from tests.data.filter_rows import of_texts, reasons

OURS = ("ccbot",)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("noai", {"noai"}),
        ("NoIndex, NOFOLLOW", {"noindex", "nofollow"}),
        ("otherbot: noai, noindex", set()),
        ("CCBot: noai", {"noai"}),
        ("noindex, otherbot: noai", {"noindex"}),
        ("otherbot: noai, ccbot: nofollow", {"nofollow"}),
        ("otherbot: noai\nnoindex", {"noindex"}),
        (
            "unavailable_after: 25 Jun 2030 15:00:00 PST, noai",
            {"unavailable_after: 25 jun 2030 15:00:00 pst", "noai"},
        ),
        ("max-snippet:-1, index", {"max-snippet:-1", "index"}),
        ("noai-but-longer", {"noai-but-longer"}),
        ("", set()),
    ],
)
def test_directives_are_those_for_us(said, found):
    assert directives(said, OURS) == found


@given(st.text())
def test_any_header_is_read(said):
    assert isinstance(directives(said, OURS), set)


def signalled(tag, meta, tdm):
    return of_texts(
        *[""] * len(tag), **{"http.x_robots_tag": tag, "html.meta_robots": meta, "http.tdm_reservation": tdm}
    )


def test_each_signal_has_its_reason_and_silence_is_consent():
    table = signalled(
        ["noai", None, "", None, "all", None],
        [None, "noindex", "follow", None, None, None],
        [None, None, None, "1", "0", " 1 "],
    )
    found = ["optout.robots_tag", "optout.meta_robots", None, "optout.tdm", None, "optout.tdm"]
    assert reasons(OptOut(), table) == found
    assert reasons(OptOut(signals=("noai",), tdm=False), table) == ["optout.robots_tag", *[None] * 5]


def test_a_source_without_headers_is_told_not_taken_for_consent():
    with pytest.raises(DataError, match=r"no column http\.x_robots_tag"):
        OptOut()(of_texts("a"))
