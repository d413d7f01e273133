"""The definitions of the text kernels: plain Python that says what each number means, a document at a time.

They answer as the native twins do, to the last bit, and stand in where these could not be built. A document
is UTF-8; every byte that belongs to no valid sequence counts as one U+FFFD.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np

from puna.kernels import normal
from puna.kernels.characters import kinds_and_folds

SIXTY_FOUR = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
# Over kinds (characters.py). A letter of a script without spaces is a word; marks go with what they follow;
# an apostrophe between two letters is part of the word.
WORD = re.compile(r"[LD][LDM]*(?:'[LD][LDM]*)*|HM*")
SENTENCE_END = re.compile(r"[TW]+[C']*(?=[ \n]|$)|W[TW]*[C']*")
BULLETS = tuple("-*•‣●▪◦–")
POLICY = (
    b"terms of use",
    b"privacy policy",
    b"cookie policy",
    b"uses cookies",
    b"use of cookies",
    b"use cookies",
)
TERMINAL, JAVASCRIPT, LOREM_IPSUM, CURLY_BRACKET, NAMES_POLICY = 1, 2, 4, 8, 16


def mix(h: int) -> int:
    """Spread what 64 bits know over all of them."""
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & SIXTY_FOUR
    h = (h ^ h >> 27) * 0x94D049BB133111EB & SIXTY_FOUR
    return h ^ h >> 31


@lru_cache(1 << 16)
def hash_of(text: str) -> int:
    """The 64-bit hash of a string: multiply and exclude-or over its code points, then mixed."""
    h = GOLDEN
    for character in text:
        h = (h ^ ord(character)) * 0x100000001B3 & SIXTY_FOUR
    return mix(h)


def hash_of_normal(word: str) -> int:
    """The same of a normal word: a polynomial of its code points, then mixed in a way of its own."""
    h = sum((ord(c) + 1) * pow(GOLDEN, i, 1 << 64) for i, c in enumerate(word, 1)) & SIXTY_FOUR
    h = (h ^ h >> 31) * 0x7FB5D329728EA185 & SIXTY_FOUR
    h = (h ^ h >> 27) * 0x81DADEF4BC2DD44D & SIXTY_FOUR
    return h ^ h >> 33


def hash_of_words(hashes: Sequence[int]) -> int:
    """The hash of a run of words: a polynomial of their hashes, then mixed."""
    h = 0
    for word in hashes:
        h = h * GOLDEN + word & SIXTY_FOUR
    return mix(h)


class Document:
    """One text: its characters, their kinds, and the byte each begins at."""

    def __init__(self, data: bytes, first_byte: int):
        text = data.decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        sizes = 1 + (codes >= 0x80) + (codes >= 0x800).astype(np.int64) + (codes >= 0x10000)
        sizes[(codes >= 0xD800) & (codes < 0xE000)] = 1  # a byte that is not UTF-8
        self.bytes_at = np.concatenate(([first_byte], first_byte + np.cumsum(sizes)))
        self.text = re.sub("[\ud800-\udfff]", "\ufffd", text)
        kinds, folds = kinds_and_folds()
        self.kinds, self.folded = self.text.translate(kinds), self.text.translate(folds)
        self.words = [match.span() for match in WORD.finditer(self.kinds)]

    def lines(self) -> Iterator[tuple[int, int, int, int]]:
        """For each line: where it begins and ends, and where it does without white space around it."""
        start = 0
        for kinds in self.kinds.split("\n"):
            left, right = len(kinds) - len(kinds.lstrip(" ")), len(kinds.rstrip(" "))
            end = start + len(kinds)
            yield start, end, start + min(left, right), start + right
            start = end + 1


def documents(data: np.ndarray, offsets: np.ndarray) -> Iterator[Document]:
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield Document(data[start:end].tobytes(), start)


def _columns(rows: list[list[tuple]], *types: type) -> tuple[np.ndarray, ...]:
    """An array for each field of the entries of all documents, and where each document's begin."""
    fields = list(zip(*(entry for row in rows for entry in row), strict=True)) or [()] * len(types)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return *(np.array(field, kind) for field, kind in zip(fields, types, strict=True)), offsets


def words(data, offsets, meaning):
    """The words that words.py says, by hash and by first byte and byte behind."""
    rows = []
    for d in documents(data, offsets):
        if meaning in ("normal", "signs"):
            found = [(hash_of_normal(word), a, b) for word, a, b in _normal_words(d.text, meaning == "signs")]
        else:
            folded = d.folded if meaning == "plain" else _digits_alike(d)
            found = [(hash_of(folded[a:b]), a, b) for a, b in d.words]
        rows.append([(h, d.bytes_at[a], d.bytes_at[b]) for h, a, b in found])
    return _columns(rows, np.uint64, np.int64, np.int64)


