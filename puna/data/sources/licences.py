"""Which licence something is under, as an SPDX expression: told by its SPDX line, by the words that only this
licence has, by the manifest of a package, or by a page's link.

A short recogniser, not a lawyer: what it does not know for certain it calls "unknown". "Or later" is left
out: who may use a text under version 2 or later may use it under version 2.
"""

import json
import re
import tomllib
from typing import Any
from urllib.parse import urlsplit

UNKNOWN = "unknown"
NEAR = (
    3000  # characters of words; a text that names its licence later is another one, such as a company's own
)

KNOWN = (
    *("MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause", "0BSD", "ISC", "Zlib"),
    *("BSL-1.0", "PSF-2.0", "Python-2.0", "HPND", "X11", "Artistic-1.0", "Artistic-2.0", "OpenSSL", "curl"),
    *(
        "GPL-1.0",
        "GPL-2.0",
        "GPL-3.0",
        "LGPL-2.0",
        "LGPL-2.1",
        "LGPL-3.0",
        "AGPL-3.0",
        "GFDL-1.2",
        "GFDL-1.3",
    ),
    *(
        "MPL-1.1",
        "MPL-2.0",
        "EPL-1.0",
        "EPL-2.0",
        "CDDL-1.0",
        "OFL-1.1",
        "Unlicense",
        "WTFPL",
        "BlueOak-1.0.0",
    ),
    *(
        "CC0-1.0",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "CC-BY-SA-3.0",
        "CC-BY-SA-4.0",
        "Unicode-3.0",
        "NCSA",
        "PostgreSQL",
    ),
)
_EXCEPTIONS = ("LLVM-exception", "Classpath-exception-2.0", "Linux-syscall-note", "GCC-exception-3.1",
               "Autoconf-exception-3.0", "Bison-exception-2.2")  # fmt: skip
_ALIASES = {  # what Debian and others call them
    "expat": "MIT", "mit/x11": "MIT", "apache2": "Apache-2.0", "psf-2": "PSF-2.0", "psf": "PSF-2.0",
    "zlib/libpng": "Zlib", "artistic": "Artistic-1.0", "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "mit license": "MIT", "the mit license": "MIT", "isc license": "ISC", "boost-1.0": "BSL-1.0",
}  # fmt: skip
_NAMES = {name.lower(): name for name in KNOWN} | _ALIASES
_TAIL = re.compile(r"(-only|-or-later|\+)$", re.IGNORECASE)
_FAMILY = re.compile(r"(a?gpl|l?gpl|gfdl)-?v?(\d)(\.\d)?$", re.IGNORECASE)  # "GPL-2", "GPLv3"
_PARTS = re.compile(r"[()]|[^\s()]+")
SPDX = re.compile(rb"SPDX-License-Identifier:\s*([A-Za-z0-9.+() -]{1,200})")

_FIELD = re.compile(r"^(Files|License):((?:.*)(?:\n[ \t].*)*)", re.MULTILINE)

