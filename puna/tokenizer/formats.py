"""Where tokenizers come from and go to: Hugging Face's folder, Meta's tokenizer.model, GGUF's keys."""

from pathlib import Path

from puna.errors import TokenizerError, need
from puna.gguf import open_gguf
from puna.tokenizer import huggingface, meta
from puna.tokenizer.ggml import from_gguf, to_gguf
from puna.tokenizer.huggingface import to_hf
from puna.tokenizer.meta import to_meta
from puna.tokenizer.tokenizer import Tokenizer

__all__ = ["from_gguf", "load", "to_gguf", "to_hf", "to_meta", "tokenizer_file"]

JSON, MODEL = "tokenizer.json", "tokenizer.model"


def load(path: Path) -> Tokenizer:
    """The tokenizer of a folder, a tokenizer.json or a tokenizer.model. A GGUF's is `from_gguf(keys)`."""
    found = tokenizer_file(Path(path))
    if found.suffix not in (".json", ".model"):
        return from_gguf(open_gguf(found).keys)
    try:
        return huggingface.read(found) if found.suffix == ".json" else meta.read(found)
    except OSError as problem:
        raise TokenizerError(f"{found}: cannot be read ({problem.strerror})") from None
    except RecursionError:
        raise TokenizerError(f"{found}: nested too deeply") from None
    except TokenizerError as problem:
        where = "" if str(path) in str(problem) else f"{found}: "
        raise TokenizerError(f"{where}{problem}") from None


def tokenizer_file(path: Path) -> Path:
    """The file that is read for the tokenizer of a path."""
    if path.is_file() and path.suffix not in (".json", ".model"):
        return path
    places = [path / JSON, path / MODEL] if path.is_dir() else [path]
    found = next((place for place in places if place.is_file()), None)
    need(
        found is not None and found.suffix in (".json", ".model"),
        f"{path}: no {JSON} and no {MODEL} here",
        "a model folder with its tokenizer files",
        TokenizerError,
    )
    assert found is not None
    return found