def _digits_alike(d: Document) -> str:
    return "".join("0" if kind == "D" else c for c, kind in zip(d.folded, d.kinds, strict=True))


def _normal_words(text: str, signs: bool) -> list[tuple[str, int, int]]:
    """(folded word, where it begins, where it ends) of characters of one kind side by side; see normal.py."""
    kinds, folds = normal.kinds_and_folds()
    found: list[tuple[str, int, int]] = []
    last = " "
    for at, character in enumerate(text):
        for c in folds.get(ord(character), character):
            kind = " " if kinds[ord(c)] == "S" and not signs else kinds[ord(c)]
            if kind == last and kind in "LS":
                found[-1] = found[-1][0] + c, found[-1][1], at + 1
            elif kind != " ":
                found.append((c, at, at + 1))
            last = kind
    return found


def _rows_of(hashes: np.ndarray, first: np.ndarray) -> list[tuple[int, list[int]]]:
    """(number of the first word, hashes) of each row."""
    return [(a, hashes[a:b].tolist()) for a, b in pairwise(first.tolist())]


def runs(hashes, first, n):
    rows = [
        [(hash_of_words(row[i : i + n]), start + i) for i in range(len(row) - n + 1)]
        for start, row in _rows_of(hashes, first)
    ]
    return _columns(rows, np.uint64, np.int64)


def said_before(hashes, first, n, times):
    said = []
    for _, row in _rows_of(hashes, first):
        seen: Counter[tuple[int, ...]] = Counter()
        until = 0
        for i in range(len(row)):
            run = tuple(row[i : i + n])
            until = i + n if len(run) == n and seen[run] >= times else until
            seen[run] += 1
            said.append(i < until)
    return np.array(said, np.uint8)


def lookup(hashes, known, sieve):
    """The sieve makes no difference: it spares the native twin a search."""
    at = {h: place for place, h in reversed(list(enumerate(known.tolist())))}
    found = [(which, at[h]) for which, h in enumerate(hashes.tolist()) if h in at]
    return _columns([found], np.int64, np.int64)[:2]


def known_runs(hashes, first, n, known, sieve):
    found = runs(hashes, first, n)
    which, places = lookup(found[0], known, sieve)
    return found[1][which], places


def sets(hashes, offsets):
    return _columns([[(h,) for h in sorted(set(row))] for _, row in _rows_of(hashes, offsets)], np.uint64)


def shared(hashes, offsets, left, right):
    rows = [set(row) for _, row in _rows_of(hashes, offsets)]
    return np.array([len(rows[a] & rows[b]) for a, b in zip(left, right, strict=True)], np.int64)


def minhash(data, offsets, multiply, add, n, fewest):
    """The least of each permutation x * multiply + add, then x ^ x >> 15, of the 32-bit shingles x."""
    hashes, *_, places = words(data, offsets, "plain")
    plain, least = hashes.tolist(), np.full((len(places) - 1, len(multiply)), 0xFFFFFFFF, np.uint32)
    for row, (first, last) in enumerate(zip(places[:-1].tolist(), places[1:].tolist(), strict=True)):
        starts = range(first, max(last - n, first) + 1 if last > first else first)
        shingles = [hash_of_words(plain[i : min(i + n, last)]) >> 32 for i in starts]
        if shingles and last - first >= fewest:
            permuted = np.array(shingles, np.uint32)[:, None] * multiply + add
            least[row] = (permuted ^ permuted >> np.uint32(15)).min(axis=0)
    return least


def line_hashes(data, offsets):
    rows = [
        [
            (
                hash_of(d.text[left:right]) if right > left else 0,
                right - left,
                d.bytes_at[start],
                d.bytes_at[end],
            )
            for start, end, left, right in d.lines()
        ]
        for d in documents(data, offsets)
    ]
    return _columns(rows, np.uint64, np.int32, np.int64, np.int64)


def line_marks(data, offsets):
    rows = [
        [_line_mark(d, left, right) for _, _, left, right in d.lines() if right > left]
        for d in documents(data, offsets)
    ]
    return _columns(rows, np.int32, np.int32, np.int32, np.uint8, np.int64, np.int64)


def join_spans(data, starts, ends, offsets, feeds):
    plain, spans = data.tobytes(), list(zip(starts.tolist(), ends.tolist(), strict=True))
    texts = [
        (b"\n" if feeds else b"").join(plain[start:end] for start, end in spans[first:last])
        for first, last in pairwise(offsets.tolist())
    ]
    joined = np.frombuffer(b"".join(texts), np.uint8)
    return joined, np.cumsum([0, *map(len, texts)], dtype=np.int64)


