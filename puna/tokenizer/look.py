"""What a vocabulary on disk is, in a few facts."""

from pathlib import Path
from typing import Any

from puna.tokenizer.formats import load, tokenizer_file


def describe_vocabulary(path: Path) -> dict[str, Any]:
    """Facts about the tokenizer of a folder or file, ready for JSON."""
    tokenizer = load(path)
    named: dict[int | None, str] = {id: text for text, id in tokenizer.specials.items()}
    return {
        "layout": "vocabulary",
        "path": str(path),
        "file": tokenizer_file(path).name,
        "size": tokenizer.size,
        "special": len(tokenizer.specials),
        "split": tokenizer.split.name,
        "bos": named.get(tokenizer.bos_id, "none"),
        "eos": named.get(tokenizer.eos_id, "none"),
        "fingerprint": tokenizer.fingerprint(),
    }
