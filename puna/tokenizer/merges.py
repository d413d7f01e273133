"""The ordinary tokens of a byte-level BPE vocabulary, and the order in which neighbours join.

Files list merges: this pair before that pair. tiktoken wants ranks: this concatenation before that one. The
two mean the same whenever every token can be made in one way only, which holds for what training writes and
for the list of all splits that Llama 3's ranks were turned into. Here each list is checked for it; what
cannot be said in ranks is refused, never approximated.
"""

import codecs
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, repeat

import numpy as np
import tiktoken

from puna.errors import TokenizerError, need

# GPT-2's alphabet: a visible character for each byte, so that vocabularies can be JSON
_VISIBLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_OTHERS = sorted(set(range(256)) - _VISIBLE)
ALPHABET = "".join(chr(b if b in _VISIBLE else 256 + _OTHERS.index(b)) for b in range(256))
_FROM_ALPHABET = codecs.charmap_build(ALPHABET)

# The bytes a vocabulary may lack: those UTF-8 never has, those only in control characters and unused planes.
NEVER = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
DROPPABLE = NEVER | frozenset({*range(0x20), 0x7F, *range(0xF1, 0xF5)} - set(b"\t\n\v\f\r"))

LLAMA3_WORDS = 128_000
# sha256 of Llama 3's ordinary tokens: the one vocabulary that the family shares needs no check
_LLAMA3 = "0d473786496aaab78e8893efacd99f36133e32ca87eeba79a6083ded85155dde"


@dataclass(frozen=True, eq=False, repr=False)
class Pieces:
    """Ordinary tokens. `words[id]` is a token's bytes (b"" where an id has none)."""

    words: list[bytes]
    ranks: dict[bytes, int]  # what tiktoken merges by
    ids: Sequence[int] | None  # of each rank; None where rank and id are the same
    merges: Sequence[str] | None = None  # as the file lists them; None: every split of every token
    whole: bool = True  # a piece of text that is a token is that token, whatever the merges make of it
    lost: frozenset[int] = frozenset()  # bytes of text without a token: they are dropped
    all_made: bool = False  # every token is made by merges, so that `whole` makes no difference

    def listed(self) -> Sequence[str]:
        """The merges as files write them, "left right"."""
        return all_splits(self.words) if self.merges is None else self.merges


def to_text(word: bytes) -> str:
    """Bytes in GPT-2's alphabet."""
    return codecs.charmap_decode(word, "strict", ALPHABET)[0]


def to_bytes(text: str) -> bytes:
    """The bytes behind text written in GPT-2's alphabet."""
    try:
        return codecs.charmap_encode(text, "strict", _FROM_ALPHABET)[0]
    except UnicodeEncodeError as problem:
        raise TokenizerError(
            f"a token has {text[problem.start]!r}, which is not in GPT-2's byte alphabet\n"
            "  try: a byte-level BPE vocabulary (Llama 3, GPT-2, SmolLM); SentencePiece is not supported"
        ) from None


def from_ranks(words: list[bytes]) -> Pieces:
    """Tokens that merge in the order of their ids, as in Meta's tokenizer.model."""
    ranks = {word: rank for rank, word in enumerate(words)}
    need(len(ranks) == len(words), "the vocabulary has the same token twice", error=TokenizerError)
    lost = _lost(ranks)
    need(
        not lost,
        f"the vocabulary has no token for the byte {min(lost, default=0):#04x}",
        error=TokenizerError,
    )
    return Pieces(words, ranks, None)


def from_merges(vocabulary: Mapping[str, int], listed: Callable[[], Sequence[str]], whole: bool) -> Pieces:
    """Tokens by their text in GPT-2's alphabet, merging in the order of `listed()`, each "left right"."""
    words = [b""] * (max(vocabulary.values(), default=-1) + 1)
    data = to_bytes("".join(vocabulary))
    ends = list(accumulate(map(len, vocabulary)))
    for id, start, end in zip(vocabulary.values(), (0, *ends), ends, strict=False):
        words[id] = data[start:end]
    if whole and is_llama3(words):
        return from_ranks(words)  # nobody needs to read 280,147 merges
    merges = listed()
    merge = _Merges.read(vocabulary, merges, len(words))
    if not merge.unique:
        return _ranked(words, merge.in_every_way(words, merges, whole), merges, whole)
    made = merge.in_one_way(words)
    unmade = sorted({id for id, word in enumerate(words) if len(word) > 1} - set(made))
    if whole:
        _never_join(words, unmade)
        made += unmade
    return replace(_ranked(words, made, merges, whole), all_made=not unmade)