def _line_mark(d: Document, left: int, right: int) -> tuple:
    kinds, text = d.kinds[left:right], d.text[left:right]
    pieces = [len(piece) for piece in kinds.split(" ") if piece]
    lowered = text.encode().lower()  # of ASCII letters only
    marks = TERMINAL * (text.endswith((".", "?", "!", '"', "'")) and not text.endswith("..."))
    marks |= JAVASCRIPT * (b"javascript" in lowered) | LOREM_IPSUM * (b"lorem ipsum" in lowered)
    marks |= CURLY_BRACKET * ("{" in text) | NAMES_POLICY * any(phrase in lowered for phrase in POLICY)
    return len(pieces), max(pieces), _sentences(kinds), marks, d.bytes_at[left], d.bytes_at[right]


def _sentences(kinds: str) -> int:
    """How many pieces between ends of sentences hold a word."""
    return sum(bool(re.search("[LHD]", piece)) for piece in SENTENCE_END.split(kinds))


def counters(data, offsets, stop_words, short_line, repeats):
    """(documents, names) int64, the names being text.COUNTERS; zeros under REPEATS if not asked for."""
    stops = set(stop_words.tolist())
    rows = [_counts(d, stops, short_line) + _repeats(d, repeats) for d in documents(data, offsets)]
    return np.array(rows, np.int64).reshape(len(offsets) - 1, 32)


def _counts(d: Document, stop_words: set[int], short_line: int) -> list[int]:
    found = [d.folded[a:b] for a, b in d.words]
    counts = [len(d.text), len(found), sum(map(len, found))]
    counts.append(sum(bool(re.search("[LH]", d.kinds[a:b])) for a, b in d.words))
    counts += [_symbols(d), d.text.count("#"), d.text.count("...") + d.text.count("…")]
    counts.append(len({hash_of(word) for word in found} & stop_words))
    counts.append(sum(_sentences(line) for line in d.kinds.split("\n")))
    pieces = d.kinds.replace("\n", " ").split()
    lines = _line_counts(d, short_line)
    return [*counts, *lines, len(pieces), sum(bool(re.search("[LH]", piece)) for piece in pieces)]


def _repeats(d: Document, wanted: bool) -> list[int]:
    found = [d.folded[a:b] for a, b in d.words] if wanted else []
    top = [_most_frequent(found, n) for n in (2, 3, 4)]
    return top + [_repeated(found, n) for n in (5, 6, 7, 8, 9, 10)]


def _symbols(d: Document) -> int:
    """Runs of one and the same symbol, but for a lone one between two words: 3,000 well-known U.S."""
    inside = [*d.kinds, " "]
    for a, b in d.words:
        inside[a:b] = "w" * (b - a)
    at = [i for i, kind in enumerate(inside) if kind in "STWC'" and not (i and d.text[i] == d.text[i - 1])]
    return sum(not (i and inside[i - 1] == inside[i + 1] == "w") for i in at)


def _line_counts(d: Document, short_line: int) -> list[int]:
    spans = [(left, right) for _, _, left, right in d.lines() if right > left]
    lines = [d.text[left:right] for left, right in spans]
    counts = [d.text.count("\n"), len(lines), sum(map(len, lines))]
    counts.append(sum(line.startswith(BULLETS) for line in lines))
    counts.append(sum(line.endswith(("...", "…")) for line in lines))
    counts.append(sum(d.kinds[right - 1] in "TW" for _, right in spans))
    counts.append(sum(len(line) <= short_line for line in lines))
    counts += _again(lines)
    paragraphs = [
        "\n".join(d.text[left:right] for _, _, left, right in group)
        for blank, group in groupby(d.lines(), lambda line: line[2] == line[3])
        if not blank
    ]
    return [*counts, len(paragraphs), *_again(paragraphs)]


def _again(parts: list[str]) -> list[int]:
    """How many parts stood there before, and their characters."""
    repeats = [(count - 1, len(part)) for part, count in Counter(parts).items()]
    return [sum(count for count, _ in repeats), sum(count * size for count, size in repeats)]


def _most_frequent(found: list[str], n: int) -> int:
    """Characters, spaces counted, of all places of the most frequent n-gram (of the first such)."""
    seen = Counter(tuple(found[i : i + n]) for i in range(len(found) - n + 1))
    words, count = max(seen.items(), key=lambda item: item[1], default=((), 0))
    return count * (sum(map(len, words)) + n - 1)


def _repeated(found: list[str], n: int) -> int:
    """Characters of n-grams that stood there before, going on behind each one found."""
    seen, characters, i = set(), 0, 0
    while i + n <= len(found):
        gram = tuple(found[i : i + n])
        if gram in seen:
            characters += sum(map(len, gram))
            i += n
        else:
            seen.add(gram)
            i += 1
    return characters