_V = r",? ?(?:as published.{0,60} )?(?:either )?(?:\(?version |\(?v\.? ?)"
# Where the first of these stands tells which text it is: the GPL's own text names the LGPL near its end.
_WORDS = (  # each begins with plain letters, which are found fast
    ("MIT", r"permission is hereby granted,? free of charge,? to any person obtaining a copy"),
    ("MIT", r" mit license\b"),
    ("MIT", r" \(mit\) license"),
    ("Apache-2.0", r"apache license,? ?(?:version |v\.? ?)?2(?:\.0|\b)"),
    ("Apache-2.0", r"www\.apache\.org licenses license 2\.0"),
    ("Apache-2.0", r"version 2\.0, january 2004 https?: www\.apache\.org"),
    ("Apache-2.0", r"apache 2\.0 +$"),
    ("BSD", r"redistribution and use (?:of this software )?in source and binary forms"),
    ("ISC", r"permission to use, copy, modify,? and or distribute this software for any"),
    (
        "ISC",
        r"permission to use, copy, modify, and distribute this software for any purpose with",
    ),
    ("HPND", r"permission to use, copy, modify,? and distribute this software and its documentation for any"),
    ("Zlib", r"altered source versions must be plainly marked"),
    ("BSL-1.0", r"boost software license,? ?(?:version |v\.? ?)1\.0"),
    ("PSF-2.0", r"python software foundation license version 2"),
    ("PSF-2.0", r"created in the early 1990s by guido van rossum"),
    ("AGPL-3.0", rf"gnu affero general public license{_V}3"),
    ("LGPL-2.0", rf"gnu library general public license{_V}2\b"),
    ("LGPL-2.1", rf"gnu lesser general public license{_V}2\.1"),
    ("LGPL-3.0", rf"gnu lesser general public license{_V}3"),
    ("GPL-1.0", rf"gnu general public license{_V}1\b"),
    ("GPL-2.0", rf"gnu general public license{_V}2\b"),
    ("GPL-3.0", rf"gnu general public license{_V}3"),
    ("GFDL-1.2", rf"gnu free documentation license{_V}1\.2"),
    ("GFDL-1.3", rf"gnu free documentation license{_V}1\.3"),
    ("MPL-1.1", r"mozilla public license,? ?(?:version|v\.) ?1\.1"),
    ("MPL-2.0", r"mozilla public license,? ?(?:version|v\.) ?2\.0"),
    ("EPL-2.0", r"eclipse public license,? (?:version |v\.? ?)2\.0"),
    ("Artistic-1.0", r"the artistic license preamble"),
    ("Artistic-2.0", r"artistic license,? (?:version )?2\.0"),
    ("OFL-1.1", r"sil open font license,? version 1\.1"),
    ("CC0-1.0", r"cc0 1\.0 universal"),
    ("CC0-1.0", r"creative commons zero v1\.0"),
    ("CC-BY-4.0", r"creative commons attribution 4\.0"),
    ("CC-BY-4.0", r"attribution 4\.0 international"),
    ("CC-BY-SA-4.0", r"creative commons attribution share ?alike 4\.0"),
    ("CC-BY-SA-4.0", r"attribution share ?alike 4\.0 international"),
    ("CC-BY-3.0", r"creative commons attribution 3\.0"),
    ("CC-BY-SA-3.0", r"creative commons attribution share ?alike 3\.0"),
    ("Unlicense", r"this is free and unencumbered software released into the public domain"),
    ("WTFPL", r"do what the fuck you want to public license"),
    ("BlueOak-1.0.0", r"blue oak model license"),
)
_PATTERNS = tuple((name, re.compile(words)) for name, words in _WORDS)
_HINTS = ("license", "permission", "redistribution", "altered source", "attribution", "apache", "cc0",
          "rossum", "creative commons", "unencumbered")  # fmt: skip
_MARKS = re.compile(r"[\s#*/;\"'`%=_-]+")  # white space and what begins lines of comments


def licence_of_header(head: bytes) -> str | None:
    """What the beginning of a file says of itself; None where it says nothing."""
    said = SPDX.search(head)
    if said:
        return expression(said.group(1).decode())
    found = _by_words(head)
    return found if found != UNKNOWN else None


def licence_of_file(text: bytes) -> str:
    """Which of the licences the text of a LICENSE, COPYING or Debian's copyright file is."""
    said = SPDX.search(text[:4096])
    if said:
        return expression(said.group(1).decode())
    return _debian(text) if b"copyright-format" in text[:300] else _by_words(text)


def licence_of_manifest(name: str, text: bytes) -> str | None:
    """The licence that a package.json, Cargo.toml or pyproject.toml declares; None where it says nothing."""
    try:
        values: Any = json.loads(text) if name.endswith(".json") else tomllib.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    values = values if isinstance(values, dict) else {}
    part = {"Cargo.toml": values.get("package"), "pyproject.toml": values.get("project")}.get(name, values)
    said = part.get("license") if isinstance(part, dict) else None
    if isinstance(said, dict):
        said = said.get("type") or said.get("text")
    return expression(said[:200].replace("/", " OR ")) if isinstance(said, str) else None


