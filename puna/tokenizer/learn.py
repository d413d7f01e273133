"""Learn a vocabulary from texts: byte-level BPE, where the most frequent pair of neighbours becomes a token.

Counting and merging are the work of the library rustbpe, whose result depends on nothing but the texts,
whatever the number of threads. What it leaves to its user is here: texts that would make it slow or count
too far, and a whole Tokenizer of the tokens that it finds.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from puna import __version__, lineage
from puna.errors import TokenizerError, need
from puna.gguf_writer import GgufWriter
from puna.tokenizer import merges, specials
from puna.tokenizer.formats import to_gguf, to_hf, to_meta
from puna.tokenizer.merges import Pieces
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import LLAMA3, Split
from puna.tokenizer.tokenizer import Tokenizer

MOST_SIZE = 2**17  # special tokens included; Llama 3 has 128,256
MOST_BYTES = 2**31 - 1  # of all texts: the library counts pairs in 32 bits
SPECIALS = ("llama3", "chatml")

_PART = 2**16  # characters given to the library at a time
_LONGEST = 200  # characters of one kind in a row: a longer run is data or a language without blanks, and cut
_HALF = re.compile(rf"\S{{{_LONGEST // 2}}}|\s{{{_LONGEST // 2}}}")
_WHOLE = re.compile(rf"\S{{{_LONGEST}}}|\s{{{_LONGEST}}}")


def train(texts: Iterable[str], size: int, split: Split = LLAMA3, special: str = "llama3") -> Tokenizer:
    """A vocabulary of `size` tokens, special ones included: the set of Llama 3 (256) or of ChatML (3).

    Its ids: bytes, then tokens in the order in which they were found, then special tokens.
    """
    need(
        special in SPECIALS,
        f"special tokens {special!r}: known are {', '.join(SPECIALS)}",
        error=TokenizerError,
    )
    count = size - len(_specials(special, 0).ids)
    least = size - count + 257
    fits = least <= size <= MOST_SIZE
    need(fits, f"a size of {size:,}: it can be {least:,} to {MOST_SIZE:,}", error=TokenizerError)
    words = _learned(texts, count, split.pattern)
    need(
        len(words) == count,
        f"the texts make {len(words):,} tokens, {count:,} were asked (and {size - count} special ones)",
        f"more text, or a size of {len(words) + size - count:,}",
        TokenizerError,
    )
    return Tokenizer(_pieces(words, split), split, _specials(special, count))


def save(tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Write Hugging Face's files, a GGUF of the vocabulary alone and, if it fits, Meta's; their names."""
    names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.gguf"]
    to_hf(tokenizer, folder)
    keys = {"general.architecture": "llama", **to_gguf(tokenizer)}
    with GgufWriter(folder / "tokenizer.gguf", keys, []):
        pass  # no tensors
    model = folder / "tokenizer.model"
    if tokenizer.split != LLAMA3 or len(tokenizer.specials) != specials.LLAMA_SPECIALS:
        model.unlink(missing_ok=True)  # another vocabulary's
        return names
    model.write_bytes(to_meta(tokenizer))
    return [*names, model.name]


def save_lineage(tokenizer: Tokenizer, folder: Path, texts: Iterable[Path], special: str) -> None:
    """Say beside a saved vocabulary which files it was learned from."""
    facts = {"size": tokenizer.size, "split": tokenizer.split.name, "special": special}
    facts |= {"fingerprint": tokenizer.fingerprint(), "puna": __version__}
    parents = [lineage.parent_of(path, "trained_on") for path in texts]
    lineage.write(folder, lineage.node_of(folder, "vocabulary", parents, facts=facts))


def _pieces(words: list[bytes], split: Split) -> Pieces:
    """As Llama 3's: any two neighbours that make a token may join, the lowest id first."""
    if split == LLAMA3:
        return merges.from_ranks(words)
    vocabulary = {merges.to_text(word): id for id, word in enumerate(words)}
    return merges.from_merges(vocabulary, lambda: merges.all_splits(words), whole=False)


def _specials(special: str, first: int) -> Specials:
    if special == "llama3":
        return specials.llama3(first)
    ids = {text: first + n for n, text in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))}
    return Specials.gathered(ids, eos=first, pad=first)


def _learned(texts: Iterable[str], count: int, pattern: str) -> list[bytes]:
    """`count` tokens, or fewer if the texts have no more, in the order of their ranks."""
    library = _library()
    library.train_from_iterator(_parts(texts), count, buffer_size=256, pattern=pattern)
    ranked = sorted((rank, bytes(word)) for word, rank in library.get_mergeable_ranks())
    return list(dict.fromkeys(word for _, word in ranked))  # two ways to one token are one token


def _parts(texts: Iterable[str]) -> Iterator[str]:
    """The texts in parts that no regex and no merge takes long over."""
    total = 0
    for text in texts:
        if not text.isascii():
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for start in range(0, len(text), _PART):
            part = text[start : start + _PART]
            total += len(part) if part.isascii() else len(part.encode())
            need(
                total <= MOST_BYTES,
                f"over {MOST_BYTES / 2**30:.0f} GiB of text to learn from",
                "a sample of it: a vocabulary hardly gains from more",
                TokenizerError,
            )
            yield from _without_long_runs(part)


def _without_long_runs(part: str) -> Iterator[str]:
    """The part, cut inside runs of more than `_LONGEST` characters with, or without, white space only."""
    step = _LONGEST // 2  # a longer run covers two neighbouring marks
    at = 0
    if any(_HALF.match(part, mark) for mark in range(0, len(part), step)):
        for run in _WHOLE.finditer(part):
            yield part[at : run.end()]
            at = run.end()
    yield part[at:]


def _library() -> Any:
    try:
        import rustbpe
    except ImportError:
        raise TokenizerError(
            "training a tokenizer needs the package rustbpe\n  try: pip install 'puna[data]'"
        ) from None
    return rustbpe.Tokenizer()
