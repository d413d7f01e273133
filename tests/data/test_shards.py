"""Token shards: what is written is what is read, anywhere, and a damaged file is refused, never read."""

import resource
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.shard_set import MOST_OPEN, ShardSet
from puna.data.shards import HEADER, Header, Shard, ShardWriter, shard_name
from puna.errors import DataError

SOURCES = ("web", "código", "")


def documents(count, seed, vocabulary=50_000, longest=40):
    """[(id, source number, tokens)]"""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, longest + 1, count)
    return [(draw.bytes(16), int(draw.integers(3)), draw.integers(0, vocabulary, n)) for n in lengths]


def write(path, rows, vocabulary=50_000, batch=7):
    with ShardWriter(path, vocabulary, SOURCES) as shard:
        for at in range(0, len(rows), batch):
            ids, sources, tokens = zip(*rows[at : at + batch], strict=True)
            shard.extend(
                np.concatenate(tokens),
                np.array([len(each) for each in tokens]),
                np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16),
                np.array(sources),
            )
    return path


def write_set(folder, rows, cuts):
    folder.mkdir(exist_ok=True)
    for number, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        write(folder / shard_name(number), rows[a:b])
    return ShardSet(folder)


@pytest.mark.parametrize(
    ("vocabulary", "kind"), [(65_536, np.uint16), (65_537, np.uint32), (2**32, np.uint32)]
)
def test_every_document_comes_back(vocabulary, kind, tmp_path):
    rows = documents(50, 1, vocabulary)
    shard = Shard(write(tmp_path / "a.tokens", rows, vocabulary))
    assert shard.count == 50 and shard.tokens().dtype == kind
    for number, (id, source, tokens) in enumerate(rows):
        found = shard.document(number)
        assert (found.id, found.source) == (id, SOURCES[source]) and (found.tokens == tokens).all()
    assert shard.lengths.tolist() == [len(tokens) for _, _, tokens in rows]
    shard.verify()


def test_the_file_is_a_function_of_its_documents(tmp_path):
    rows = documents(30, 2)
    one, other = write(tmp_path / "a", rows, batch=1), write(tmp_path / "b", rows, batch=30)
    assert one.read_bytes() == other.read_bytes()


def test_counts_by_source_add_up(tmp_path):
    rows = documents(200, 3)
    counts = Shard(write(tmp_path / "a", rows)).counts()
    for number, name in enumerate(SOURCES):
        lengths = [len(tokens) for _, source, tokens in rows if source == number]
        assert counts[name] == (len(lengths), sum(lengths))


def test_an_empty_shard_is_a_shard(tmp_path):
    shard = Shard(write(tmp_path / "a", []))
    shard.verify()
    assert (shard.size, shard.count, len(shard.lengths)) == (0, 0, 0)


def test_a_block_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(DataError, match="id 50,000 in a vocabulary of 50,000"):
        write(tmp_path / "a", [(bytes(16), 0, np.array([1, 50_000]))])
    with pytest.raises(DataError, match="document without tokens"):
        write(tmp_path / "a", [(bytes(16), 0, np.array([1])), (bytes(16), 0, np.zeros(0, int))])
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "a", 10, ()):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = documents(200, 13)
    for most in (1000, 12_000):  # among the ids, in the index
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                write(tmp_path / "a", rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []


def test_a_source_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(DataError, match="zero byte in its name"):
        ShardWriter(tmp_path / "a", 10, ("web\0",))


def test_a_new_file_takes_the_place_of_the_old_one_whole(tmp_path):
    path = write(tmp_path / "a", documents(5, 4))
    old, before = Shard(path), path.read_bytes()
    write(path, documents(9, 5))
    assert Shard(path).count == 9 and old.document(4).tokens.tolist() and path.read_bytes() != before


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_file_is_refused(data, tmp_path_factory):
    """Any byte changed, any bytes cut off or added: opening or verifying it says so."""
    path = tmp_path_factory.mktemp("shard") / "a.tokens"
    good = write(path, documents(9, 6)).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.sampled_from(
            [
                good[:at],
                good + b"\0" * (at % 50 + 1),
                good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :],
            ]
        )
    )
    path.write_bytes(bad)
    with pytest.raises(DataError, match=r"a\.tokens: "):
        Shard(path).verify()