def is_llama3(words: Sequence[bytes]) -> bool:
    """Whether these are the 128,000 ordinary tokens of Llama 3, in order."""
    if len(words) != LLAMA3_WORDS or max(map(len, words)) > 255:
        return False
    return hashlib.sha256(b"".join(words) + bytes(map(len, words))).hexdigest() == _LLAMA3


def all_splits(words: Iterable[bytes]) -> list[str]:
    """Every way to make each token of two others, in the order of tokens, then of left and of right parts."""
    rank = {word: n for n, word in enumerate(words) if word}
    text = {word: to_text(word) for word in rank}
    found: list[str] = []
    for word in rank:
        pairs = ((word[:cut], word[cut:]) for cut in range(1, len(word)))
        known = [(rank[a], rank[b], a, b) for a, b in pairs if a in rank and b in rank]
        found += [f"{text[a]} {text[b]}" for _, _, a, b in sorted(known)]
    return found


def _lost(words: Mapping[bytes, int]) -> frozenset[int]:
    return frozenset(byte for byte in range(256) if bytes((byte,)) not in words)


def _ranked(words: list[bytes], made: list[int], merges: Sequence[str], whole: bool) -> Pieces:
    """Bytes and the tokens that merges make, in this order, as ranks; ids serve as such where they ascend."""
    single = [id for id, word in enumerate(words) if len(word) == 1]
    lost = frozenset(range(256)) - {words[id][0] for id in single}
    need(
        lost <= DROPPABLE,
        f"the vocabulary has no token for the byte {min(lost - DROPPABLE, default=0):#04x}",
        "a complete file",
        TokenizerError,
    )
    order = single + made
    ids = None if all(map(int.__lt__, made, made[1:])) else order
    ranks = dict(zip(map(words.__getitem__, order), order if ids is None else range(len(order)), strict=True))
    free = len(words) if ids is None else len(order)
    ranks.update((bytes((byte,)), free + n) for n, byte in enumerate(sorted(lost)))
    return Pieces(words, ranks, ids, merges, whole, lost - NEVER)


