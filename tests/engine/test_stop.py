"""Stop strings: however the text is divided, it ends before the stop string complete first."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from puna.engine.stop import Stops


def oracle(text, strings):
    """The text before the stop string complete first; of two at once, the longer. None: no stop."""
    for end in range(1, len(text) + 1):
        complete = [string for string in strings if text[:end].endswith(string)]
        if complete:
            return text[: end - max(map(len, complete))]
    return None


def parts(text, cuts):
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@settings(max_examples=1500, deadline=None)
@given(
    text=st.text("abé", max_size=40),
    strings=st.lists(st.text("abé", min_size=1, max_size=6), max_size=4),
    cuts=st.lists(st.integers(0, 100), max_size=12),
)
def test_the_streamed_text_is_the_whole_texts_and_never_shows_what_may_be_a_stop(text, strings, cuts):
    stops, shown, wanted = Stops(strings), "", oracle(text, strings)
    seen = ""
    for part in parts(text, cuts):
        seen += part
        shown += stops.push(part)
        if stops.found:
            break
        assert seen.startswith(shown)
        beginnings = {s[:n] for s in strings for n in range(1, len(s))}
        longest = max((len(b) for b in beginnings if seen.endswith(b)), default=0)
        assert len(shown) == len(seen) - longest, "holds back exactly what may become a stop"
    assert stops.found == (wanted is not None)
    assert shown + ("" if stops.found else stops.finish()) == (text if wanted is None else wanted)


def test_a_hostile_stop_string_costs_no_more_than_its_length():
    stops = Stops(["a" * 50_000 + "b"])
    text = "a" * 49_999 + "c"
    shown = "".join(stops.push(text[n : n + 10]) for n in range(0, len(text), 10)) + stops.finish()
    assert shown == text and not stops.found