@pytest.mark.parametrize(
    ("field", "at", "value"),
    [
        ("version", 8, 2),
        ("id bytes", 12, 3),
        ("vocabulary", 16, 2**40),
        ("tokens", 24, 2**63),
        ("documents", 32, 2**64 - 1),
        ("sources", 40, 5),
        ("names", 48, 2**63),
    ],
)
def test_a_header_that_lies_is_refused_before_it_costs_anything(field, at, value, tmp_path):
    path = write(tmp_path / "a", documents(9, 7))
    data = bytearray(path.read_bytes())
    width = "<I" if at < 16 else "<Q"
    struct.pack_into(width, data, at, value)
    path.write_bytes(data)
    with pytest.raises(DataError, match="a: "):
        Shard(path)


def forged(path, change):
    """A file whose index says something else, under a checksum that is right."""
    header, data = Header.read(path), bytearray(path.read_bytes())
    change(data, header.index(), header.index() + 8 * (header.documents + 1))
    data[:HEADER] = header.packed(bytes(data[header.ids_end() :]))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data, starts, ids: struct.pack_into("<Q", data, starts + 8, 2**63), "overlap"),
        (lambda data, starts, ids: struct.pack_into("<Q", data, starts + 8, 0), "overlap"),
        (lambda data, starts, ids: struct.pack_into("<Q", data, starts, 1), "overlap"),
        (lambda data, starts, ids: struct.pack_into("<Q", data, ids - 8, 10**6), "overlap"),
        (lambda data, starts, ids: struct.pack_into("<I", data, ids + 16 * 9, 3), "without a name"),
        (lambda data, starts, ids: data.__setitem__(-1, 65), "names it counts"),
        (lambda data, starts, ids: data.__setitem__(-3, 0xFF), "not UTF-8"),
    ],
)
def test_an_index_that_lies_is_refused_though_its_checksum_is_right(change, said, tmp_path):
    path = forged(write(tmp_path / "a", documents(9, 8)), change)
    with pytest.raises(DataError, match=said):
        Shard(path)


@pytest.mark.parametrize("content", [b"", b"PUNATOKS", b"x" * 500])
def test_what_is_no_shard_is_refused(content, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a token shard"):
        Shard(path)
    with pytest.raises(DataError, match="cannot be read"):
        Shard(tmp_path / "b")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 40), max_size=6), data=st.data())
def test_a_folder_reads_as_one_row_however_it_is_cut(cuts, data, tmp_path_factory):
    rows = documents(40, 9)
    found = write_set(tmp_path_factory.mktemp("set"), rows, sorted(cuts))
    flat = np.concatenate([tokens for _, _, tokens in rows])
    numbers = np.concatenate([np.full(len(tokens), n) for n, (_, _, tokens) in enumerate(rows)])
    places = np.concatenate([np.arange(len(tokens)) for _, _, tokens in rows])
    assert (found.size, found.count, len(found)) == (len(flat), 40, len(cuts) + 1)
    start, stop = sorted((data.draw(st.integers(0, len(flat))), data.draw(st.integers(0, len(flat)))))
    window = found.window(start, stop)
    assert (window.tokens == flat[start:stop]).all() and (found.tokens(start, stop) == window.tokens).all()
    assert (window.documents == numbers[start:stop]).all() and (window.positions == places[start:stop]).all()
    number = data.draw(st.integers(0, 39))
    assert found.document(number).id == rows[number][0]
    assert sum(tokens for _, tokens in found.counts().values()) == len(flat)
    found.verify()


def test_more_shards_than_may_be_open_at_a_time(tmp_path):
    rows = documents(MOST_OPEN + 10, 10)
    found = write_set(tmp_path, rows, range(1, len(rows)))
    for _ in range(2):
        assert (found.tokens(0, found.size) == np.concatenate([tokens for _, _, tokens in rows])).all()


def test_a_folder_with_a_hole_or_two_vocabularies_is_refused(tmp_path):
    rows = documents(9, 11)
    write_set(tmp_path, rows, [3, 6])
    write(tmp_path / shard_name(1), rows, 50_001)
    with pytest.raises(DataError, match="another vocabulary"):
        ShardSet(tmp_path)
    (tmp_path / shard_name(1)).unlink()
    with pytest.raises(DataError, match=r"000001\.tokens is missing among 2 shards"):
        ShardSet(tmp_path)
    with pytest.raises(DataError, match="no token shards here"):
        ShardSet(tmp_path / "nowhere")


def test_outside_of_a_folder_there_are_no_tokens(tmp_path):
    found = write_set(tmp_path, documents(9, 12), [3])
    for start, stop in ((-1, 3), (0, found.size + 1), (5, 4)):
        with pytest.raises(DataError, match="tokens"):
            found.window(start, stop)
    for number in (-1, 9):
        with pytest.raises(DataError, match="no document"):
            found.document(number)
