"""Where a page comes from says much about it: hosts and domains as columns, and lists of unwanted ones.

Addresses are taken apart as browsers do: what stands before the last `@` is no host, `\\` is `/`, a number
may be an IPv4 address, other alphabets become punycode. A long list is a file of sorted hashes (compiled.py).
Public suffixes are a rule of our own, not the full list: the last label; `co.uk` and its like (a general word
below a country); and hosts that give names to strangers. It does not know k12.us, city names of .jp, or *.ck.
"""

import ipaddress
import re
import unicodedata
from functools import lru_cache
from itertools import product
from string import ascii_lowercase
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.filters.compiled import compiled
from puna.data.filters.hashing import buffers, is_in, range_hashes
from puna.data.filters.lists import Stamps, entries, stamps, with_lists
from puna.data.stage import Annotation, Gate, Verdict, first_reason

NUMBER = r"^[0-9.]+$|^\["  # a host that is an IP address
WHOLE = r"(?:^|[^\pL\pN])(?:{})(?:$|[^\pL\pN])"
EMPTY = pa.scalar("", pa.large_string())
LONGEST = 8192  # bytes of an address; a longer one is no address
GENERAL = "ac co com edu gob gouv gov go gv id ind info ltd mil ne net nom or org plc sch web"
STRANGERS = (  # each name below these belongs to somebody else
    "blogspot.com wordpress.com tumblr.com github.io gitlab.io livejournal.com weebly.com wixsite.com "
    "herokuapp.com netlify.app vercel.app pages.dev web.app firebaseapp.com altervista.org over-blog.com"
)


def parts(urls: pa.ChunkedArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    """(scheme, host, the rest without its fragment) of each address; no scheme, no host: it is a path."""
    urls = pa.concat_arrays(
        [pa.array([], pa.large_string()), *urls.cast(pa.large_string()).fill_null("").chunks]
    )
    urls = pc.if_else(pc.greater(pc.binary_length(urls), LONGEST), "http://?", urls)
    urls = pc.replace_substring_regex(urls, r"^[\x00-\x20]+|[\x00-\x20]+$|[\t\r\n]", "")
    found = pc.extract_regex(
        urls, r"(?s)^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):[/\\]{2}[/\\]*(?P<host>[^/\\?#]*)(?P<rest>[^#]*)"
    )
    scheme, host, rest = (pc.struct_field(found, i) for i in range(3))
    alone = pc.extract_regex(urls, r"^(?P<scheme>(?i:javascript|data|mailto|blob|about|tel)):")
    alone = pc.struct_field(alone, 0)
    scheme = pc.ascii_lower(pc.coalesce(scheme, alone, EMPTY))
    host = pc.ascii_lower(pc.replace_substring_regex(host.fill_null(""), r"(?s)^.*@|:[0-9]*$", ""))
    host = pc.replace_substring_regex(host, r"\.$", "")
    odd = pc.match_substring_regex(host, r"[^a-z0-9._-]|(^|\.)(0x[0-9a-f]*|[0-9]+)$|\.\.|^\.|.{254}")
    if pc.any(odd).as_py():
        host = pc.replace_with_mask(
            host, odd, pa.array(map(plain_host, host.filter(odd).to_pylist()), host.type)
        )
    return scheme, host, rest.fill_null("")


def plain_host(host: str) -> str:
    """A host of other alphabets in punycode, an address of numbers in its usual form; "" if it is neither."""
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host.strip('[]'))}]"
        host = unicodedata.normalize("NFKC", unquote(host)).strip(".")
        host = host.encode("idna").decode().lower() if len(host) < 254 else ""
        number = _ipv4(host.split("."))
    except (UnicodeError, ValueError):
        return ""
    good = host.replace(".", "").replace("-", "").replace("_", "").isalnum() and len(host) < 254
    return number or (host if good and ".." not in host else "")


def _ipv4(labels: list[str]) -> str:
    """1.2.3.4 of one to four decimal, octal or hexadecimal numbers; the last fills the rest of 32 bits."""
    if not (labels[-1].isdigit() or labels[-1].startswith("0x")):
        return ""
    bases = [
        16 if label.startswith("0x") else 8 if label[0] == "0" and label != "0" else 10 for label in labels
    ]
    *heads, last = [
        int(label[2:] or "0", 16) if b == 16 else int(label, b)
        for label, b in zip(labels, bases, strict=True)
    ]
    if len(heads) > 3 or any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        raise ValueError("no IPv4 address")
    return str(ipaddress.IPv4Address(sum(head << 24 - 8 * i for i, head in enumerate(heads)) + last))


