"""Measuring a vocabulary, and reading the texts for it: the sums are right, bad files are named."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import llama3, smollm2, texts

from puna.errors import DataError
from puna.log import listening
from puna.tokenizer import texts as reading
from puna.tokenizer.measure import ALL, measure
from puna.tokenizer.merges import from_ranks
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import GPT2
from puna.tokenizer.texts import texts as read
from puna.tokenizer.tokenizer import Tokenizer

WORDS = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the"]


def small():
    return Tokenizer(from_ranks(WORDS), GPT2, Specials.gathered({}))


def test_the_sums_are_those_counted_by_hand():
    found = measure(small(), [("en", "the the"), ("fr", "é"), ("en", "")])
    assert list(found) == ["en", "fr", ALL]
    assert found["en"].rates() == {
        "texts": 2,
        "bytes": 7,
        "tokens": 2,
        "bytes_per_token": 3.5,
        "tokens_per_word": 1.0,
        "single_byte_share": 0.0,
        "round_trip_failures": 0,
    }
    fr = found["fr"].rates()
    assert (fr["bytes"], fr["tokens"], fr["single_byte_share"], fr["tokens_per_word"]) == (2, 2, 1.0, 2.0)
    assert found[ALL].tokens == 4 and found[ALL].texts == 3


def test_a_text_that_does_not_come_back_is_counted():
    assert measure(small(), [("x", "a\ud800"), ("x", "ab")])["x"].lost == 1


def test_nothing_has_no_rates():
    rates = measure(small(), [])[ALL].rates()
    assert rates["bytes_per_token"] is rates["tokens_per_word"] is None


@pytest.mark.parametrize("make", [llama3, smollm2])
def test_real_vocabularies_lose_nothing_but_what_they_lack(make):
    sample = [
        text for text in texts(300, seed=40) if make() is not smollm2() or not set(text) & set("\x04\x06\0")
    ]
    found = measure(make(), [("fuzz", text) for text in sample])[ALL]
    returned = [text for text in sample if make().decode(make().encode(text)) == text]
    assert found.lost == len(sample) - len(returned) and found.tokens == sum(
        len(make().encode(t)) for t in sample
    )
    assert make() is smollm2() or found.lost == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=st.text(max_size=300), piece=st.integers(8, 60), packed=st.booleans())
def test_a_plain_text_comes_whole_in_whatever_pieces(text, piece, packed, tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE", piece)
        pieces = [part for _, part in read([path])]
    assert "".join(pieces) == text
    assert all(len(part.encode()) <= 2 * piece + 4 for part in pieces)


def test_json_lines_are_a_text_each_and_progress_is_told(tmp_path):
    rows = [{"text": "one\ntwo"}, {"text": "", "more": 1}, {"text": "é"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "c").write_text("plain")
    paths, told = [tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c")], []
    with listening(told.append):
        found = list(read(paths))
    assert [text for _, text in found] == ["one\ntwo", "", "é"] * 2 + ["plain"]
    assert [path for path, _ in found] == [str(path) for path in np.repeat(paths, [3, 3, 1])]
    size = sum(path.stat().st_size for path in paths)
    assert all(record["event"] == "read" and record["of"] == size for record in told)
    assert told[-1]["done"] == size and [r["done"] for r in told] == sorted(r["done"] for r in told)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"ab\xffcd", "not UTF-8 text .* byte 2"),
        ("a.txt", b"abc\xc3", "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text"', "line 2 is not JSON"),
        ("a.jsonl", b'{"txt": "a"}', "line 1 has no `text`"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", b"3", "has no `text`"),
        ("a.txt.gz", b"no gzip", "not whole gzip"),
        ("a.txt.gz", gzip.compress(b"abc" * 1000, mtime=0)[:-9], "not whole gzip"),
    ],
)
def test_a_bad_file_is_named_with_its_place(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{said}|{name}: {said}"):
        list(read([tmp_path / name]))


def test_lines_too_long_and_files_that_are_not_there_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LINE", 50)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * 60}))
    with pytest.raises(DataError, match="line 1 is over"):
        list(read([tmp_path / "a.jsonl"]))
    with pytest.raises(DataError, match="no such file"):
        list(read([tmp_path / "b"]))
    with pytest.raises(DataError, match="no files"):
        list(read([]))
