"""What a model on disk is, told from its headers alone: layout, sizes, types. Nothing here imports torch."""

import zipfile
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from puna.errors import WeightsError
from puna.gguf import Gguf, open_gguf
from puna.hub import Place
from puna.model.config import ModelConfig, from_hf, parameters, read_json
from puna.model.gguf_keys import config_from_gguf

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "chat_template.jinja", "tokenizer_config.json")


def describe(place: Place) -> dict[str, Any]:
    """Facts about the model at a place, ready for JSON: layout, sizes, tensors by type, tokenizer."""
    return {"hf": _hf, "meta": _meta, "gguf": _gguf}[place.kind](place.path)


def _gguf(path: Path) -> dict[str, Any]:
    file = open_gguf(path)
    facts: dict[str, Any] = {
        "layout": f"GGUF v{file.version}",
        "path": str(path),
        "bytes": path.stat().st_size,
        "architecture": str(file.keys.get("general.architecture", "not said")),
        "tensors": len(file.tensors),
        "types": dict(Counter(entry.kind for entry in file.tensors.values()).most_common()),
        "keys": {key: _short(file, key) for key in file.keys},
    }
    if facts["architecture"] == "llama" and "token_embd.weight" in file.tensors:
        facts |= _sizes(config_from_gguf(file))
        weights = sum(entry.nbytes for entry in file.tensors.values())
        facts["bits_per_weight"] = round(8 * weights / facts["parameters"], 3)
    return facts


def _short(file: Gguf, key: str) -> Any:
    value = file.keys[key]
    if isinstance(value, str):
        return value if len(value) < 200 else value[:200] + " ..."
    if isinstance(value, bool | int | float):
        return value
    return f"{len(value):,} values"


def _hf(folder: Path) -> dict[str, Any]:
    config = from_hf(read_json(folder / "config.json"), str(folder / "config.json"))
    files = sorted(folder.glob("*.safetensors"))
    kinds, count = Counter[str](), 0
    for path in files:
        for kind, shape in _headers(path):
            kinds[kind] += 1
            count += prod(shape)
    return {
        "layout": "Hugging Face folder",
        "path": str(folder),
        "bytes": sum(path.stat().st_size for path in files),
        "files": [path.name for path in files],
        "tensors": kinds.total(),
        "types": dict(kinds.most_common()),
        "numbers_in_files": count,
        **_sizes(config),
        "tokenizer": [name for name in TOKENIZER_FILES if (folder / name).is_file()],
    }


def _headers(path: Path) -> list[tuple[str, list[int]]]:
    try:
        with safe_open(path, framework="numpy") as file:
            slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  the handle is no dict
            return [(part.get_dtype(), part.get_shape()) for part in slices]
    except (SafetensorError, OSError) as problem:
        raise WeightsError(f"{path}: not a valid safetensors file ({problem})") from None


def _meta(folder: Path) -> dict[str, Any]:
    shards = sorted(folder.glob("consolidated.*.pth"))
    for path in shards:
        if not zipfile.is_zipfile(path):
            raise WeightsError(f"{path}: not a .pth file in the zip format")
    return {
        "layout": "Meta folder",
        "path": str(folder),
        "bytes": sum(path.stat().st_size for path in shards),
        "files": [path.name for path in shards],
        "params": read_json(folder / "params.json"),
        "tokenizer": [name for name in TOKENIZER_FILES if (folder / name).is_file()],
    }


def _sizes(config: ModelConfig) -> dict[str, Any]:
    return {"parameters": parameters(config), "config": config.model_dump(exclude_none=True)}
