"""Meta's tokenizer.model: a line for each token, its bytes in base64 and its rank, which is its id.

The file holds neither the special tokens nor the rule that cuts text; both belong to the release, Llama 3.
"""

import binascii
import json
from pathlib import Path

from puna.errors import TokenizerError, need
from puna.tokenizer import merges, specials, splits
from puna.tokenizer.tokenizer import Tokenizer

LLAMA4_WORDS = 200_000


def read(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.model. The params.json beside it tells Llama 3.0 from later releases."""
    pieces = merges.from_ranks(_words(path))
    names = specials.LLAMA_3_0 if _is_3_0(path.parent / "params.json") else specials.LLAMA_3_1
    return Tokenizer(pieces, splits.LLAMA3, specials.llama3(len(pieces.words), names))


def to_meta(tokenizer: Tokenizer) -> bytes:
    """The content of a tokenizer.model; only a vocabulary of the Llama 3 kind, in rank order, fits."""
    words, count = tokenizer.pieces.words, len(tokenizer.pieces.words)
    is_kind = tokenizer.split == splits.LLAMA3
    in_order = tokenizer.pieces.ranks == {word: rank for rank, word in enumerate(words)}
    implied = sorted(tokenizer.specials.values()) == list(range(count, count + specials.LLAMA_SPECIALS))
    need(
        is_kind and in_order and implied,
        f"Meta's tokenizer.model cannot hold this vocabulary, only one cut as Llama 3 cuts text, with ids "
        f"in merge order and {specials.LLAMA_SPECIALS} special tokens behind them",
        "--to hf or --to gguf",
        TokenizerError,
    )
    lines = (binascii.b2a_base64(word, newline=False) + b" %d\n" % rank for rank, word in enumerate(words))
    return b"".join(lines)


def _words(path: Path) -> list[bytes]:
    data = path.read_bytes()
    sentencepiece = b"<unk>" in data[:64] or b"\0" in data[:64]
    need(
        not sentencepiece,
        f"{path}: a SentencePiece vocabulary (Llama 2, TinyLlama, Mistral), which Puna does not read yet",
        "a model with a byte-level BPE vocabulary: Llama 3, GPT-2, SmolLM",
        TokenizerError,
    )
    fields = data.split()
    count = len(fields) // 2
    in_order = len(fields) == 2 * count and fields[1::2] == [b"%d" % rank for rank in range(count)]
    need(
        in_order,
        f"{path}: not a line for each token, with ranks 0, 1, 2, ...",
        "a complete file",
        TokenizerError,
    )
    need(
        count != LLAMA4_WORDS,
        f"{path}: Llama 4's vocabulary, whose text is cut by other rules",
        "Llama 3",
        TokenizerError,
    )
    try:
        return [binascii.a2b_base64(field, strict_mode=True) for field in fields[::2]]
    except binascii.Error as problem:
        raise TokenizerError(f"{path}: a token is not base64 ({problem})") from None


def _is_3_0(params: Path) -> bool:
    """Llama 3.0 is the release without scaled rotary positions."""
    if not params.is_file():
        return False
    try:
        read = json.loads(params.read_bytes())
    except (ValueError, RecursionError):
        raise TokenizerError(f"{params}: not JSON") from None
    return isinstance(read, dict) and not read.get("use_scaled_rope", False)