def licence_of_link(address: str) -> str:
    """The licence whose page this is, of Creative Commons, Apache, GNU, the OSI or SPDX."""
    try:
        parts = urlsplit(address.strip().lower())
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return UNKNOWN
    kind, name, version = [*parts.path.strip("/").split("/"), "", "", ""][:3]
    if host == "creativecommons.org":
        if kind == "publicdomain" and name == "zero":
            return "CC0-1.0"
        good = kind == "licenses" and re.fullmatch(r"by(-nc)?(-sa|-nd)?", name)
        return f"CC-{name}-{version}".upper() if good and version in ("2.0", "2.5", "3.0", "4.0") else UNKNOWN
    if host == "apache.org" and name.startswith("license-2.0"):
        return "Apache-2.0"
    named = {"opensource.org": "licenses?", "gnu.org": "licenses", "spdx.org": "licenses"}.get(host, "\0")
    return (
        expression(name.removesuffix(".html").removesuffix(".txt")) if re.fullmatch(named, kind) else UNKNOWN
    )


def expression(said: str) -> str:
    """An SPDX expression in which we know every licence, without "or later"; else unknown."""
    said = said.strip().rstrip("*/-> ")
    whole = _NAMES.get(said.lower())
    if whole:
        return whole
    parts, after = [], ""
    for part in _PARTS.findall(said):
        if part.upper() in ("OR", "AND", "WITH") or part in "()":
            parts.append(part.upper())
        elif after == "WITH":
            parts.append(next((name for name in _EXCEPTIONS if name.lower() == part.lower()), ""))
        else:
            parts.append(_name(part))
        after = parts[-1]
    if not parts or not all(parts) or parts[0] in ("OR", "AND", "WITH"):
        return UNKNOWN
    return " ".join(parts).replace("( ", "(").replace(" )", ")")


def _name(said: str) -> str:
    """One licence's name in SPDX; "" where we do not know it."""
    bare = _TAIL.sub("", said)
    found = _FAMILY.match(bare)
    if found:
        bare = f"{found.group(1)}-{found.group(2)}{found.group(3) or '.0'}"
    return _NAMES.get(bare.lower(), "")


def _debian(text: bytes) -> str:
    """What Debian's machine-readable file says of most of the files: the stanza `Files: *`."""
    for stanza in re.split(r"\n[ \t\r]*\n", text.decode("utf-8", "replace")):
        fields = dict(_FIELD.findall(stanza))
        if "*" in fields.get("Files", "").split():
            said = fields.get("License", "").strip().split("\n")[0]
            said = re.sub(r" with [\w-]+ exception\b", "", said)  # it only adds to what is allowed
            return UNKNOWN if "," in said else expression(said)
    return UNKNOWN


def _by_words(text: bytes) -> str:
    lower = text[: 8 * NEAR].decode("utf-8", "replace").lower()
    if not any(hint in lower for hint in _HINTS):
        return UNKNOWN
    words = f" {_MARKS.sub(' ', lower.replace('(c)', ''))} "
    near, first, start = words[:NEAR], UNKNOWN, NEAR
    for name, pattern in _PATTERNS:
        place = pattern.search(near)
        if place and place.start() < start:
            first, start = name, place.start()
    return _variant(first, words[start : start + 2000])


def _variant(name: str, words: str) -> str:
    """The licence among those that begin alike, by the words that follow."""
    if name == "BSD":
        if "all advertising materials mentioning" in words:
            return "BSD-4-Clause"
        named = "BSD-3-Clause" if "endorse or promote" in words else "BSD-2-Clause"
        return named if "this software is provided" in words else UNKNOWN  # cut off before it is all said
    if name == "MIT" and words.startswith("permission"):
        return "MIT" if "permission notice shall be included" in words or len(words) < 500 else "MIT-0"
    if name == "ISC":
        return "ISC" if "the above copyright notice" in words[:300] else "0BSD"
    return name
