"""`puna tokenizer train` and `puna tokenizer measure`: vocabularies, learned and judged."""

import json as formats
import sys
from pathlib import Path
from typing import Any, Literal

from puna import hub
from puna.cli.progress import shown
from puna.cli.screen import clean
from puna.errors import need


def train(
    *files: Path,
    size: int,
    out: Path,
    split: Literal["llama-bpe", "gpt-2", "smollm"] = "llama-bpe",
    special: Literal["llama3", "chatml"] = "llama3",
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Learn a vocabulary from texts: byte-level BPE, written for every tool that reads such.

    Parameters
    ----------
    files
        Plain text, or .jsonl with a `text` in each line; either may be .gz.
    size
        Tokens of the vocabulary, the special ones included.
    out
        The folder to write.
    split
        The rule by which text is cut before anything joins.
    special
        The special tokens: Llama 3's 256, or ChatML's three.
    overwrite
        Write into a folder that is not empty.
    json
        One JSON object instead of the folder's name.
    """
    from puna.tokenizer import learn, splits
    from puna.tokenizer.texts import texts

    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    need(overwrite or not taken, f"{out}: it is already there", "--overwrite, or another --out")
    with shown(sys.stderr, "learning from the texts"):
        read = (text for _, text in texts(files))
        tokenizer = learn.train(read, size, splits.named(split), special)
    names = learn.save(tokenizer, out)
    learn.save_lineage(tokenizer, out, files, special)
    facts = {"out": str(out), "size": tokenizer.size, "special": len(tokenizer.specials), "split": split}
    facts |= {"files": names, "fingerprint": tokenizer.fingerprint()}
    print(formats.dumps(facts) if json else out)
    return 0


def measure(model: str, /, *files: Path, against: str | None = None, json: bool = False) -> int:
    """Tell what a vocabulary makes of texts: bytes per token, tokens per word, and whether they come back.

    Parameters
    ----------
    model
        A model, or a tokenizer alone: its folder, tokenizer.json or tokenizer.model.
    files
        Plain text, or .jsonl with a `text` in each line; either may be .gz.
    against
        Another model or tokenizer, measured on the same texts.
    json
        One JSON object instead of a table.
    """
    names = [model, *([against] if against else [])]
    with shown(sys.stderr, f"measuring {model}"):
        results = {name: _measured(name, files) for name in names}
    if json:
        print(formats.dumps(results, ensure_ascii=False))
        return 0
    for line in _table(results):
        print(clean(line))
    return 0


def _measured(name: str, files: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    from puna.tokenizer.measure import measure as measured
    from puna.tokenizer.texts import texts

    found = measured(_opened(name), texts(files))
    return {group: sums.rates() for group, sums in found.items()}


def _opened(name: str) -> Any:
    """The tokenizer of a MODEL, or of what is no model but holds a tokenizer."""
    from puna.tokenizer.formats import load

    path = Path(name)
    alone = path.suffix in (".json", ".model") or (path / "tokenizer.json").is_file()
    return load(path if alone and path.exists() else hub.find(name).path)


COLUMNS = ("bytes_per_token", "tokens_per_word", "single_byte_share", "tokens", "round_trip_failures")


def _table(results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """A line for each group and tokenizer."""
    lines = [["file", "tokenizer", *(name.replace("_", " ") for name in COLUMNS)]]
    for group in next(iter(results.values())):
        for name, groups in results.items():
            lines.append([group, name, *(_text(groups[group][column]) for column in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(_placed, words, widths, range(len(words)))) for words in lines]


def _placed(word: str, width: int, column: int) -> str:
    """Names to the left, numbers to the right."""
    return word.ljust(width) if column < 2 else word.rjust(width)


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
