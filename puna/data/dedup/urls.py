"""One address, one document: of all visits to a page the latest stays.

Addresses are compared in a canonical form: what names the same page by the rules of URLs, or differs only in
who sent the visitor, is the same address. Documents without an address are left alone.
"""

import hashlib
import re

import pyarrow as pa

from puna.data.dedup.earlier import Crawl
from puna.data.dedup.order import binary16, halves, one_survivor, standing
from puna.data.rounds import Round

# The five parts of RFC 3986, appendix B; it matches any text and never backtracks far.
_PARTS = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.S)
_PORT = re.compile(r"(?<=[^:\[]):(\d*)\Z", re.A)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PORTS = {"http": "80", "https": "443", "ftp": "21"}
TRACKING = (  # parameters that say where a visitor came from, not what the page is
    "utm_*",
    "mc_cid",
    "mc_eid",
    "fbclid",
    "gclid",
    "gclsrc",
    "dclid",
    "msclkid",
    "yclid",
    "igshid",
    "twclid",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "mkt_tok",
    "ref_src",
    "spm",
    "wt_mc",
    "phpsessid",
    "jsessionid",
)


class SameAddress(Crawl):
    """Drops all but the latest visit to an address [Llama 3, 3.1: the most recent version is kept]."""

    name = "dedup.url"
    version = 2  # routes after # are pages
    reads = ("id", "url", "date")
    keyed = ("tracking", "one_scheme")
    reasons = ("dedup.url.older",)
    tracking: tuple[str, ...] = TRACKING  # names of parameters; a last * stands for any ending
    one_scheme: bool = True  # http and https name the same page

    def rounds(self) -> tuple[Round, ...]:
        return (Round("urls", self.emit, self.reduce),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """Each document that has an address, under the hash of its canonical form."""
        names, table = self.names(), table.select(["id", "url", "date"])
        forms = [canonical(url, names, self.one_scheme) for url in table["url"].to_pylist()]
        table = table.filter(pa.array([bool(form) for form in forms], pa.bool_()))
        digests = binary16([hashlib.blake2b(f.encode(), digest_size=16).digest() for f in forms if f])
        key, rest = halves(digests).T
        # no text, so no length: the date decides, then the id
        return pa.table({"key": key, "rest": rest, **standing(table, shard)})

    def names(self) -> re.Pattern[str]:
        """What matches the name of a tracking parameter."""
        either = [re.escape(name.removesuffix("*")) + ".*" * name.endswith("*") for name in self.tracking]
        return re.compile("|".join(either), re.S)

    def reduce(self, rows: pa.Table) -> pa.Table:
        return one_survivor(self.with_earlier(rows, "urls"))


def canonical(url: str, tracking: re.Pattern[str], one_scheme: bool = True) -> str:
    """The form of an address in which two that name the same page are equal; "" if it is none."""
    match = _PARTS.fullmatch(url.strip())
    assert match, "the five parts are all optional"
    scheme, authority, path, query, within = (part or "" for part in match.groups())
    scheme = scheme.lower()
    if scheme not in _PORTS or not authority:
        return ""  # a path of a file, a mistake
    user, _, host = authority.rpartition("@")
    match = _PORT.search(host)
    host = host.removesuffix(match[0]) if match and match[1] in ("", _PORTS.get(scheme)) else host
    place = f"{user}@" * bool(user) + host.lower().rstrip(".")
    kept = [
        part for part in query.split("&") if part and not tracking.fullmatch(part.partition("=")[0].lower())
    ]
    scheme = "http" if one_scheme and scheme == "https" else scheme
    asked = "?" + "&".join(map(_unescaped, kept)) if kept else ""
    route = (
        f"#{within}" if within.startswith(("!", "/")) else ""
    )  # a page of an application, not a place in it
    return f"{scheme}://{place}{_unescaped(path) or '/'}{asked}{route}"


def _unescaped(part: str) -> str:
    """Escapes in one spelling: letters and digits as themselves, hexadecimal digits in capitals."""

    def spell(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    return _ESCAPE.sub(spell, part)
