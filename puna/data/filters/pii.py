"""What points at a person is masked: e-mail, IP, IBAN, payment card, social security number, telephone.

Each kind is an expression that proposes and a check that decides (ranges, Luhn, mod 97, numbering plans):
better leave an odd one than spoil version numbers, ISBNs, dates and decimals. The expressions are RE2's,
linear in the text. API keys are secrets.py's.
"""

import ipaddress
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import re2

from puna.data.filters.masking import Span, masked
from puna.data.stage import Annotation, Gate, Verdict, first_reason

Kind = Literal["email", "ip", "iban", "card", "ssn", "phone"]  # looked for in this order

EMAIL = re2.compile(rb"[A-Za-z0-9][A-Za-z0-9._%+'-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
IPV4 = re2.compile(rb"\d{1,3}(?:\.\d{1,3}){3}")
IPV6 = re2.compile(rb"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]*")
IBAN = re2.compile(rb"[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]){11,30}")
CARD = re2.compile(rb"\d(?:[ -]?\d){12,18}")
SSN = re2.compile(rb"\d{3}-\d{2}-\d{4}")
NUMBER = re2.compile(rb"\+?\(?\d[\d ()./-]{5,20}\d")
FILES = frozenset(b"png jpg jpeg gif svg webp css js ts py html htm pdf mp3 mp4 json xml txt".split())
RESERVED = (
    b".example",
    b".test",
    b".invalid",
    b".localhost",
    b".local",
    b"@example.com",
    b"@example.org",
    b"@example.net",
)
# Characters of an account number by country that issues IBANs (the registry of ISO 13616).
LENGTHS = """
15 NO
16 BE
18 DK FI FK FO GL NL SD
19 MK SI
20 AT BA EE KZ LT LU MN XK
21 CH CR HR LI LV
22 BG BH DE GB GE IE ME RS VA
23 AE GI IL IQ OM SO TL
24 AD CZ ES MD PK RO SA SE SK TN VG
25 LY PT ST
26 IS TR
27 BI DJ FR GR IT MC MR SM
28 AL AZ BY CY DO GT HN HU LB NI PL SV
29 BR EG PS QA UA
30 JO KW MU YE
31 MT SC
32 LC
33 RU
"""
IBAN_LENGTH = {code: int(line[:2]) for line in LENGTHS.strip().splitlines() for code in line.split()[1:]}
# (first and last number that the first digits may be, how many digits): issuers' ranges of ISO 7812;
# rarer lengths are left out, for too many other numbers have them.
CARDS = (
    ("4", "4", (16,)), ("51", "55", (16,)), ("2221", "2720", (16,)), ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16,)), ("644", "659", (16,)), ("3528", "3589", (16,)), ("36", "36", (14,)),
    ("38", "39", (14,)), ("300", "305", (14,)), ("62", "62", (16,)),
)  # fmt: skip
GROUPS = ([4, 4, 4, 4], [4, 6, 5], [4, 6, 4])
# Country codes of the telephone (E.164): how those of two digits and those of three begin; else 1 and 7.
CODES = """
20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86
90 91 92 93 94 95 98
21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 85 88 96 97 99
""".split()  # noqa: SIM905
INTERNATIONAL = re2.compile(rb"(?:\+|\b00)[1-9]\d{0,2}(?:[ ./-]?(?:\(\d{1,5}\)|\d{1,12})){1,6}")
# National ways of writing: North America; Britain; France; Germany; Japan; Brazil; China's mobiles.
NATIONAL = re2.compile(
    rb"(?:1[ .-])?(?:\([2-9][0-8]\d\) ?|[2-9][0-8]\d[ .-])[2-9]\d\d[ .-]\d{4}"
    rb"|(?:\(0[1-3]\d{1,3}\) ?|0[1-37]\d{1,4} )\d{3,4} ?\d{3,4}"
    rb"|0[1-9](?: \d\d){4}|0[1-9](?:\.\d\d){4}|0[1-9](?:-\d\d){4}"
    rb"|0[1-9]\d{1,4}[/-] ?\d{5,8}(?:-\d{1,3})?|0[1-9]\d{1,4}/\d{2,4}(?: \d{2,4}){1,3}"
    rb"|0\d-\d{4}-\d{4}|0\d{2}-\d{3}-\d{4}|0\d{2}-\d{4}-\d{4}|0\d{3}-\d{2}-\d{4}"
    rb"|\([1-9]\d\) ?9?\d{4}-\d{4}"
    rb"|1[3-9]\d[ -]\d{4}[ -]\d{4}"
)
CALLED = re2.compile(  # what stands before a number that somebody is asked to call
    (
        r"(?i)(?:\b(?:tel|phone|fax|mobile|mob|cell|call|whatsapp|telefon|telefax|handy|telefone|ring)"
        r"|tél|teléfono|téléphone|тел|телефон|电话|電話)[^0-9\n\]>]{0,12}$"
    ).encode()
)
DATE = re2.compile(rb"\d{4}[ ./-]\d\d?[ ./-]\d\d?|\d\d?[ ./-]\d\d?[ ./-]\d{4}")
VERSION = re2.compile(
    r"(?i)(?:\bv|\bver\.?|\bversions?|\brelease|\bsection|\bsec\.?|§|[=~<>]=)[ :]?$|[A-Za-z]/$".encode()
)
ADDRESS = re2.compile(
    rb"(?i)(?:\bip(?:v4)?|\baddress|\bhost|\bserver|\bfrom|\bping|\bdns)\W{1,4}(?:is )?$|//$|@$"
)
# Not public (IANA's registries of special addresses), written out so that no library's edition decides.
SPECIAL = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
2001::/23 2001:db8::/32 2002::/16 3fff::/20
"""
PRIVATE = [ipaddress.ip_network(net) for net in SPECIAL.split()]


def spans(text: bytes, propose: re2._Regexp, length: Callable[[bytes, int, int], int]) -> Iterator[Span]:
    """Where the expression matches and the check agrees: it says how many bytes are meant, or 0."""
    at = 0
    while match := propose.search(text, at):
        start, end = match.span()
        meant = length(text, start, end)
        if meant:
            yield start, start + meant
        space = text.find(b" ", start, end)
        at = start + meant if meant else space if space > start else end


def _alone(text: bytes, start: int, end: int, joins: bytes) -> bool:
    """Whether a number is not part of a longer word or number, joined by one of these signs."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if any(side.isalnum() or side in (b"_", b"$", b"#") for side in (before[-1:], after[:1])):
        return False
    longer = len(before) == 2 and before[1] in joins and before[:1].isdigit()
    longer |= b" " in text[start:end] and before[-1:] == b" " and before[:1].isdigit()
    return not longer and not (len(after) == 2 and after[0] in joins and after[1:].isalnum())


