"""Pages: none is lost, none has two owners, and what was read is found by all that begins alike."""

from hypothesis import given, settings
from hypothesis import strategies as st

from puna.engine.pages import Pages, common

SIZE = 3
IDS = st.lists(st.integers(0, 1), min_size=1, max_size=14)
ACTS = ["begin", "read", "read", "end", "forget", "grow"]
PLAYS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 9), IDS), max_size=60)


def whole(pages):
    """All pages are there once, and what can be had is what is not held."""
    account = pages.account()
    assert sorted(account.free + account.kept + account.held) == list(range(pages.count))
    assert pages.available() == len(account.free) + len(account.kept)


def begun(pages, ids):
    """A hold of these ids, or None where they do not fit."""
    return None if pages.missing(ids, len(ids) - 1) > 0 else pages.begin(list(ids), len(ids) - 1)


def read(pages, ids):
    """Ids read whole, and ended."""
    hold = begun(pages, ids)
    pages.read(hold, len(ids) - hold.length)
    pages.end(hold)
    return hold


@settings(max_examples=400, deadline=None)
@given(acts=PLAYS, count=st.integers(1, 12))
def test_no_page_is_lost_whatever_happens(acts, count):
    pages, holds = Pages(count, SIZE), []
    for act, which, ids in acts:
        if act == "begin":
            hold = begun(pages, ids)
            holds += [hold] if hold else []
        elif holds:
            hold = holds[which % len(holds)]
            if act == "grow" and pages.room(hold, len(hold.ids) + len(ids)):
                hold.ids += ids
            elif act == "read":
                pages.read(hold, min(which, len(hold.ids) - hold.length))
            elif act in ("end", "forget"):
                holds.remove(hold)
                (pages.end if act == "end" else pages.forget)(hold)
        assert all(len(hold.pages) * SIZE >= len(hold.ids) for hold in holds)
        whole(pages)
    for hold in holds:
        pages.end(hold)
    whole(pages)
    assert pages.available() == count and pages.room(pages.begin([0], 0), count * SIZE), (
        "all can be had again"
    )


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.tuples(IDS, st.booleans(), st.integers(0, 14)), max_size=20))
def test_where_there_is_room_the_longest_beginning_ever_read_is_found(texts):
    pages, known = Pages(400, SIZE), []
    for ids, ends, count in texts:
        hold = begun(pages, ids)
        assert hold.length == max((common(ids[:-1], other) for other in known), default=0)
        pages.read(hold, min(count, len(ids) - hold.length))
        known.append(ids[: hold.length if ends else hold.length // SIZE * SIZE])
        if ends:
            pages.end(hold)


def test_a_partly_filled_page_is_copied_and_stays_where_it_is():
    pages = Pages(10, SIZE)
    first = read(pages, [1, 2, 3, 4, 5])
    hold = begun(pages, [1, 2, 3, 4, 5, 6, 7])
    assert hold.length == 5 and hold.nodes == first.nodes
    assert hold.copy == (1, 2), "the leaf's number, and the lowest free one"
    assert begun(pages, [1, 2, 3, 4, 9, 9]).copy[0] == 1


def test_a_page_to_be_copied_may_itself_be_handed_over_when_nothing_else_is_left():
    pages = Pages(2, SIZE)
    read(pages, [1, 2, 3, 4, 5])
    hold = begun(pages, [1, 2, 3, 4, 5, 6])
    assert hold.length == 5 and hold.copy is None and hold.pages == [0, 1]
    whole(pages)


def test_the_leaf_used_longest_ago_makes_room_first():
    pages = Pages(4, SIZE)
    for ids in ([2] * 3, [1] * 3, [3] * 3):
        read(pages, ids)
    pages.end(begun(pages, [2] * 4))  # used again
    other = begun(pages, [8] * 6)
    assert other.pages == [1, 3], "the ones made room"
    pages.end(other)
    assert begun(pages, [2] * 4).length == 3 and begun(pages, [3] * 4).length == 3


def test_a_page_that_is_held_stays_to_be_found_when_others_make_room():
    pages = Pages(4, SIZE)
    read(pages, [1] * 3)
    holder = begun(pages, [1] * 4)
    read(pages, [2] * 3)
    pages.end(begun(pages, [8] * 6))  # the twos made room, though used later
    assert begun(pages, [1] * 4).nodes == holder.nodes
    whole(pages)


def test_a_leaf_gives_way_to_one_that_begins_with_all_of_it():
    pages = Pages(9, SIZE)
    for ids in ([1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4], [1, 2]):
        read(pages, ids)
    assert len(pages.account().kept) == 2
    whole(pages)


def test_pages_are_handed_out_side_by_side():
    pages = Pages(20, SIZE)
    first, second = begun(pages, list(range(12))), begun(pages, list(range(100, 109)))
    assert first.pages == [0, 1, 2, 3] and second.pages == [4, 5, 6]
    pages.forget(first)
    assert begun(pages, list(range(50, 62))).pages == [0, 1, 2, 3]


def test_two_that_read_the_same_at_once_end_with_the_same_pages():
    pages = Pages(8, SIZE)
    one, other = begun(pages, [1] * 7), begun(pages, [1] * 7)
    pages.read(one, 6)
    pages.read(other, 6)
    assert one.nodes == other.nodes and one.own != other.own
    assert len(pages.account().held) == 4
    whole(pages)


def test_what_went_wrong_is_found_by_nobody_nor_what_follows_on_it():
    pages = Pages(20, SIZE)
    wrong = begun(pages, [1] * 7)
    pages.read(wrong, 7)
    user = begun(pages, [1] * 9)
    assert user.length == 6
    pages.forget(wrong)
    assert begun(pages, [1] * 7).length == 0, "whoever comes now reads anew"
    pages.read(user, 3)
    pages.end(user)
    whole(pages)
    assert begun(pages, [1] * 9).length == 0, "what was built on it is not found either"


def test_the_page_that_wrong_numbers_were_copied_from_is_found_no_more():
    pages = Pages(20, SIZE)
    read(pages, [7, 8])
    copier = begun(pages, [7, 8, 9])
    assert copier.length == 2
    pages.forget(copier)
    assert begun(pages, [7, 8, 9]).length == 0
    whole(pages)
