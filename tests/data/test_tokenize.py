"""Documents to shards: the ids are the tokenizer's, and the order is one, however the work was cut."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from puna.data.document import documents, make_id
from puna.data.mix import COPIES
from puna.data.shard_set import ShardSet
from puna.data.tokenize import ROWS, CountTokens, TokenShards, loaded
from puna.errors import DataError
from puna.tokenizer.formats import to_hf
from puna.tokenizer.merges import from_ranks
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import GPT2, LLAMA3
from puna.tokenizer.tokenizer import Tokenizer

WORDS = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b"\xc3\xa9", b"  "]
TEXTS = ["the cat", "", "été the", "a <|end|> b", "  \n  x", "日本語", "the the the"]


@pytest.fixture
def vocabulary(tmp_path):
    specials = Specials.gathered({"<|begin|>": 261, "<|end|>": 262, "<|other|>": 263}, bos=261, eos=262)
    to_hf(Tokenizer(from_ranks(WORDS), LLAMA3, specials), tmp_path / "vocabulary")
    return tmp_path / "vocabulary"


def corpus(count=60, copies=False):
    draw = np.random.default_rng(3)
    rows = [
        {
            "id": make_id("x", str(n)),
            "source": ("web", "books", "code")[n % 3],
            "url": "",
            "date": "",
            "text": " ".join(draw.choice(TEXTS, n % 4)),
        }
        for n in range(count)
    ]
    table = documents(rows)
    return table.append_column(COPIES, pa.array(draw.integers(0, 4, count), pa.uint32())) if copies else table


def run(stage, table, folder, shards=1, bits=0, seed=0):
    """A whole finish in memory: documents in so many shards, keys in 2^bits partitions, tasks in any order."""
    [finish], draw = stage.finishes(), np.random.default_rng(seed)
    bounds = np.linspace(0, len(table), shards + 1).astype(int)
    pieces = [finish.emit(table[a:b], n, None) for n, (a, b) in enumerate(pairwise(bounds))]
    rows = pa.concat_tables([pieces[n] for n in draw.permutation(shards)])
    rows = rows.take(draw.permutation(len(rows)))
    folder.mkdir()
    partition = rows["key"].to_numpy() >> np.uint64(1) >> np.uint64(63 - bits)
    for number in draw.permutation(2**bits):
        part = rows.filter(pa.array(partition == number))
        assert finish.write(part, int(number), folder) == [f"{number:06}.tokens"]
    return ShardSet(folder)


def content(found):
    return [(d.id, d.source, d.tokens.tolist()) for d in map(found.document, range(found.count))]


def test_the_ids_are_the_tokenizers_own_in_their_frame(vocabulary, tmp_path):
    found = run(TokenShards(tokenizer=vocabulary), table := corpus(), tmp_path / "out")
    texts = {row["id"]: (row["source"], row["text"]) for row in table.to_pylist()}
    tokenizer = loaded(vocabulary)
    assert found.count == sum(1 for _, text in texts.values() if text)  # nothing of empty texts
    for id, source, tokens in content(found):
        assert (source, [261, *tokenizer.encode(texts[id][1]), 262]) == (texts[id][0], tokens)
    found.made_by(tokenizer)
    found.verify()


@pytest.mark.parametrize(
    ("frame", "before", "after"),
    [
        ({"bos": False, "eos": False}, [], []),
        ({"bos": "<|other|>", "eos": True}, [263], [262]),
        ({"eos": "<|begin|>"}, [261], [261]),
    ],
)
def test_the_frame_is_what_the_settings_say(frame, before, after, vocabulary):
    stage, table = CountTokens(tokenizer=vocabulary, **frame), corpus()
    for ids, text in zip(stage.ids(table).to_pylist(), table["text"].to_pylist(), strict=True):
        assert ids == (before + loaded(vocabulary).encode(text) + after if text else [])


def test_a_text_never_becomes_special(vocabulary):
    table = documents([{"id": bytes(16), "source": "", "url": "", "date": "", "text": "<|begin|><|end|>"}])
    ids = CountTokens(tokenizer=vocabulary, bos=False, eos=False).ids(table).to_pylist()[0]
    assert max(ids) < 261


def test_a_frame_that_the_vocabulary_lacks_is_refused(vocabulary, tmp_path):
    with pytest.raises(DataError, match=r"no special token '<\|nothing\|>'"):
        CountTokens(tokenizer=vocabulary, bos="<|nothing|>")(corpus())
    to_hf(Tokenizer(from_ranks(WORDS), LLAMA3, Specials.gathered({})), tmp_path / "plain")
    with pytest.raises(DataError, match=r"no eos\n.*eos = false"):
        CountTokens(tokenizer=tmp_path / "plain", bos=False)(corpus())


@pytest.mark.parametrize(("shards", "bits"), [(1, 1), (3, 0), (7, 2), (60, 4), (2, 5)])
def test_the_order_is_one_however_the_work_is_cut(shards, bits, vocabulary, tmp_path):
    stage, table = TokenShards(tokenizer=vocabulary), corpus(copies=True)
    whole = content(run(stage, table, tmp_path / "whole"))
    found = run(
        stage, table.take(np.random.default_rng(bits).permutation(60)), tmp_path / "cut", shards, bits, 5
    )
    assert content(found) == whole and len(found) == 2**bits


def test_each_document_is_there_as_often_as_the_mix_takes_it(vocabulary, tmp_path):
    table = corpus(copies=True)
    found = content(run(TokenShards(tokenizer=vocabulary), table, tmp_path / "out", 4, 2))
    for row in table.to_pylist():
        times = row[COPIES] if row["text"] else 0
        assert sum(id == row["id"] for id, _, _ in found) == times


def test_another_seed_is_another_order_of_the_same_documents(vocabulary, tmp_path):
    one, other = (
        content(run(TokenShards(tokenizer=vocabulary, seed=seed), corpus(), tmp_path / str(seed)))
        for seed in (1, 2)
    )
    assert one != other and sorted(one) == sorted(other)


def test_copies_of_a_document_are_apart_and_the_order_has_no_trace_of_the_input(vocabulary):
    table = corpus(4000).append_column(COPIES, pa.array([2] * 4000, pa.uint32()))
    stage = TokenShards(tokenizer=vocabulary)
    places = np.argsort(np.argsort(stage.emit(table, 0)["key"].to_numpy()))
    assert abs(np.corrcoef(places[::2], places[1::2])[0, 1]) < 0.05
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.05


def test_rows_of_one_key_are_in_order_of_document_and_copy(vocabulary, tmp_path):
    rows = [
        {"key": 5, "id": bytes([n]) * 16, "copy": copy, "source": "s", "tokens": [n, copy]}
        for n in (200, 3, 100)
        for copy in (1, 0)
    ]
    TokenShards(tokenizer=vocabulary).write(pa.Table.from_pylist(rows, ROWS), 0, tmp_path)
    tokens = [tokens for _, _, tokens in content(ShardSet(tmp_path))]
    assert tokens == [[3, 0], [3, 1], [100, 0], [100, 1], [200, 0], [200, 1]]


def test_a_partition_without_rows_is_an_empty_shard(vocabulary, tmp_path):
    TokenShards(tokenizer=vocabulary).write(ROWS.empty_table(), 0, tmp_path)
    assert (ShardSet(tmp_path).size, ShardSet(tmp_path).count) == (0, 0)


def test_documents_without_text_and_tables_without_documents_give_no_rows(vocabulary):
    stage, empty = (
        TokenShards(tokenizer=vocabulary),
        corpus().filter(pa.array([n % 4 == 0 for n in range(60)])),
    )
    for table in (empty, empty[:0], corpus().schema.empty_table()):
        assert stage.emit(table, 0).equals(ROWS.empty_table())
        assert CountTokens(tokenizer=vocabulary)(table)["tokens"].to_pylist() == [0] * len(table)
    never = empty.append_column(COPIES, pa.array([0] * len(empty), pa.uint32()))
    assert len(stage.emit(never, 0)) == 0


def test_counting_gives_the_lengths_of_what_is_written(vocabulary, tmp_path):
    counted = CountTokens(tokenizer=vocabulary)(corpus())
    lengths = {row["id"]: row["tokens"] for row in counted.to_pylist()}
    for id, _, tokens in content(run(TokenShards(tokenizer=vocabulary), corpus(), tmp_path / "out")):
        assert len(tokens) == lengths[id]


def test_the_fingerprint_is_of_the_vocabulary_not_of_its_place(vocabulary, tmp_path):
    vocabulary.rename(tmp_path / "moved")
    tokenizer = loaded(tmp_path / "moved")
    to_hf(tokenizer, vocabulary)
    first = TokenShards(tokenizer=vocabulary)
    assert first.fingerprint() == TokenShards(tokenizer=tmp_path / "moved").fingerprint()
    assert first.fingerprint() != TokenShards(tokenizer=vocabulary, seed=1).fingerprint()
    swapped = [*WORDS[:-2], *WORDS[:-3:-1]]
    for words, split in (([*WORDS[:-1], b"the t"], LLAMA3), (swapped, LLAMA3), (WORDS, GPT2)):
        assert Tokenizer(from_ranks(words), split, tokenizer.roles).fingerprint() != tokenizer.fingerprint()


def test_ids_of_another_vocabulary_are_not_taken_for_ours(vocabulary, tmp_path):
    found = run(TokenShards(tokenizer=vocabulary), corpus(), tmp_path / "out")
    other = Tokenizer(from_ranks(WORDS), GPT2, loaded(vocabulary).roles)
    with pytest.raises(DataError, match="not those of"):
        found.made_by(other)
