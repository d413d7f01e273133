"""One vocabulary, three containers: what is written is what is read, by us and by the formats' owners."""

import itertools
import json

import pytest
from vocabularies import llama3, llama3_file, smollm2, smollm2_keys, texts, train

from puna.errors import TokenizerError
from puna.tokenizer import merges, splits
from puna.tokenizer.formats import from_gguf, load, to_gguf, to_hf, to_meta
from puna.tokenizer.specials import Specials
from puna.tokenizer.tokenizer import Tokenizer

SAMPLE = texts(400, seed=20)


def assert_same(one: Tokenizer, other: Tokenizer) -> None:
    for name in ("size", "specials", "bos_id", "eos_id", "pad_id", "stop_ids", "adds_bos", "chat_template"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.fingerprint() == other.fingerprint()
    for text in SAMPLE:
        assert one.encode(text) == other.encode(text), ascii(text)
        assert one.encode(text, special=True) == other.encode(text, special=True), ascii(text)
    for id in range(0, one.size, 7):
        assert one.bytes_of(id) == other.bytes_of(id)


@pytest.mark.parametrize("make", [llama3, smollm2])
def test_gguf_keys_hold_the_whole_tokenizer(make):
    assert_same(from_gguf(to_gguf(make())), make())


def test_gguf_keys_are_those_of_the_file_they_came_from():
    written, read = to_gguf(smollm2()), smollm2_keys()
    for key in (
        "tokens",
        "merges",
        "pre",
        "model",
        "bos_token_id",
        "eos_token_id",
        "padding_token_id",
        "add_bos_token",
    ):
        assert written[f"tokenizer.ggml.{key}"] == read[f"tokenizer.ggml.{key}"], key
    assert (written["tokenizer.ggml.token_type"] == read["tokenizer.ggml.token_type"]).all()
    assert written["tokenizer.chat_template"] == read["tokenizer.chat_template"]


def test_llama_3_has_280147_merges_each_of_them_one_way_to_make_a_token():
    listed = to_gguf(llama3())["tokenizer.ggml.merges"]
    assert len(listed) == len(set(listed)) == 280_147
    assert listed[:4] == ["Ġ Ġ", "Ġ ĠĠĠ", "ĠĠ ĠĠ", "ĠĠĠ Ġ"]


@pytest.mark.parametrize("make", [llama3, smollm2])
def test_the_hugging_face_folder_is_read_alike_by_us_and_by_the_tokenizers_library(make, tmp_path):
    library = pytest.importorskip("tokenizers").Tokenizer
    to_hf(make(), tmp_path)
    assert_same(load(tmp_path), make())
    oracle = library.from_file(str(tmp_path / "tokenizer.json"))
    for text in SAMPLE:
        ids = make().encode(text, special=True)
        assert oracle.encode(text, add_special_tokens=False).ids == ids, ascii(text)
    for text, id in make().specials.items():
        assert oracle.token_to_id(text) == id


@pytest.mark.parametrize("adds_bos", [True, False])
def test_transformers_reads_our_folder_with_the_same_parts(adds_bos, tmp_path):
    transformers = pytest.importorskip("transformers")
    train("gpt-2", tmp_path / "trained")
    trained = load(tmp_path / "trained")
    parts = Specials.gathered(trained.specials, bos=1, eos=2, pad=0, adds_bos=adds_bos)
    ours = Tokenizer(trained.pieces, trained.split, parts, "{{ bos_token }}{{ messages[0].content }}")
    to_hf(ours, tmp_path / "written")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "written")
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (
        1,
        2,
        0,
        ours.size,
    )
    assert theirs("a b").input_ids == [1] * adds_bos + ours.encode("a b")
    assert theirs.decode(ours.encode("a <|im_end|> b", special=True)) == "a <|im_end|> b"
    chat = theirs.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|im_start|>hi"
    assert_same(load(tmp_path / "written"), ours)


@pytest.mark.parametrize("way", ["straight", "through Hugging Face's format", "through GGUF's"])
def test_metas_file_comes_out_byte_for_byte(way, tmp_path):
    tokenizer = llama3()
    if way == "through GGUF's":
        tokenizer = from_gguf(to_gguf(tokenizer))
    elif way != "straight":
        to_hf(tokenizer, tmp_path)
        tokenizer = load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(to_meta(tokenizer))
    assert (tmp_path / "tokenizer.model").read_bytes() == llama3_file().read_bytes()