def _digits(text: bytes) -> str:
    return text.translate(None, b" ().+/-").decode()


def _email(text: bytes, start: int, end: int) -> int:
    found = text[start:end].rstrip(b"-")
    local, _, domain = found.rpartition(b"@")
    labels = domain.lower().split(b".")
    good = len(local) <= 64 and len(domain) <= 253 and b".." not in local and not local.endswith(b".")
    named = (labels[-1].isalpha() and 2 <= len(labels[-1]) <= 24) or labels[-1].startswith(b"xn--")
    well = all(label and label[:1] != b"-" and label[-1:] != b"-" for label in labels)
    nobody = (
        found.lower().endswith(RESERVED) or labels[-1] in FILES or local == b"git"
    )  # git@ is a repository's
    return len(found) if good and named and well and not nobody else 0


def _public(found: bytes) -> bool:
    try:
        address = ipaddress.ip_address(found.decode())
    except ValueError:
        return False
    return not any(address in net for net in PRIVATE if net.version == address.version)


def _ipv4(text: bytes, start: int, end: int) -> int:
    before, after = text[max(0, start - 16) : start], text[end : end + 2]
    if not _alone(text, start, end, b".") or (VERSION.search(before) and not ADDRESS.search(before)):
        return 0
    small = all(
        len(octet) == 1 for octet in text[start:end].split(b".")
    )  # 1.2.3.4 is rather a version, a section
    if (small and not ADDRESS.search(before)) or (after[:1] in (b"-", b"+") and after[1:].isalpha()):
        return 0
    if after[:1] == b"/" and after[1:].isdigit():  # a network
        return 0
    return end - start if _public(text[start:end]) else 0


def _ipv6(text: bytes, start: int, end: int) -> int:
    found = text[start:end]
    found = found[:-1] if found.endswith(b":") and not found.endswith(b"::") else found
    inside = text[start - 1 : start] if start else b""
    joined = inside.isalnum() or inside in (b":", b"_") or text[start + len(found) :][:1].isalnum()
    network = re2.match(rb"/\d", text[start + len(found) : start + len(found) + 2])
    return len(found) if not joined and not network and _public(found) else 0


