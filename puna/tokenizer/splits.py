"""How text is cut into pieces before anything merges: each rule we know, by the name each container gives it.

A pre-tokenizer is a regular expression, and a foreign one could take forever on the right text. So a file may
name a rule of this table or spell one out exactly; any other is refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from puna.errors import TokenizerError, need

# [C llama3/tokenizer.py] Meta's own limits: ids equal the official class's only if text is cut as it cuts
MOST_CHARACTERS = 400_000
MOST_RUN = 25_000  # of characters without, or of nothing but, white space
MOST_BLANKS = (
    100_000  # about a million in a row stop the regex engine: longer runs are cut where it would cut
)


@dataclass(frozen=True)
class Split:
    """One rule. `pattern` matches piece after piece; `steps` is what Hugging Face calls the same thing."""

    name: str  # GGUF's
    pattern: str
    steps: tuple[tuple[str, ...], ...]
    lone_numbers: bool = False  # a numeral never shares a piece, not even with the blank before it
    limited: bool = False  # by Meta's limits above
    marks_stay: bool = True  # what is neither letter nor numeral shares no piece with one

    def parts(self, text: str) -> Iterator[str]:
        """Almost always the text itself; the parts of a very long one, to be encoded one by one."""
        if self.limited:
            return _limited(text)
        return _between_blanks(text, self.lone_numbers)

    def huggingface(self) -> dict[str, Any]:
        """The pre_tokenizer of a tokenizer.json."""
        inner = [_STEP[kind](*rest) for kind, *rest in self.steps]
        return inner[0] if len(inner) == 1 else {"type": "Sequence", "pretokenizers": inner}


def named(name: Any) -> Split:
    """The rule a GGUF file names in tokenizer.ggml.pre."""
    found = _ALIASES.get(name) if isinstance(name, str) else None
    need(
        found is not None,
        f"tokenizer.ggml.pre: {str(name)[:40]!r} is not a way of cutting text that Puna knows",
        f"a vocabulary of the kind {', '.join(sorted(_ALIASES))}",
        TokenizerError,
    )
    assert found is not None
    return found


def spelled_out(pre_tokenizer: Any) -> Split:
    """The rule that a tokenizer.json's pre_tokenizer describes."""
    steps = tuple(_step(each) for each in _flat(pre_tokenizer))
    for split in (LLAMA3, GPT2, SMOLLM):
        if split.steps == steps:
            return split
    raise TokenizerError(
        f"tokenizer.json: pre_tokenizer cuts text in a way Puna does not know: {str(steps)[:200]}\n"
        "  try: a vocabulary of the Llama 3, GPT-2 or SmolLM kind"
    )


def _flat(pre_tokenizer: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    bad = f"tokenizer.json: pre_tokenizer: {str(pre_tokenizer)[:80]} is none"
    need(isinstance(pre_tokenizer, dict) and depth < 8, bad, error=TokenizerError)
    if pre_tokenizer.get("type") == "Sequence":
        inner = pre_tokenizer.get("pretokenizers")
        need(isinstance(inner, list), bad, error=TokenizerError)
        for each in inner:
            yield from _flat(each, depth + 1)
    else:
        yield pre_tokenizer


def _step(item: Mapping[str, Any]) -> tuple[str, ...]:
    """One link of the chain in the form of `Split.steps`; what is not understood keeps its own words."""
    match item:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ("bytes", "words" if item.get("use_regex", True) is True else "")
        case {"type": "Digits", "individual_digits": True}:
            return ("digits",)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return ("regex", regex)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Removed", "invert": True}:
            return ("regex", regex)  # the same, since our patterns leave nothing between matches
    return ("unknown", str(item)[:200])


def _byte_level(words: str) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": bool(words)}


_STEP: dict[str, Callable[..., dict[str, Any]]] = {
    "bytes": _byte_level,
    "digits": lambda: {"type": "Digits", "individual_digits": True},
    "regex": lambda regex: {
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": "Isolated",
        "invert": False,
    },
}

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = Split("llama-bpe", _LLAMA3, (("regex", _LLAMA3), ("bytes", "")), limited=True, marks_stay=False)
GPT2 = Split(
    "gpt-2",
    # `\s++$` comes first only to spare the regex engine a walk back over a long end
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s++$|\s+(?!\S)|\s+",
    (("bytes", "words"),),
)
SMOLLM = Split(
    "smollm",
    # each numeral is cut out first, so the blanks before one are at an end
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s++$|\s+(?![^\s\p{N}])|\s+",
    (("digits",), ("bytes", "words")),
    lone_numbers=True,
)
_ALIASES = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), LLAMA3),
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), SMOLLM),
}

_RUN = re.compile(r"\s+|\S+")  # Python's \s is str.isspace, by which Meta counts
_BLANKS = re.compile(r"[^\S\x1c-\x1f]+")  # Unicode's White_Space, by which the patterns go


def _limited(text: str) -> Iterator[str]:
    """The text in Meta's chunks, each cut again inside every run that is too long."""
    for start in range(0, len(text), MOST_CHARACTERS):
        chunk = text[start : start + MOST_CHARACTERS]
        at = 0
        for begin, end in _long_runs(chunk, _RUN, MOST_RUN):
            for cut in range(begin + MOST_RUN, end, MOST_RUN):
                yield chunk[at:cut]
                at = cut
        yield chunk[at:]


def _between_blanks(text: str, lone_numbers: bool) -> Iterator[str]:
    """The text cut around blanks too many for the regex engine, at places where it ends a piece anyway."""
    at = 0
    for begin, end in _long_runs(text, _BLANKS, MOST_BLANKS):
        alone = end == len(text) or (lone_numbers and text[end].isnumeric())
        last = end if alone else end - 1  # the last blank belongs to what follows
        yield from (text[at:begin], text[begin:last])
        at = last
    yield text[at:]


def _long_runs(text: str, run: re.Pattern[str], longest: int) -> list[tuple[int, int]]:
    """Where matches of `run` are longer than `longest`. Looks at a few characters of each `longest` only."""
    step = longest // 2  # a longer run covers two neighbouring marks
    for mark in range(0, len(text) - step, step):
        found = run.match(text, mark, mark + step)
        if found and found.end() == mark + step:
            return [each.span() for each in run.finditer(text) if each.end() - each.start() > longest]
    return []
