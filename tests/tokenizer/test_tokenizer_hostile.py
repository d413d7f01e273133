"""Files that lie: each is a TokenizerError with a sentence, whatever a vocabulary file holds."""

import binascii
import copy
import json
import random

import numpy as np
import pytest

from puna.errors import TokenizerError
from puna.tokenizer import merges, splits
from puna.tokenizer.formats import from_gguf, load, to_gguf, to_hf
from puna.tokenizer.specials import Specials
from puna.tokenizer.tokenizer import Tokenizer


def small(adds_bos: bool = True) -> Tokenizer:
    vocabulary = {char: id for id, char in enumerate(merges.ALPHABET)} | {"ab": 256, "abc": 257}
    pieces = merges.from_merges(vocabulary, lambda: ["a b", "ab c"], False)
    specials = Specials.gathered({"<|s|>": 258, "<|im_end|>": 259}, bos=258, eos=259, adds_bos=adds_bos)
    return Tokenizer(pieces, splits.GPT2, specials, "{{ messages }}")


def put(path: str, value):
    """Set one place of a tokenizer.json; a number in the path is an index."""

    def change(data):
        *way, last = (int(part) if part.isdecimal() else part for part in path.split("/"))
        for part in way:
            data = data[part]
        data[last] = value

    return change


SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
BAD_JSON = {
    "no model": put("model", None),
    "a model of another kind": put("model/type", "Unigram"),
    "a SentencePiece model": put("model/byte_fallback", True),
    "random merges": put("model/dropout", 0.5),
    "suffixes": put("model/end_of_word_suffix", "</w>"),
    "a vocabulary that is a list": put("model/vocab", ["a", "b"]),
    "no vocabulary": put("model/vocab", {}),
    "a negative id": put("model/vocab/ab", -1),
    "a huge id": put("model/vocab/ab", 2**40),
    "an id with a fraction": put("model/vocab/ab", 1.5),
    "an id that is text": put("model/vocab/ab", "256"),
    "an id that is true": put("model/vocab/ab", True),
    "an id used twice": put("model/vocab/ab", 65),
    "a token outside of the byte alphabet": put("model/vocab/\u2581the", 260),
    "a token that is half a surrogate": put("model/vocab/\ud800", 260),
    "no token for a letter": lambda data: data["model"]["vocab"].pop("z"),
    "no token for a control character where it may stand in a word": lambda data: (
        data["model"]["vocab"].pop(merges.ALPHABET[4]),
        data.update(pre_tokenizer=splits.LLAMA3.huggingface()),
    ),
    "an unknown token that is needed": lambda data: (
        data["model"]["vocab"].pop(merges.ALPHABET[4]),
        data["model"].update(unk_token="a"),
    ),
    "ignore_merges that is text": put("model/ignore_merges", "yes"),
    "merges that are a number": put("model/merges", 7),
    "a merge of three": put("model/merges/0", "a b c"),
    "a merge that is a number": put("model/merges/1", 7),
    "a merge of an unknown token": put("model/merges/0", ["a", "zz"]),
    "a merge into an unknown token": put("model/merges/0", ["a", "c"]),
    "a merge before its parts": lambda data: data["model"]["merges"].reverse(),
    "two merges for one token": put("model/merges", [["a", "b"], ["b", "c"], ["a", "b"]]),
    "a merge that makes a special token": lambda data: (
        data["model"]["vocab"].update({"<|s|>": 258, "<|": 260, "<|s": 261, "|>": 262}),
        data["model"]["merges"].extend([["<", "|"], ["<|", "s"], ["|", ">"], ["<|s", "|>"]]),
    ),
    "a regular expression that never ends": put("pre_tokenizer", SLOW),
    "an unknown pre-tokenizer": put("pre_tokenizer", {"type": "Whitespace"}),
    "no pre-tokenizer": put("pre_tokenizer", None),
    "a pre-tokenizer that adds a blank": put("pre_tokenizer/add_prefix_space", True),
    "a normalizer": put("normalizer", {"type": "Lowercase"}),
    "a post-processor of another kind": put("post_processor", {"type": "BertProcessing"}),
    "added tokens that are text": put("added_tokens", "x"),
    "an added token without text": put("added_tokens/0/content", ""),
    "an added token that is half a surrogate": put("added_tokens/0/content", "\udfff"),
    "an added token with the id of a letter": put("added_tokens/0/id", 65),
    "an added token with a huge id": put("added_tokens/0/id", 2**40),
    "an added token that strips blanks": put("added_tokens/0/rstrip", True),
    "added tokens with one text": put("added_tokens/1/content", "<|s|>"),
    "added tokens with one id": put("added_tokens/1/id", 258),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_a_tokenizer_json_with(name, tmp_path):
    to_hf(small(), tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    BAD_JSON[name](data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(TokenizerError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", "9" * 100_000),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"model": '),
        ("tokenizer.json", "\ufeff{}"),
        ("tokenizer_config.json", '{"eos_token": "<|missing|>"}'),
        ("tokenizer_config.json", '{"eos_token": [1]}'),
        ("tokenizer_config.json", '{"chat_template": 7}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "y"}}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"258": {"content": "<|other|>"}}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"999999999": {"content": "<|far|>"}}}'),
        ("generation_config.json", '{"eos_token_id": -1}'),
        ("generation_config.json", '{"eos_token_id": [999999]}'),
        ("generation_config.json", '{"eos_token_id": "2"}'),
    ],
)
def test_a_folder_with_a_broken_file(file, text, tmp_path):
    to_hf(small(), tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / file).write_text(text)
    with pytest.raises(TokenizerError):
        load(tmp_path)


@pytest.mark.parametrize("key", ["normalizer", "pre_tokenizer", "post_processor", "added_tokens", "model"])
def test_json_nested_to_any_depth_is_refused(key, tmp_path):
    to_hf(small(), tmp_path)
    good = json.loads((tmp_path / "tokenizer.json").read_text())
    for depth in (10, 500, 850, 900, 930, 960, 990, 5000):
        text = json.dumps(good | {key: "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(TokenizerError):
            load(tmp_path)


def lines(words):
    return b"".join(
        binascii.b2a_base64(word, newline=False) + b" %d\n" % rank for rank, word in enumerate(words)
    )


BYTES = [bytes((byte,)) for byte in range(256)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02",  # SentencePiece
        lines(BYTES[:-1]),
        lines([*BYTES, b"a"]),
        lines(BYTES).replace(b" 7\n", b" 8\n"),
        lines(BYTES).replace(b" 7\n", b" -7\n"),
        lines(BYTES).replace(b" 255\n", b" 99999999999999999999\n"),
        lines(BYTES).replace(b" 255\n", b"\n"),
        lines(BYTES).replace(b"YQ== ", b"Y*== "),
        lines(BYTES) + b"= 256\n",
        lines(BYTES) + b"YWI= two hundred\n",
    ],
)
def test_a_tokenizer_model_that_is_not_one(data, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(TokenizerError):
        load(tmp_path)


def test_a_place_without_a_tokenizer_says_what_was_looked_for(tmp_path):
    for place in (tmp_path, tmp_path / "nothing", tmp_path / "model.gguf"):
        with pytest.raises(TokenizerError, match=r"no tokenizer\.json and no tokenizer\.model"):
            load(place)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ggml.model", "llama"),
        ("ggml.model", None),
        ("ggml.pre", "default"),
        ("ggml.pre", ["gpt-2"]),
        ("ggml.tokens", None),
        ("ggml.tokens", np.zeros(260, np.int32)),
        ("ggml.tokens", ["a"] * 260),
        ("ggml.tokens", ["a"]),
        ("ggml.token_type", None),
        ("ggml.token_type", np.zeros(0, np.int32)),
        ("ggml.token_type", np.full(260, 9)),
        ("ggml.token_type", np.full(260, 1.0)),
        ("ggml.token_type", np.full(260, 3)),
        ("ggml.merges", "a b"),
        ("ggml.merges", ["a b", "a"]),
        ("ggml.merges", ["a b\nc d", "ab c"]),
        ("ggml.eos_token_id", 2**31),
        ("ggml.eos_token_id", "2"),
        ("ggml.bos_token_id", -1),
        ("ggml.add_bos_token", "yes"),
        ("chat_template", 7),
    ],
)
def test_gguf_keys_with_a_wrong_value(key, value):
    with pytest.raises(TokenizerError):
        from_gguf(to_gguf(small()) | {f"tokenizer.{key}": value})


JUNK = (
    None,
    True,
    -1,
    0,
    65,
    2**70,
    0.5,
    "",
    "a",
    "<|s|>",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    "ByteLevel",
    ["a", "b"],
)


def test_no_single_change_to_a_tokenizer_json_gets_past_an_error_of_ours(tmp_path):
    draw = random.Random(30)
    to_hf(small(), tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    good = json.loads((tmp_path / "tokenizer.json").read_text())
    refused = 0
    for _ in range(1500):
        data = copy.deepcopy(good)
        damage(data, draw)
        (tmp_path / "tokenizer.json").write_text(json.dumps(data))
        refused += not survives(lambda: load(tmp_path))
    assert refused > 300


def test_no_single_change_to_gguf_keys_gets_past_an_error_of_ours():
    draw = random.Random(31)
    good = to_gguf(small())
    for _ in range(1500):
        keys = copy.deepcopy(good)
        damage(keys, draw)
        survives(lambda keys=keys: from_gguf(keys))


def damage(data, draw):
    while True:
        places = list(data) if isinstance(data, dict) else list(range(len(data)))
        place = draw.choice(places)
        if isinstance(data[place], dict | list) and data[place] and draw.random() < 0.8:
            data = data[place]
            continue
        if draw.random() < 0.2:
            del data[place]
        else:
            data[place] = draw.choice(JUNK)
        return


def survives(make) -> bool:
    """Whether there is a tokenizer, and then a working one; any error but ours is a failure."""
    try:
        tokenizer = make()
    except TokenizerError:
        return False
    assert tokenizer.size < 10_000
    ids = tokenizer.encode("abc \x04<|s|> é", special=True)
    assert all(0 <= id < tokenizer.size for id in ids)
    tokenizer.decode(ids)
    to_gguf(tokenizer)
    return True