def test_metas_file_refuses_a_vocabulary_it_cannot_hold(tmp_path):
    with pytest.raises(TokenizerError, match="cannot hold"):
        to_meta(smollm2())


@pytest.mark.parametrize(
    ("params", "name", "id"),
    [
        ({"dim": 4096}, "<|reserved_special_token_3|>", 128_005),  # 3.0
        ({"use_scaled_rope": True}, "<|eom_id|>", 128_008),
        (None, "<|eom_id|>", 128_008),
    ],
)
def test_the_release_beside_metas_file_names_its_special_tokens(params, name, id, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(llama3_file().read_bytes())
    if params is not None:
        (tmp_path / "params.json").write_text(json.dumps(params))
    tokenizer = load(tmp_path)
    assert tokenizer.specials[name] == id
    assert (128_008 in tokenizer.stop_ids) == (name == "<|eom_id|>")
    assert tokenizer.specials["<|eot_id|>"] == 128_009 and len(tokenizer.specials) == 256


def test_stop_tokens_are_gathered_from_every_file_and_by_their_text(tmp_path):
    train("gpt-2", tmp_path)
    assert load(tmp_path).stop_ids == {0, 2}  # <|endoftext|> and <|im_end|>, by text
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    (tmp_path / "tokenizer_config.json").write_text(
        '{"eos_token": {"content": "<|im_end|>"}, "chat_template": "in config"}'
    )
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<|im_start|>"}')
    tokenizer = load(tmp_path)
    assert tokenizer.stop_ids == {0, 1, 2} and tokenizer.eos_id == 2 and tokenizer.bos_id == 1
    assert tokenizer.chat_template == "in config"
    (tmp_path / "chat_template.jinja").write_text("own file")
    assert load(tmp_path).chat_template == "own file"


def test_ids_that_are_not_in_merge_order_survive_every_container(tmp_path):
    letters = {char: id for id, char in enumerate(merges.ALPHABET)}
    vocabulary = letters | {"ab": 300, "abc": 256, "bc": 299}  # 257 to 298 have no token
    pieces = merges.from_merges(vocabulary, lambda: ["a b", "ab c", "b c"], False)
    tokenizer = Tokenizer(pieces, splits.GPT2, Specials.gathered({"<|im_end|>": 257}, eos=257))
    assert tokenizer.encode("abcbcab") == [256, 299, 300] and tokenizer.decode([258, 256]) == "abc"
    assert_same(from_gguf(to_gguf(tokenizer)), tokenizer)
    to_hf(tokenizer, tmp_path)
    assert_same(load(tmp_path), tokenizer)


def test_tokens_that_a_file_names_but_forgets_to_mark_are_special_all_the_same(tmp_path):
    train("gpt-2", tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["added_tokens"] = data["added_tokens"][:2]  # <|im_end|> stays in the vocabulary only
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    assert load(tmp_path).specials["<|im_end|>"] == load(tmp_path).eos_id == 2
    keys = to_gguf(load(tmp_path))
    keys["tokenizer.ggml.token_type"][2] = 1
    assert from_gguf(keys).specials["<|im_end|>"] == 2


@pytest.mark.parametrize("whole", [True, False])
def test_words_that_no_merge_reaches_are_found_only_if_the_file_says_so(whole, tmp_path):
    library = pytest.importorskip("tokenizers").Tokenizer
    words = [bytes((byte,)) for byte in range(256)] + [b"bc", b"ab", b"cd", b"abcd", b"aa", b"aaa", b"da"]
    listed = merges.all_splits(words)
    assert len(listed) > len(words) - 256  # several ways to make aaa
    data = {"type": "BPE", "ignore_merges": whole, "merges": listed}
    data["vocab"] = {merges.to_text(word): id for id, word in enumerate(words)}
    file = {"model": data, "added_tokens": [], "pre_tokenizer": splits.LLAMA3.huggingface()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    tokenizer, oracle = load(tmp_path), library.from_file(str(tmp_path / "tokenizer.json"))
    for text in map("".join, itertools.product("abcd ", repeat=5)):
        assert tokenizer.encode(text) == oracle.encode(text).ids, text
    assert (tokenizer.encode("abcd") == [259]) == whole
    if whole:
        assert_same(from_gguf(to_gguf(tokenizer)), tokenizer)
    else:
        with pytest.raises(TokenizerError, match="ignore_merges"):
            to_gguf(tokenizer)
