"""Which licence a file of code is under, told by its SPDX line or by the words that only this licence has.

A short recogniser, not a lawyer: what it does not know for certain it calls "unknown".
"""

import re

UNKNOWN = "unknown"
SPDX = re.compile(rb"SPDX-License-Identifier:\s*([A-Za-z0-9.+() -]{1,200})")
KNOWN = (
    *("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "GPL-2.0", "GPL-3.0"),
    *("LGPL-2.1", "LGPL-3.0", "MPL-2.0", "CC0-1.0", "Unlicense"),
)
_NAMES = {name.lower(): name for name in KNOWN}
_TAIL = re.compile(r"(-only|-or-later|\+)$", re.IGNORECASE)

# Where the first of these stands tells which text it is: the GPL's own text names the LGPL near its end.
_WORDS = {
    "MIT": r"permission is hereby granted, free of charge, to any person obtaining a copy",
    "Apache-2.0": r"apache license,? version 2\.0",
    "BSD": r"redistribution and use in source and binary forms, with or without modification",
    "LGPL-2.1": r"gnu lesser general public license,? (?:as published.{0,60} )?(?:either )?version 2\.1",
    "LGPL-3.0": r"gnu lesser general public license,? (?:as published.{0,60} )?(?:either )?version 3",
    "GPL-2.0": r"gnu general public license,? (?:as published.{0,60} )?(?:either )?version 2\b",
    "GPL-3.0": r"gnu general public license,? (?:as published.{0,60} )?(?:either )?version 3",
    "MPL-2.0": r"mozilla public license,? (?:version|v\.) ?2\.0",
    "CC0-1.0": r"cc0 1\.0 universal|creative commons zero v1\.0",
    "Unlicense": r"this is free and unencumbered software released into the public domain",
}
_PATTERNS = {name: re.compile(words) for name, words in _WORDS.items()}
_MARKS = re.compile(r"[\s#*/;\"'%-]+")  # white space and what begins lines of comments


def licence_of_header(head: bytes) -> str | None:
    """What the beginning of a file says of itself; None where it says nothing."""
    said = SPDX.search(head)
    if said:
        return _expression(said.group(1).decode())
    found = _by_words(head)
    return found if found != UNKNOWN else None


def licence_of_file(text: bytes) -> str:
    """Which of the licences the text of a LICENSE or COPYING file is."""
    said = SPDX.search(text)
    return _expression(said.group(1).decode()) if said else _by_words(text)


def _expression(said: str) -> str:
    """An SPDX expression in which we know every licence, without "or later"; else unknown."""
    words = said.strip().rstrip("*/-> ").replace("(", "").replace(")", "").split()
    names = [word if word in ("OR", "AND") else _NAMES.get(_TAIL.sub("", word).lower()) for word in words]
    return " ".join(name for name in names if name) if names and all(names) else UNKNOWN


def _by_words(text: bytes) -> str:
    words = _MARKS.sub(" ", text.decode("utf-8", "replace").lower().replace("(c)", ""))
    found = {name: place.start() for name, pattern in _PATTERNS.items() if (place := pattern.search(words))}
    if not found:
        return UNKNOWN
    first = min(found, key=lambda name: found[name])
    if first == "BSD":
        return "BSD-3-Clause" if "neither the name" in words else "BSD-2-Clause"
    return first
