"""Special tokens: the ids that frame a conversation. No text that a person writes ever becomes one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from puna.errors import TokenizerError, need

# What ends an answer, wherever a file has such a token, even if its own keys name only one of them.
ENDS = frozenset(
    [
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|end|>",
        "<|eot|>",
        "<|eom|>",
        "</s>",
        "<EOT>",
        "<end_of_turn>",
        "<|return|>",
        "<｜end▁of▁sentence｜>",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Text and id of each special token, and the parts they play."""

    ids: Mapping[str, int]
    shown: frozenset[int] = frozenset()  # those that are part of the text a reader sees, like <think>
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    stops: frozenset[int] = frozenset()
    adds_bos: bool = False  # whether a raw text begins with bos

    @classmethod
    def gathered(cls, ids: Mapping[str, int], *, stops: Iterable[int] = (), **parts: Any) -> "Specials":
        """With every end of generation: eos, `stops` from the file's keys, and what is known by its text."""
        known = {id for text, id in ids.items() if text in ENDS} | set(stops)
        if parts.get("eos") is not None:
            known.add(parts["eos"])
        return cls(ids=ids, stops=frozenset(known), **parts)


def whole_number(value: Any, where: str) -> int:
    """An id from a file: a number without a fraction, not negative."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    need(good, f"{where}: {str(value)[:40]!r} is not a token id", error=TokenizerError)
    return value


def compact(ids: Iterable[int], where: str) -> None:
    """Stop at an id used twice, and at ids so far apart that they ask for more memory than the file has."""
    ids = list(ids)
    need(ids, f"{where}: it has no tokens", "a complete file", TokenizerError)
    need(
        len(set(ids)) == len(ids), f"{where}: two tokens have the same id", "a complete file", TokenizerError
    )
    highest = max(ids)
    need(
        highest < 2 * len(ids) + 4096,
        f"{where}: the highest id is {highest:,}, but there are only {len(ids):,} tokens",
        "a complete file",
        TokenizerError,
    )


# Llama 3's special tokens by their distance from the first; the others are reserved and numbered in order.
LLAMA_3_0 = {
    0: "begin_of_text",
    1: "end_of_text",
    6: "start_header_id",
    7: "end_header_id",
    9: "eot_id",
}
LLAMA_3_1 = LLAMA_3_0 | {  # and later releases
    4: "finetune_right_pad_id",
    5: "step_id",
    8: "eom_id",
    10: "python_tag",
    11: "image",
}
LLAMA_SPECIALS = 256


def llama3(first: int, named: Mapping[int, str] = LLAMA_3_1) -> Specials:
    """The special tokens of a Llama 3 release, which its tokenizer.model leaves to the code that reads it."""
    reserved = count()
    names = [named.get(n) or f"reserved_special_token_{next(reserved)}" for n in range(LLAMA_SPECIALS)]
    ids = {f"<|{name}|>": first + n for n, name in enumerate(names)}
    pad = ids.get("<|finetune_right_pad_id|>")
    return Specials.gathered(ids, bos=first, eos=first + 1, pad=pad, adds_bos=True)
