"""Text to ids and back: equal to the official tokenizers, no forged special tokens, whole characters only."""

import random

import pytest
from vocabularies import (
    SPLITS,
    llama3,
    official_llama3,
    smollm2,
    smollm2_oracle,
    texts,
    train,
)

from puna.errors import TokenizerError
from puna.tokenizer import merges, splits
from puna.tokenizer.formats import load
from puna.tokenizer.specials import Specials
from puna.tokenizer.tokenizer import Tokenizer

VECTORS = {
    "Hello, world!": [9906, 11, 1917, 0],
    "\n\n": [271],
    "system": [9125],
    "user": [882],
    "assistant": [78191],
    "ipython": [23799, 4690],
    "tool": [14506],
    "safe": [19193],
    "unsafe": [39257],
    "12345678": [4513, 10961, 2495],
    "1000000": [1041, 931, 15],
    "I've GOT it's": [40, 3077, 81009, 433, 596],
    "   \n  foo  ": [5996, 220, 15586, 256],
    "café naïve": [936, 59958, 95980, 588],
    "你好,世界": [57668, 53901, 11, 102616],
    "हिन्दी": [95048, 100556, 101102, 44747],
    "ภาษาไทย": [109086, 21437, 102938],
    "hợp nhiều nghĩ": [71, 85400, 79, 100937, 103256],
    "A": [32],
    "B": [33],
    " A": [362],
    " B": [426],
    "<|eot_id|>": [27, 91, 68, 354, 851, 91, 29],
}
CHAT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\nYou are a helpful assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Hello!<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHAT_IDS = """128000 128006 9125 128007 271 38766 1303 33025 2696 25 6790 220 2366 18 198 15724 2696 25 220 1627 10263
220 2366 19 271 2675 527 264 11190 18328 128009 128006 882 128007 271 9906 0 128009 128006 78191 128007 271"""


@pytest.mark.parametrize("text", VECTORS)
def test_llama_3_gives_the_ids_it_is_known_for(text):
    assert llama3().encode(text) == VECTORS[text]


def test_a_whole_llama_3_chat_has_the_ids_it_is_known_for():
    assert llama3().encode(CHAT, special=True) == list(map(int, CHAT_IDS.split()))


def test_llama_3_equals_metas_class_on_fuzzed_texts():
    tokenizer, official = llama3(), official_llama3()
    for text in texts(10_000, seed=1, surrogates=True):
        assert tokenizer.encode(text) == official.encode(text, bos=False, eos=False), ascii(text)


def test_llama_3_equals_metas_class_with_special_tokens_allowed():
    tokenizer, official = llama3(), official_llama3()
    for text in texts(2000, seed=2, surrogates=True, extra=tuple(list(tokenizer.specials)[:14])):
        assert tokenizer.encode(text, special=True) == official.encode(
            text, bos=False, eos=False, allowed_special="all"
        ), ascii(text)


def long_texts():
    draw = random.Random(3)
    yield "a" * 1_000_000
    yield "".join(draw.choice("etaoinshrdlu") for _ in range(1_000_000))
    yield "x" + " " * 1_000_000 + "1 y"
    yield " \n\t" * 100_000 + "b" * 24_999 + " " + "c" * 25_001
    yield "\u3000" * 200_000 + "z" + " " * 150_000 + "é"
    yield "a b " * 99_999 + "c" * 60_000 + " \x1c" * 30_000


@pytest.mark.parametrize("text", list(long_texts()), ids=range(6))
def test_a_megabyte_without_a_break_is_encoded_as_the_official_libraries_do(text):
    assert llama3().encode(text) == official_llama3().encode(text, bos=False, eos=False)
    assert smollm2().encode(text) == smollm2_oracle().encode(text).ids


def test_a_megabyte_of_broken_surrogates_is_encoded_as_metas_class_does():
    text = "\ud83d\ude00\ud800" * 340_000
    assert llama3().encode(text) == official_llama3().encode(text, bos=False, eos=False)


def test_smollm2_equals_the_tokenizers_library_on_fuzzed_texts():
    tokenizer, oracle = smollm2(), smollm2_oracle()
    for text in texts(10_000, seed=4):
        assert tokenizer.encode(text) == oracle.encode(text).ids, ascii(text)


def test_characters_without_bytes_in_smollm2_vanish_as_in_the_tokenizers_library():
    tokenizer, oracle = smollm2(), smollm2_oracle()
    draw = random.Random(5)
    alphabet = [
        "\x04",
        "\x06",
        "\x1d",
        "\U00040001",
        "!",
        "'",
        "s",
        "a",
        "1",
        " ",
        "\n",
        "\n\n",
        "\x1c",
        "é",
        "_",
        "’",
    ]
    for _ in range(5000):
        text = "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 12)))
        assert tokenizer.encode(text) == oracle.encode(text).ids, ascii(text)


@pytest.mark.parametrize("name", SPLITS)
def test_a_trained_vocabulary_of_each_kind_equals_the_tokenizers_library(name, tmp_path):
    oracle = train(name, tmp_path)
    tokenizer = load(tmp_path)
    assert tokenizer.split is SPLITS[name]
    for text in texts(10_000 if name == "gpt-2" else 3000, seed=6):
        if "<|" not in text:  # the library takes special tokens out of any text
            ids = tokenizer.encode(text)
            assert ids == oracle.encode(text).ids, ascii(text)
            assert tokenizer.decode(ids) == text