def _iban(text: bytes, start: int, end: int) -> int:
    found, size = bytearray(), IBAN_LENGTH.get(text[start : start + 2].decode(), 0)
    at = start
    while at < end and len(found) < size:
        if text[at] not in b" -":
            found.append(text[at])
        at += 1
    if len(found) < max(size, 1) or not _alone(text, start, at, b""):
        return 0
    number = int("".join(str(int(chr(c), 36)) for c in found[4:] + found[:4]))
    return at - start if number % 97 == 1 else 0


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO 7812)."""
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _card(text: bytes, start: int, end: int) -> int:
    before = text[max(0, start - 2) : start]
    if before[-1:] == b" " and before[:1].isdigit() and b" " in text[start : start + 13]:
        return 0  # one of many groups
    digits = _digits(text[start:end])
    sizes = {size for a, b, lengths in CARDS if a <= digits[: len(a)] <= b for size in lengths}
    count = len(digits)
    for stop in range(end, start + 12, -1) if sizes else ():
        if count in sizes and _is_card(text, start, stop):
            return stop - start
        count -= text[stop - 1 : stop].isdigit()
    return 0


def _is_card(text: bytes, start: int, stop: int) -> bool:
    found = text[start:stop].decode()
    groups = [len(group) for group in found.replace("-", " ").split(" ")]
    even = len(groups) == 1 or (len(set(found) & set(" -")) == 1 and groups in GROUPS)
    return even and luhn(_digits(text[start:stop])) and _alone(text, start, stop, b".-")


def _ssn(text: bytes, start: int, end: int) -> int:
    area, group, serial = text[start:end].split(b"-")
    given = area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"
    return end - start if given and _alone(text, start, end, b"-.") else 0


def _international(text: bytes, start: int, end: int) -> int:
    found = text[start:end]
    digits = _digits(found).removeprefix("00")
    parted = len(digits) < len(found.lstrip(b"+"))
    north = digits[0] == "1" and len(digits) == 11 and digits[1] in "23456789" and digits[4] in "23456789"
    known = digits[:2] in CODES or (digits[0] == "7" and len(digits) == 11) or north
    long = (8 if parted else 10) <= len(digits) <= 15 and (parted or found[:1] == b"+")
    return end - start if known and long and _alone(text, start, end, b".-/+:,") else 0


def _national(text: bytes, start: int, end: int) -> int:
    found = text[start:end]
    pairs = [int(pair) for pair in re2.split(rb"[ .-]", found) if len(pair) == 2 and pair.isdigit()]
    counted = len(pairs) == 5 and {b - a for a, b in pairwise(pairs)} == {1}  # 01 02 03 04 05
    good = 9 <= len(_digits(found)) <= 13 and not counted
    return end - start if good and _alone(text, start, end, b".-/+:,") else 0


def _called(text: bytes, start: int, end: int) -> int:
    dated = DATE.fullmatch(text[start:end])
    good = not dated and 7 <= len(_digits(text[start:end])) <= 15 and _alone(text, start, end, b".-/+:,")
    return end - start if good and CALLED.search(text[max(0, start - 24) : start]) else 0


RULES: dict[Kind, tuple[tuple[str, re2._Regexp, Callable[[bytes, int, int], int]], ...]] = {
    "email": (("@", EMAIL, _email),),
    "ip": ((r"\d\.\d{1,3}\.\d{1,3}\.\d", IPV4, _ipv4), (r"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]*:", IPV6, _ipv6)),
    "iban": ((r"[A-Z]{2}\d\d[ -]?[A-Z0-9]{4}", IBAN, _iban),),
    "card": ((r"\d(?:[ -]?\d){12}", CARD, _card),),
    "ssn": ((r"\d{3}-\d{2}-\d{4}", SSN, _ssn),),
    "phone": (
        (r"(?:\+|00)[1-9][\d .(/-]", INTERNATIONAL, _international),
        (r"\d[ ().-]{0,2}\d{2,4}[ .-]?\d\d|\d/\d{3}", NATIONAL, _national),
        (r"\d[\d ().-]{5}", NUMBER, _called),
    ),
}  # kind -> (a cheap look at the row, an expression that proposes, the check)


class Pii(Annotation):
    """Masks what points at a person and counts it: `pii.email` and so on, of every kind."""

    name = "pii.mask"
    writes = {f"pii.{kind}": pa.int32() for kind in RULES}

    kinds: tuple[Kind, ...] = ("email", "ip", "iban", "card", "ssn", "phone")  # others are left alone
    placeholders: dict[Kind, str] = {}  # else [EMAIL] and so on

    def __call__(self, table: pa.Table) -> pa.Table:
        texts = table["text"]
        for kind, rules in RULES.items():
            counts = np.zeros(len(table), np.int32)
            for hint, propose, length in rules if kind in self.kinds else ():
                find = partial(spans, propose=propose, length=length)
                texts, found = masked(texts, hint, find, self.placeholders.get(kind, f"[{kind.upper()}]"))
                counts += found
            table = table.append_column(f"pii.{kind}", pa.array(counts))
        return table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), texts)


class PiiGate(Gate):
    """Drops documents that are mostly about how to reach people: directories, leaks, lists [P 3.1]."""

    name = "pii.gate"
    reads = ("text", *Pii.writes)
    reasons = ("pii.too_much",)

    most: float = 10.0  # found things per 1,000 characters; our own: one in each line of 100
    least: int = 20  # of them, before a document counts as a list

    def __call__(self, table: pa.Table) -> Verdict:
        found = sum(table[column].to_numpy() for column in Pii.writes)
        rate = 1000 * found / np.maximum(pc.utf8_length(table["text"]).to_numpy(), 1)
        return first_reason(len(table), [((rate > self.most) & (found >= self.least), 0, rate)])
