"""The tokenizer.* keys of a GGUF file: tokens in GPT-2's byte alphabet, types, merges, and who is who."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from puna.errors import TokenizerError, need
from puna.tokenizer import merges, splits
from puna.tokenizer.specials import Specials, whole_number
from puna.tokenizer.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER, UNUSED = 1, 2, 3, 4, 5
_KEY = "tokenizer.ggml."
_ENDS = ("eos", "eot", "eom")


def from_gguf(keys: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that the keys of a GGUF file describe."""
    model = keys.get(_KEY + "model")
    need(
        model == "gpt2",
        f"tokenizer.ggml.model is {str(model)[:40]!r}: Puna reads byte-level BPE ('gpt2'), "
        "not yet SentencePiece ('llama')",
        "a model with a byte-level BPE vocabulary: Llama 3, GPT-2, SmolLM",
        TokenizerError,
    )
    split = splits.named(keys.get(_KEY + "pre"))
    tokens, types = _strings(keys, "tokens"), _types(keys)
    need(len(tokens) == len(types), f"{len(tokens):,} tokens have {len(types):,} types", error=TokenizerError)
    for part in (*_ENDS, "bos"):  # some files forget to mark them
        id = _id(keys, part)
        if id is not None and id < len(types) and types[id] != USER:
            types[id] = CONTROL
    ordinary = {tokens[id]: id for id in np.flatnonzero(types == NORMAL).tolist()}
    need(len(ordinary) == int((types == NORMAL).sum()), "a token stands there twice", error=TokenizerError)
    whole = split == splits.LLAMA3  # [C llama.cpp src/llama-vocab.cpp] ignore_merges goes with the rule
    pieces = merges.from_merges(ordinary, lambda: _strings(keys, "merges"), whole)
    template = keys.get("tokenizer.chat_template")
    need(
        template is None or isinstance(template, str),
        "tokenizer.chat_template is not text",
        error=TokenizerError,
    )
    return Tokenizer(pieces, split, _specials(keys, tokens, types, whole), template)


def to_gguf(tokenizer: Tokenizer) -> dict[str, Any]:
    """The keys that say the same to any reader of GGUF."""
    whole = tokenizer.split == splits.LLAMA3  # readers go by the rule's name
    need(
        tokenizer.pieces.all_made or tokenizer.pieces.whole == whole,
        "GGUF has no place for this vocabulary's ignore_merges",
        "Hugging Face's format",
        TokenizerError,
    )
    tokens = [merges.to_text(word) for word in tokenizer.pieces.words]
    tokens += [""] * (tokenizer.size - len(tokens))
    types = np.full(tokenizer.size, NORMAL, np.int32)
    for text, id in tokenizer.specials.items():
        tokens[id], types[id] = text, USER if id in tokenizer.roles.shown else CONTROL
    for id in (id for id, text in enumerate(tokens) if not text):
        tokens[id], types[id] = f"[PAD{id}]", UNUSED
    parts = {
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        "padding": tokenizer.pad_id,
        "eot": next(
            (tokenizer.specials[t] for t in ("<|eot_id|>", "<|im_end|>") if t in tokenizer.specials), None
        ),
        "eom": tokenizer.specials.get("<|eom_id|>"),
    }
    keys: dict[str, Any] = {
        _KEY + "model": "gpt2",
        _KEY + "pre": tokenizer.split.name,
        _KEY + "tokens": tokens,
        _KEY + "token_type": types,
        _KEY + "merges": list(tokenizer.pieces.listed()),
        **{f"{_KEY}{part}_token_id": id for part, id in parts.items() if id is not None},
        _KEY + "add_bos_token": tokenizer.adds_bos,
        _KEY + "add_space_prefix": False,
    }
    if tokenizer.chat_template is not None:
        keys["tokenizer.chat_template"] = tokenizer.chat_template
    return keys


def _specials(keys: Mapping[str, Any], tokens: list[str], types: np.ndarray, adds_bos: bool) -> Specials:
    framing = np.flatnonzero((types == CONTROL) | (types == UNKNOWN) | (types == USER)).tolist()
    ids = {tokens[id]: id for id in framing}
    need(len(ids) == len(framing), "a special token stands there twice", error=TokenizerError)
    found = {part: _id(keys, part) for part in (*_ENDS, "bos", "padding")}
    says = keys.get(_KEY + "add_bos_token", adds_bos)
    need(
        isinstance(says, bool), "tokenizer.ggml.add_bos_token is neither true nor false", error=TokenizerError
    )
    return Specials.gathered(
        ids,
        shown=frozenset(np.flatnonzero(types == USER).tolist()),
        bos=found["bos"],
        eos=found["eos"],
        pad=found["padding"],
        stops=[id for end in _ENDS if (id := found[end]) is not None],
        adds_bos=says and found["bos"] is not None,
    )


def _id(keys: Mapping[str, Any], part: str) -> int | None:
    name = f"{_KEY}{part}_token_id"
    return whole_number(keys[name], name) if name in keys else None


def _strings(keys: Mapping[str, Any], name: str) -> list[str]:
    value = keys.get(_KEY + name)
    good = isinstance(value, list) and set(map(type, value)) <= {str}
    need(
        good, f"tokenizer.ggml.{name} is missing or not a list of strings", "a complete file", TokenizerError
    )
    assert isinstance(value, list)
    return value


def _types(keys: Mapping[str, Any]) -> np.ndarray:
    types = keys.get(_KEY + "token_type")
    whole = isinstance(types, np.ndarray) and types.ndim == 1 and types.dtype.kind in "iu" and len(types) > 0
    types = np.asarray(types) if whole else np.array([-1])
    need(
        types.min() >= NORMAL and types.max() <= UNUSED,
        f"tokenizer.ggml.token_type is missing or not a list of the types {NORMAL} to {UNUSED}",
        error=TokenizerError,
    )
    return types.copy()