def _suffixes(hosts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(hash, row, start in its host, public?) of each host and of what follows each of its dots; lengths."""
    data, offsets = buffers(hosts)
    starts = np.sort(np.concatenate((offsets[:-1], np.flatnonzero(data == ord(".")) + 1)))
    rows = np.searchsorted(offsets, starts, "right") - 1
    starts, rows = starts[rows < len(hosts)], rows[rows < len(hosts)]
    ends = offsets[rows + 1]
    hashes = range_hashes(data, starts, ends)
    last_label = np.r_[rows[1:] != rows[:-1], True]
    number = np.isin(data[ends - 1], list(b"0123456789]"))  # no name of a country ends so
    public = (last_label | is_in(hashes, _public())) & ~number
    return hashes, rows, starts - offsets[rows], public, np.diff(offsets)


def domains(hosts: pa.Array) -> pa.Array:
    """The names that somebody registered: a label and the public suffix above it; an IP address is whole."""
    _, rows, starts, public, lengths = _suffixes(hosts)
    number = _true(pc.match_substring_regex(hosts, NUMBER))
    owned = ~public & ~(number[rows] & (starts > 0))
    first = np.zeros(len(hosts), np.int64)
    np.maximum.at(first, rows[owned], starts[owned])
    data, offsets = buffers(hosts)
    sizes = lengths - first
    ends = np.cumsum(sizes)
    at = np.repeat(offsets[:-1] + first - (ends - sizes), sizes) + np.arange(ends[-1] if len(ends) else 0)
    pieces = [None, pa.py_buffer(np.r_[0, ends].astype(np.int64)), pa.py_buffer(data[at])]
    return pa.Array.from_buffers(pa.large_string(), len(hosts), pieces)


def _text_hashes(texts: pa.Array) -> np.ndarray:
    data, offsets = buffers(texts)
    return range_hashes(data, offsets[:-1], offsets[1:])


@lru_cache(1)
def _public() -> np.ndarray:
    countries = map("".join, product(ascii_lowercase, repeat=2))
    general = [f"{word}.{country}" for country, word in product(countries, GENERAL.split())]
    return np.unique(_text_hashes(pa.array(general + STRANGERS.split(), pa.large_string())))


@lru_cache(8)
def _hosts(given: tuple[str, ...], paths: Stamps) -> tuple[np.ndarray, ...]:
    """The sorted hashes of the hosts of each list; those of files are mapped, not held."""
    lists = [compiled(path, _block_hashes) for path, *_ in paths]
    if given or not lists:
        lists.append(np.unique(_block_hashes("\n".join(given).encode())))
    return tuple(lists)


def _block_hashes(block: bytes) -> np.ndarray:
    lines = pc.split_pattern(pa.scalar(block.decode("utf-8", "replace"), pa.large_string()), "\n").values
    lines = pc.ascii_lower(pc.ascii_trim(lines, " \t\r*."))
    odd = pc.match_substring_regex(lines, r"[^a-z0-9._-]")
    plain = [plain_host(line) for line in lines.filter(odd).to_pylist() if not line.startswith("#")]
    lines = pa.concat_arrays([lines.filter(pc.invert(odd)), pa.array(plain, pa.large_string())])
    lines = lines.filter(pc.greater(pc.binary_length(lines), 0))
    return _text_hashes(lines)


@lru_cache(4)
def _addresses(given: tuple[str, ...], paths: Stamps) -> np.ndarray:
    """The sorted hashes of listed addresses; one without a scheme is of the web."""
    lines = [line if "://" in line else f"http://{line}" for line in entries(given, paths)]
    _, host, rest = parts(pa.chunked_array([pa.array(lines, pa.large_string())]))
    return np.unique(_text_hashes(_keys(host, rest)))


def _keys(host: pa.Array, rest: pa.Array) -> pa.Array:
    """An address without what makes no difference: scheme, user, port, fragment, a slash at its end."""
    return pc.binary_join_element_wise(host, pc.replace_substring_regex(rest, r"[/\\]+$", ""), EMPTY)


class Hosts(Annotation):
    """The host and the registered domain of each document, for reports, caps and lists."""

    name = "urls.hosts"
    reads = ("url",)
    writes = {"url.host": pa.large_string(), "url.domain": pa.large_string()}

    def __call__(self, table: pa.Table) -> pa.Table:
        host = parts(table["url"])[1]
        return table.append_column("url.host", host).append_column("url.domain", domains(host))


class UrlLists(Gate):
    """Drops documents by their address: lists from the recipe or from files that it names. A path passes."""

    name = "urls.lists"
    reads = ("url",)
    reasons = (
        "url.malformed", "url.scheme", "url.ip_host", "url.domain", "url.host", "url.listed",
        "url.hard_word", "url.soft_words", "url.part",
    )  # fmt: skip

    schemes: tuple[str, ...] = ("http", "https")
    ip_hosts: bool = True  # whether pages of hosts without a name may stay
    domains: tuple[str, ...] = ()  # these and all below them; a public suffix only as a host
    domain_files: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # these alone
    host_files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    url_files: tuple[str, ...] = ()
    hard_words: tuple[str, ...] = ()  # one of these is enough
    hard_word_files: tuple[str, ...] = ()
    soft_words: tuple[str, ...] = ()
    soft_word_files: tuple[str, ...] = ()
    soft_least: int = 2  # different soft words that are enough; 2 in the FineWeb pipeline
    parts: tuple[str, ...] = ()  # anywhere, whatever stands between their letters
    part_files: tuple[str, ...] = ()

    def opens(self) -> tuple[str, ...]:
        files = self.domain_files + self.host_files + self.url_files
        return files + self.hard_word_files + self.soft_word_files + self.part_files

    def fingerprint(self) -> str:
        return with_lists(self, self.opens())

    def __call__(self, table: pa.Table) -> Verdict:
        scheme, host, rest = parts(table["url"])
        web, number = _true(pc.not_equal(scheme, "")), _true(pc.match_substring_regex(host, NUMBER))
        wrong = web & ~np.isin(scheme.to_numpy(zero_copy_only=False).astype(str), self.schemes)
        nameless = web & ~wrong & _true(pc.equal(host, ""))
        hashes, rows, starts, public, _ = _suffixes(host)
        below = is_in(hashes, *_hosts(self.domains, stamps(self.domain_files))) & (~public | (starts == 0))
        alone = is_in(hashes, *_hosts(self.hosts, stamps(self.host_files))) & (starts == 0)
        below, alone = (np.bincount(rows, hit, len(host)) > 0 for hit in (below, alone))
        listed = is_in(_text_hashes(_keys(host, rest)), _addresses(self.urls, stamps(self.url_files)))
        hard, soft, part = self._words(pc.binary_join_element_wise(host, rest, EMPTY))
        found = (nameless, wrong, number & (not self.ip_hosts), below, alone, listed & web)
        rules = [*found, hard, soft >= self.soft_least, part]
        return first_reason(len(table), [(hit, i, soft if i == 7 else hit) for i, hit in enumerate(rules)])

    def _words(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(whether a hard word stands in each address, how many soft ones, whether a part does)."""
        coded = pc.match_substring(texts, "%")
        if pc.any(coded).as_py():
            plain = [unquote(text) for text in texts.filter(coded).to_pylist()]
            texts = pc.replace_with_mask(texts, coded, pa.array(plain, texts.type))
        texts = pc.utf8_lower(texts)
        hard = _any(texts, entries(self.hard_words, stamps(self.hard_word_files)), WHOLE)
        wanted = {word.lower() for word in entries(self.soft_words, stamps(self.soft_word_files))}
        soft = np.zeros(len(texts), int)
        some = np.flatnonzero(_any(texts, sorted(wanted), WHOLE))
        soft[some] = [len(wanted.intersection(re.split(r"[\W_]+", texts[i].as_py()))) for i in some]
        known = entries(self.parts, stamps(self.part_files))
        part = _any(pc.replace_substring_regex(texts, r"[^\pL\pN]+", "") if known else texts, known, "(?:{})")
        return hard, soft, part


def _true(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def _any(texts: pa.Array, known: list[str], form: str) -> np.ndarray:
    """Which texts contain one of the words, in a regular expression of this form."""
    if not known:
        return np.zeros(len(texts), bool)
    return _true(
        pc.match_substring_regex(texts, form.format("|".join(re.escape(word.lower()) for word in known)))
    )