def test_ranks_mean_the_same_as_any_list_of_merges_also_one_that_no_training_would_write():
    tokenizers = pytest.importorskip("tokenizers")
    draw = random.Random(8)
    unreachable = 0
    for _ in range(400):
        vocabulary, listed = random_merges(draw)
        pieces = merges.from_merges(vocabulary, lambda listed=listed: [f"{a} {b}" for a, b in listed], False)
        unreachable += len(pieces.ranks) < len(vocabulary)
        tokenizer = Tokenizer(pieces, splits.GPT2, Specials(ids={}))
        oracle = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=listed))
        for _ in range(30):
            text = "".join(draw.choice("abc") for _ in range(draw.randint(1, 25)))
            assert tokenizer.encode(text) == oracle.encode(text).ids, (listed, text)
    assert unreachable > 20  # the hard case was met


def random_merges(draw):
    vocabulary, known, listed = {char: id for id, char in enumerate(merges.ALPHABET)}, list("abc"), []
    for _ in range(draw.randint(1, 14)):
        left, right = draw.choice(known), draw.choice(known)
        if len(left + right) <= 8 and left + right not in vocabulary:
            vocabulary[left + right] = 0
            known.append(left + right)
            listed.append((left, right))
    ids = list(range(256, 256 + len(listed)))
    if draw.random() < 0.5:
        draw.shuffle(ids)
    vocabulary.update((left + right, id) for (left, right), id in zip(listed, ids, strict=True))
    return vocabulary, listed


@pytest.mark.parametrize("make", [llama3, smollm2])
def test_no_text_of_a_user_ever_becomes_a_special_token(make):
    tokenizer = make()
    special = set(tokenizer.specials.values())
    names = list(tokenizer.specials)[:20]
    halves = [name[: len(name) // 2] for name in names] + [name[len(name) // 2 :] for name in names]
    for text in texts(3000, seed=9, surrogates=True, extra=(*names, *halves, "<|", "|>")):
        assert special.isdisjoint(tokenizer.encode(text)), ascii(text)
    for name in tokenizer.specials:
        assert special.isdisjoint(tokenizer.encode(name))
        assert tokenizer.encode(name, special=True) == [tokenizer.specials[name]]


def test_of_two_special_tokens_the_longer_one_is_taken():
    tokenizer = Tokenizer(byte_pieces(), splits.GPT2, Specials(ids={"<a>": 256, "<a>b": 257}))
    assert tokenizer.encode("<a>b<a>c", special=True) == [257, 256, tokenizer.encode("c")[0]]


@pytest.mark.parametrize("make", [llama3, smollm2])
@pytest.mark.parametrize("special", [True, False])
def test_a_stream_gives_the_same_text_as_decoding_at_once(make, special):
    tokenizer = make()
    draw = random.Random(10)
    cases = [[draw.randrange(tokenizer.size) for _ in range(draw.randint(0, 12))] for _ in range(2000)]
    cases += [
        tokenizer.encode(text, special=True)
        for text in texts(1000, seed=11, extra=tuple(tokenizer.specials)[:9])
    ]
    for ids in cases:
        stream = tokenizer.stream(special)
        pushed = [stream.push(id) for id in ids]
        assert "".join(pushed) + stream.finish() == tokenizer.decode(ids, special)


def test_a_stream_waits_for_the_whole_character():
    tokenizer = llama3()
    ids = tokenizer.encode("👩‍👧")
    stream = tokenizer.stream()
    pushed = [stream.push(id) for id in ids]
    assert "".join(pushed) == "👩‍👧" and "" in pushed and "\ufffd" not in "".join(pushed)
    unfinished = tokenizer.stream()
    assert unfinished.push(ids[0]) == "" and unfinished.finish() == "\ufffd"


@pytest.mark.parametrize("make", [llama3, smollm2])
def test_decoding_what_was_encoded_gives_the_text_back(make):
    tokenizer = make()
    for text in texts(3000, seed=12):
        kept = text.encode().translate(None, bytes(tokenizer.pieces.lost))
        assert tokenizer.decode(tokenizer.encode(text)) == kept.decode("utf-8", "replace")


def test_lone_surrogates_become_the_replacement_character():
    assert llama3().decode(llama3().encode("a\ud800b \ud83d\ude00")) == "a\ufffdb 😀"


def test_special_tokens_can_be_left_out_of_the_text_but_not_those_that_a_reader_should_see():
    ids = {"<|end|>": 256, "<think>": 257}
    tokenizer = Tokenizer(byte_pieces(), splits.GPT2, Specials(ids=ids, shown=frozenset({257})))
    both = tokenizer.encode("<think>a<|end|>", special=True)
    assert (tokenizer.decode(both), tokenizer.decode(both, special=False)) == ("<think>a<|end|>", "<think>a")
    assert tokenizer.bytes_of(256) == b"<|end|>"


@pytest.mark.parametrize("id", [-1, 128_256, 2**40])
def test_an_id_outside_of_the_vocabulary_is_an_error_that_names_it(id):
    for call in (llama3().bytes_of, llama3().stream().push, lambda id: llama3().decode([1, id, 2])):
        with pytest.raises(TokenizerError, match=str(id)):
            call(id)


def test_llama_3_knows_its_parts():
    tokenizer = llama3()
    assert (tokenizer.size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (
        128_256,
        128_000,
        128_001,
        128_004,
    )
    assert tokenizer.stop_ids == {128_001, 128_008, 128_009} and tokenizer.adds_bos
    assert tokenizer.specials == official_llama3().special_tokens


def test_smollm2_knows_its_parts():
    tokenizer = smollm2()
    assert (tokenizer.size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (49_152, 1, 2, 2)
    assert tokenizer.stop_ids == {0, 2} and not tokenizer.adds_bos
    assert "add_generation_prompt" in tokenizer.chat_template


def byte_pieces():
    return merges.from_ranks([bytes((byte,)) for byte in range(256)])
