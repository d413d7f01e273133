"""Texts that somebody made to hold a filter up: each is small in a file and large in the work it asks for."""

import random
from collections.abc import Callable

ALMOST = {
    "almost e-mails": "a.b-c_d%e+f@" * 9,
    "e-mail without end": "a@" + "b." * 60,
    "one sign @": "@",
    "almost addresses of the net": "1.2.3.",
    "digits": "4",
    "digits and blanks": "4 ",
    "digits and hyphens": "5-",
    "cards that fail": "4111 1111 1111 1112 ",
    "almost numbers of accounts": "DE00 ",
    "an account without end": "GB82WEST1234",
    "colons": "2001:",
    "telephones": "+1 (",
    "brackets and digits": "(0)1/",
    "dates": "2026-11-21 ",
    "calls": "tel tel: fax ",
    "almost keys": "sk-aaaaaaaa",
    "almost web tokens": "eyJaaaaaaaaaa.eyJaaaaaaaaaa.",
    "almost private keys": "-----BEGIN RSA PRIVATE KEY-----\n",
    "almost assigned": "api_key='",
    "names that go on": "secret_secret_",
    "half a quotation": 'password = "aaaaaaaaaaaaaaaa',
    "citations": "[1][edit][",
    "brackets": "[",
    "addresses": "http://a.b/",
    "address without end": "http://" + "%2e" * 40,
    "full stops": ".",
    "short lines": "a\n",
    "blank lines": "\n",
    "carriage returns": "\r",
    "blanks": " ",
    "tabs and blanks": " \t",
    "a word without end": "lamb",
    "letters that combine": "e\u0301\u0302\u0303",
    "only marks": "\u0301",
    "nothing that is seen": "\u200b",
    "joiners": "\u200d\u2060",
    "right to left": "\u202e\u05d0\u05d1 ",
    "Hangul in parts": "\u1100\u1161\u11a8",
    "long forms": "\ufdfa",
    "no letters": "\U0001f600",
    "private letters": "\ue000\U0010fffd",
    "Chinese": "高原的草在旱季變黃",
    "Thai": "ทุ่งหญ้าสูง",
    "NULs that were": "\ufffd",
    "separators": "\u2028\u2029\x85\x0b\x0c",
    "titles": "\u01c5\u0130\u1e9e",
    "bullets": "- a\n",
    "two words": "the and ",
    "one line again": "All rights are reserved by the people of the plain.\n",
    "braces": "{\n",
    "sentences": "a. b? c! ",
    "tags": "<a><b>",
    "entities": "&amp;&#0;",
    "backslashes": "\\u0000\\",
}


def noise(size: int, draw: Callable[[random.Random], str]) -> str:
    dice, found, held = random.Random(size), [], 0
    while held < size:
        found.append(draw(dice))
        held += len(found[-1].encode())
    return "".join(found)


MIXED = {
    "any letters": lambda dice: chr(
        dice.choice([dice.randrange(0x20, 0xD800), dice.randrange(0xE000, 0x110000)])
    ),
    "signs": lambda dice: dice.choice("@.-+:/()[]{}'\"= \n0123456789aA_%#"),
    "words that are all new": lambda dice: f"{dice.randrange(16**8):x} ",
    "lines that are all new": lambda dice: f"{dice.randrange(16**8):x}\n",
}


def texts(size: int) -> dict[str, str]:
    """Each of the texts at about so many bytes."""
    found = {name: part * (size // len(part.encode())) for name, part in ALMOST.items()}
    return found | {name: noise(size, draw) for name, draw in MIXED.items()}
