"""Bytes to text: which encoding a page is in, when its header, its meta tag and its bytes disagree.

Order: a byte-order mark; UTF-8 where every byte fits it and some are not ASCII, since other text almost never
does; what the server said; what the page says; what its bytes look like.
"""

import codecs

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decode(data: bytes, declared: str | None = None) -> str:
    """The text of bytes whose sender may have declared an encoding; what does not fit becomes U+FFFD."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    text = _utf8(data)
    if text is not None and (not data.isascii() or b"\x1b" not in data):  # ISO-2022-JP is ASCII with escapes
        return text
    named = _named(declared) or detect_encoding(data, from_html_meta=True) or "utf-8"
    if named == "utf-8" and _rare_utf8(data):
        named = detect_encoding(data) or "utf-8"
        named = "cp1252" if named == "utf-8" else named
    return bytes_to_str(data, named, "replace", ())


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _rare_utf8(data: bytes) -> bool:
    """Whether so few of the bytes that are not ASCII are UTF-8 that it must be something else."""
    text = data.decode("utf-8", "replace")
    return 4 * text.count("\ufffd") > sum(not character.isascii() for character in text)


def _named(declared: str | None) -> str | None:
    """The encoding that a web browser takes for this name, if Python has it."""
    if not declared:
        return None
    try:
        return codecs.lookup(map_encoding_to_html5(declared.strip("\"' "), fallback_utf8=False) or "").name
    except LookupError:
        return None
