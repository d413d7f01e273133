"""A learned vocabulary: what is asked comes out, every time the same, and every container holds it."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vocabularies import SPLITS, texts

pytest.importorskip("rustbpe", reason="the library that merges")

from puna.errors import TokenizerError
from puna.tokenizer import learn
from puna.tokenizer.formats import from_gguf, load, to_gguf
from puna.tokenizer.learn import MOST_BYTES, MOST_SIZE, save, train
from puna.tokenizer.splits import GPT2, LLAMA3

SAMPLE = texts(300, seed=31)
CORPUS = [*texts(2000, seed=30), Path(random.__file__).read_text(), Path(json.__file__).read_text()]


@pytest.mark.parametrize("special", ["llama3", "chatml"])
@pytest.mark.parametrize("split", SPLITS)
def test_every_container_gives_the_ids_of_the_vocabulary_that_was_learned(split, special, tmp_path):
    tokenizer = train(CORPUS, 1000, SPLITS[split], special)
    names = save(tokenizer, tmp_path)
    assert tokenizer.size == 1000 and ("tokenizer.model" in names) == (
        split == "llama-bpe" and special == "llama3"
    )
    read = [load(tmp_path), load(tmp_path / "tokenizer.gguf"), from_gguf(to_gguf(tokenizer))]
    read += [load(tmp_path / "tokenizer.model")] if "tokenizer.model" in names else []
    for text in SAMPLE:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(other.encode(text) == ids for other in read), ascii(text)
        assert all(other.encode(text, special=True) == tokenizer.encode(text, special=True) for other in read)
    for other in read:
        assert (other.specials, other.size, other.eos_id) == (tokenizer.specials, 1000, tokenizer.eos_id)
        assert other.fingerprint() == tokenizer.fingerprint()


def test_writing_over_a_folder_leaves_nothing_of_the_old_vocabulary(tmp_path):
    save(train(CORPUS, 600), tmp_path)
    save(train(CORPUS, 300, GPT2, "chatml"), tmp_path)
    assert not (tmp_path / "tokenizer.model").exists() and load(tmp_path).size == 300


@pytest.mark.parametrize("split", SPLITS)
def test_the_tokenizers_library_reads_the_folder_alike(split, tmp_path):
    library = pytest.importorskip("tokenizers").Tokenizer
    tokenizer = train(CORPUS, 900, SPLITS[split], "chatml")
    save(tokenizer, tmp_path)
    oracle = library.from_file(str(tmp_path / "tokenizer.json"))
    for text in SAMPLE:
        assert oracle.encode(text, add_special_tokens=False).ids == tokenizer.encode(text, special=True), (
            ascii(text)
        )


@pytest.mark.parametrize("split", [LLAMA3, GPT2], ids=lambda split: split.name)
def test_the_tokens_are_those_that_another_trainer_finds(split):
    tokenizers = pytest.importorskip("tokenizers")
    oracle = tokenizers.Tokenizer(tokenizers.models.BPE())
    data = json.loads(oracle.to_str()) | {"pre_tokenizer": split.huggingface()}
    oracle = tokenizers.Tokenizer.from_str(json.dumps(data))
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    corpus = [Path(random.__file__).read_text(), Path(json.__file__).read_text()]
    oracle.train_from_iterator(corpus, trainer)
    ours = train(corpus, 603, split, "chatml").pieces.words
    theirs = {learn.merges.to_bytes(text) for text in oracle.get_vocab()}
    assert len(set(ours) & theirs) >= 595  # pairs as frequent come in another order


def test_learning_is_a_function_of_the_texts_on_any_number_of_threads():
    code = (
        "import random; from pathlib import Path; from puna.tokenizer.learn import train\n"
        "text = Path(random.__file__).read_text(); parts = text.splitlines(True)\n"
        "print(train(parts, 1200).fingerprint())"
    )

    def learned(threads, seed):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        ).stdout

    assert len({learned("1", "0"), learned("1", "1"), learned("2", "2"), learned("5", "3")}) == 1


def test_a_learned_vocabulary_is_shorter_than_bytes_and_better_when_larger():
    text = Path(random.__file__).read_text()
    lengths = [len(train([text], size).encode(text)) for size in (600, 800, 1200)]
    assert len(text.encode()) / 1.5 > lengths[0] > lengths[1] > lengths[2]


def test_text_never_becomes_special_and_the_set_is_the_one_asked_for():
    tokenizer = train(["<|eot_id|>" * 100 + "some text"], 520)
    assert max(tokenizer.encode("<|eot_id|>")) < 264
    assert tokenizer.specials["<|begin_of_text|>"] == 264 == tokenizer.bos_id and tokenizer.adds_bos
    chat = train(CORPUS, 300, GPT2, "chatml")
    assert sorted(chat.specials.items()) == [
        ("<|endoftext|>", 297),
        ("<|im_end|>", 299),
        ("<|im_start|>", 298),
    ]
    assert chat.stop_ids == {297, 299} and chat.eos_id == 297 and not chat.adds_bos


@pytest.mark.parametrize(
    ("size", "special", "said"),
    [
        (512, "llama3", "can be 513 to 131,072"),
        (259, "chatml", "can be 260 to 131,072"),
        (MOST_SIZE + 1, "llama3", "131,072"),
        (100_000, "llama3", "the texts make .* tokens, 99,744 were asked"),
        (1000, "llama4", "known are llama3, chatml"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(size, special, said):
    with pytest.raises(TokenizerError, match=said):
        train(["a few words only"], size, special=special)


def test_nothing_to_learn_from_is_an_error_and_not_a_crash():
    for corpus in ([], [""], ["a"]):
        with pytest.raises(TokenizerError, match="the texts make 256 tokens"):
            train(corpus, 300, GPT2, "chatml")


def test_an_iterator_that_fails_fails_the_training():
    def broken():
        yield "some text"
        raise TokenizerError("the disk is gone")

    with pytest.raises(TokenizerError, match="the disk is gone"):
        train(broken(), 300, GPT2, "chatml")


@pytest.mark.parametrize("split", SPLITS)
def test_hostile_texts_take_seconds_not_hours(split):
    start = time.process_time()
    draw = random.Random(1)
    noise = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=300_000))
    hostile = [
        "a" * 1_000_000,
        " " * 1_000_000,
        "\n" * 300_000,
        "\ud800\udc00\ud800" * 1000,
        noise,
        "'" * 200_000,
    ]
    hostile += [
        "".join(map(chr, range(0x4E00, 0x9000))) * 5,
        " \n" * 200_000,
        "\0" * 100_000,
        "e\u0301" * 100_000,
    ]
    tokenizer = train([*CORPUS, *hostile], 1000, SPLITS[split], "chatml")
    assert tokenizer.decode(tokenizer.encode(CORPUS[-1])) == CORPUS[-1]
    assert time.process_time() - start < 20


def test_more_text_than_the_library_can_count_is_refused_before_it_counts_wrong(monkeypatch):
    assert MOST_BYTES < 2**31
    monkeypatch.setattr(learn, "MOST_BYTES", 5000)
    with pytest.raises(TokenizerError, match="of text to learn from"):
        train(["é" * 2501], 300, GPT2, "chatml")