@dataclass(frozen=True, eq=False)
class _Merges:
    """A merge list in ids: `left[k]` and `right[k]` become `product[k]`, the lowest k first."""

    left: np.ndarray  # (merges,)
    right: np.ndarray
    product: np.ndarray
    size: int

    @classmethod
    def read(cls, vocabulary: Mapping[str, int], merges: Sequence[str], size: int) -> "_Merges":
        two = set(map(str.count, merges, repeat(" "))) <= {1}
        need(two, "a merge is not two tokens with one blank between them", error=TokenizerError)
        halves = " ".join(merges).split(" ") if merges else []
        lefts, rights = halves[::2], halves[1::2]
        try:
            left, right = (_ids(vocabulary, side) for side in (lefts, rights))
            long = [text for text in vocabulary if len(text) > 1]
            # in a trained file the k-th merge makes the k-th token: two joins find out at once
            in_order = "\n".join(merges).replace(" ", "") == "\n".join(long)
            product = _ids(vocabulary, long if in_order else map(str.__add__, lefts, rights))
        except KeyError as missing:
            raise TokenizerError(f"a merge takes or makes {missing}, which is no ordinary token") from None
        return cls(left, right, product, size)

    @property
    def unique(self) -> bool:
        return bool(np.bincount(self.product, minlength=1).max() <= 1)

    def in_one_way(self, words: list[bytes]) -> list[int]:
        """What the merges make, in order, when each token has one merge, as training writes them."""
        count = len(self.product)
        rank = np.full(self.size, count)
        rank[[id for id, word in enumerate(words) if len(word) == 1]] = -1
        rank[self.product] = np.arange(count)
        early = np.maximum(rank[self.left], rank[self.right]) < np.arange(count)
        bad = int(np.argmin(early)) if count else 0
        need(early.all(), f"merge {bad} takes a token that no earlier merge makes", error=TokenizerError)
        happens = self._happens(rank)
        if not happens.all():  # nor does what would be made from what is never made
            for k in range(count):
                parts = rank[self.left[k]], rank[self.right[k]]
                happens[k] &= all(part < 0 or happens[part] for part in parts)
        return self.product[happens].tolist()

    def _happens(self, rank: np.ndarray) -> np.ndarray:
        """Whether each pair ever stands side by side, or a merge across its middle always comes first.

        Walk both halves back in time, newest token first, down to bytes: the right edge of the left half, the
        left edge of the right half. If the two edges at some moment are themselves a pair that merges before
        either edge becomes part of its parent, the middle is gone. Of equal pairs the leftmost merges first.
        """
        keys = self.left * self.size + self.right
        order = np.argsort(keys)
        keys, count = keys[order], len(order)
        maybe = np.zeros(1 << 20, bool)  # most pairs never merge: a small table says so faster than a search
        maybe[_spread(self.left, self.right)] = True
        happens = np.ones(count, bool)
        k, x, y = np.arange(count), self.left, self.right
        x_until = y_until = k  # when the edges become part of their parents
        while len(k):
            x_born, y_born = rank[x], rank[y]
            newer = y_born >= x_born  # of two equal tokens the left one was there first
            y_until, x_until = np.where(newer, y_born, y_until), np.where(newer, x_until, x_born)
            x, y = np.where(newer, x, self.right[x_born]), np.where(newer, self.left[y_born], y)
            inside = np.maximum(x_born, y_born) >= 0
            k, x, y, x_until, y_until = (each[inside] for each in (k, x, y, x_until, y_until))
            found = np.flatnonzero(maybe[_spread(x, y)])
            key = x[found] * self.size + y[found]
            at = np.minimum(np.searchsorted(keys, key), count - 1)
            when = order[at]
            crossed = (keys[at] == key) & (when < x_until[found]) & (when <= y_until[found])
            happens[k[found[crossed]]] = False
        return happens

    def in_every_way(self, words: list[bytes], merges: Sequence[str], whole: bool) -> list[int]:
        """What the merges make when they list every split of every token, token by token, as for Llama 3."""
        starts = np.flatnonzero(np.diff(self.product, prepend=-1))
        made = self.product[starts].tolist()
        grouped = len(set(made)) == len(made)
        need(
            grouped and len(merges) == len(set(merges)) and set(merges) == set(all_splits(words)),
            "several merges make the same token, and not all of its splits in a row: ranks cannot say that",
            "a vocabulary with one merge for each token",
            TokenizerError,
        )
        others = sorted({id for id, word in enumerate(words) if len(word) > 1} - set(made))
        return made + others if whole else _reached(words, made)


def _ids(vocabulary: Mapping[str, int], texts: Iterable[str]) -> np.ndarray:
    return np.fromiter(map(vocabulary.__getitem__, texts), np.int64)


def _spread(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * 40_503 + y * 524_309) & 0xFFFFF


def _never_join(words: list[bytes], unmade: list[int]) -> None:
    """Tokens found only as whole pieces can have ranks if no two tokens could join to one."""
    known = set(words)
    for id in unmade:
        word = words[id]
        need(
            not any(word[:cut] in known and word[cut:] in known for cut in range(1, len(word))),
            f"token {id} {word!r:.40} is a whole word and never merged, though two tokens would make it",
            error=TokenizerError,
        )


def _reached(words: list[bytes], made: list[int]) -> list[int]:
    """Those of the tokens that merging makes of bytes: asks tiktoken, behind a byte that never merges."""
    begun = {words[id][0] for id in made}
    guard = next((bytes((byte,)) for byte in range(255, -1, -1) if byte not in begun), None)
    need(
        guard is not None,
        "some token begins with each byte, ignore_merges must be true",
        error=TokenizerError,
    )
    assert guard is not None
    ranks = {bytes((byte,)): byte for byte in range(256)} | {words[id]: 256 + n for n, id in enumerate(made)}
    merging = tiktoken.Encoding("merging", pat_str=".", mergeable_ranks=ranks, special_tokens={})
    return [id for id in made if len(merging._encode_single_piece(guard + words[id])) == 2]
