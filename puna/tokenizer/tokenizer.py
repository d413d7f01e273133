"""Text to token ids and back.

Merging is tiktoken's work. This class adds what a model's vocabulary needs around it: ids that are not in
merge order, special tokens that no user's text can produce, texts of any length, decoding as tokens come.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cached_property

import tiktoken

from puna.errors import TokenizerError, need
from puna.tokenizer.merges import Pieces
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import Split

# neither letters, numerals nor white space, but for one before them
_MARKS = re.compile(r"\s?(?:[^\w\s]|[_\x1c-\x1f])+")


class Tokenizer:
    """One vocabulary. `size` is the highest id + 1; `stop_ids` end an answer; with `adds_bos` raw text begins
    so.
    """

    def __init__(self, pieces: Pieces, split: Split, specials: Specials, chat_template: str | None = None):
        self.pieces, self.split, self.roles = pieces, split, specials
        self.specials: dict[str, int] = dict(specials.ids)
        self.bos_id, self.eos_id, self.pad_id = specials.bos, specials.eos, specials.pad
        self.stop_ids, self.adds_bos = specials.stops, specials.adds_bos
        self.chat_template = chat_template
        self._words = list(pieces.words)  # id -> bytes
        self._place_specials()
        self.size = len(self._words)
        self._hidden = frozenset(self.specials.values()) - specials.shown
        self._lost = bytes(sorted(pieces.lost))
        need(
            split.marks_stay or not self._lost,
            f"the vocabulary has no token for the byte {min(self._lost, default=0):#04x}",
            "a complete file",
            TokenizerError,
        )
        self._merging = tiktoken.Encoding(
            split.name, pat_str=split.pattern, mergeable_ranks=pieces.ranks, special_tokens={}
        )

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text. Only with `special` do texts like <|eot_id|> become special; BOS is never added.

        Lone surrogates become U+FFFD. Vocabularies of the Llama 3 kind cut very long texts where Meta's does.
        """
        ids: list[int] = []
        for part in self.split.parts(text):
            found = self._encode_special(part) if special else self._encode(part)
            if ids:
                ids += found
            else:  # nearly always the only part
                ids = found
        return ids

    def decode(self, ids: Iterable[int], special: bool = True) -> str:
        """The text of ids, with or without special tokens in it; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes(list(ids), special)).decode("utf-8", "replace")

    def bytes_of(self, id: int) -> bytes:
        """The bytes of one id, a special token's are its text; none for an id that the vocabulary skips."""
        return self._bytes([id], special=True)[0]

    def fingerprint(self) -> str:
        """Of all that ids depend on, wherever it was read: as many hex digits as SHA-256 has."""
        ranks, table = self.pieces.ranks, self.pieces.ids
        in_order = sorted(ranks, key=ranks.__getitem__)
        ids = sorted(ranks.values()) if table is None else list(table)
        specials = sorted(self.specials.items())
        said = [list(map(len, in_order)), ids, list(self._lost), self.split.name, specials]
        return hashlib.sha256(json.dumps(said).encode() + b"".join(in_order)).hexdigest()

    def stream(self, special: bool = False) -> "Stream":
        """Decode ids as they come."""
        return Stream(self, special)

    def __repr__(self) -> str:
        return f"Tokenizer({self.split.name}, {self.size:,} tokens, {len(self.specials)} special)"

    def _bytes(self, ids: list[int], special: bool) -> list[bytes]:
        if ids and not 0 <= min(ids) <= max(ids) < self.size:
            wrong = next(id for id in ids if not 0 <= id < self.size)
            raise TokenizerError(f"token id {wrong} is outside of this vocabulary's 0 to {self.size - 1:,}")
        if special:
            return [self._words[id] for id in ids]
        hidden = self._hidden
        return [self._words[id] for id in ids if id not in hidden]

    def _encode(self, text: str) -> list[int]:
        if self._lost and self._loses(text):
            return self._encode_losing(text)
        ids, table = self._merging.encode_ordinary(text), self.pieces.ids
        return ids if table is None else [table[rank] for rank in ids]

    def _encode_special(self, text: str) -> list[int]:
        ids: list[int] = []
        for n, part in enumerate(self._special_texts.split(text)):
            if n % 2:
                ids.append(self.specials[part])
            elif part:
                ids += self._encode(part)
        return ids

    @cached_property
    def _special_texts(self) -> re.Pattern[str]:
        longest_first = sorted(self.specials, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})" if longest_first else "((?!))")

    def _loses(self, text: str) -> bool:
        data = text.encode("utf-8", "replace")
        return any(byte in data for byte in self._lost)

    def _encode_losing(self, text: str) -> list[int]:
        """A text with bytes that the vocabulary lacks: dropped after pieces are cut, before pieces merge.

        Such bytes stand in control characters and unused planes, so their piece is a run without letters,
        numerals and white space, with at most the one blank before it.
        """
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = []
        at = 0
        for run in _MARKS.finditer(text):
            if not self._loses(run.group()):
                continue
            begin = run.start() + (run.group()[0].isspace() and run.group()[0] not in " \x1c\x1d\x1e\x1f")
            ids += self._merging.encode_ordinary(text[at : run.start()])
            ids += self._merging.encode_ordinary(text[run.start() : begin])
            kept = text[begin : run.end()].encode().translate(None, self._lost)
            ids += self._merging._encode_single_piece(kept) if kept else []
            at = run.end()
        ids += self._merging.encode_ordinary(text[at:])
        table = self.pieces.ids
        return ids if table is None else [table[rank] for rank in ids]

    def _place_specials(self) -> None:
        ids = self.specials.values()
        most = 2 * (len(self._words) + len(ids)) + 4096  # more would ask for memory that no file paid for
        need(
            all(0 <= id < most for id in ids),
            f"special tokens have ids {min(ids, default=0)} to {max(ids, default=0)}, far from the others",
            error=TokenizerError,
        )
        self._words += [b""] * (max(ids, default=-1) + 1 - len(self._words))
        for text, id in self.specials.items():
            need(text, f"special token {id} has no text", error=TokenizerError)
            need(
                not self._words[id],
                f"special token {text!r:.40} has another's id, {id}",
                error=TokenizerError,
            )
            self._words[id] = _utf8(text)
        for part in (self.bos_id, self.eos_id, self.pad_id, *self.stop_ids):
            inside = part is None or 0 <= part < len(self._words)
            need(inside, f"the file names token {part}, which its vocabulary lacks", error=TokenizerError)


class Stream:
    """Text as its tokens come. All pushes and the finish together are the decoding of all ids together."""

    def __init__(self, tokenizer: Tokenizer, special: bool):
        self._tokenizer, self._special = tokenizer, special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that this id completes; never half a character."""
        return self._decoder.decode(b"".join(self._tokenizer._bytes([id], self._special)))

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise TokenizerError(f"the special token {text!r:.60} is not text") from None
