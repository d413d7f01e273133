"""Hugging Face folders: config.json and safetensors, one file or many shards. Our own checkpoint layout."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from puna import log
from puna.errors import WeightsError, need
from puna.model.config import ModelConfig, from_hf, read_json, to_hf
from puna.model.names import shapes
from puna.model.weights import Weights

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
IGNORED = ("rotary_emb.inv_freq",)  # derived numbers that old files carry
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class HFWeights:
    """Reads a Hugging Face folder; the safetensors library checks each header against its file's size."""

    def __init__(self, folder: Path):
        self.where = str(folder)
        values = read_json(folder / "config.json")
        need(isinstance(values, dict), f"{folder / 'config.json'}: not a JSON object", error=WeightsError)
        quantised = (values.get("quantization_config") or {}).get("quant_method")
        need(
            not quantised,
            f"{folder}: weights quantised with {quantised} are not supported",
            "the original folder, or a .gguf file",
            WeightsError,
        )
        self.config: ModelConfig = from_hf(values, str(folder / "config.json"))
        self._files = {path: _opened(path) for path in _shards(folder)}
        self._home: dict[str, Path] = {}
        for path, file in self._files.items():
            for name in file.keys():  # noqa: SIM118  a safe_open handle is no dict
                if not name.endswith(IGNORED):
                    need(
                        name not in self._home,
                        f"{path.name}: {name} stands in two shards",
                        error=WeightsError,
                    )
                    self._home[name] = path
        for name in self._home:
            need(
                self.kind(name) in DTYPES,
                f"{folder}: {name} is {self.kind(name)}; only {', '.join(DTYPES)} are read",
                error=WeightsError,
            )

    def names(self) -> Iterable[str]:
        return self._home

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[self._home[name]].get_slice(name).get_shape())

    def kind(self, name: str) -> str:
        return self._files[self._home[name]].get_slice(name).get_dtype()

    def read(self, name: str) -> torch.Tensor:
        return self._files[self._home[name]].get_tensor(name)

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        return self._files[self._home[name]].get_slice(name)[first:last]


def _shards(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        table = index.get("weight_map") if isinstance(index, dict) else None
        need(isinstance(table, dict) and table, f"{folder / INDEX}: no weight_map", error=WeightsError)
        files = sorted({str(value) for value in table.values()})
        for file in files:
            need(
                Path(file).name == file and file.endswith(".safetensors"),
                f"{folder / INDEX}: {file!r} is not the name of a safetensors file in this folder",
                error=WeightsError,
            )
            need((folder / file).is_file(), f"{folder / file}: this shard is missing", error=WeightsError)
        return [folder / file for file in files]
    need(
        (folder / SINGLE).is_file(),
        f"{folder}: neither {SINGLE} nor {INDEX} is here",
        "a folder with safetensors weights (pytorch_model.bin is not read)",
        WeightsError,
    )
    return [folder / SINGLE]


def _opened(path: Path):
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as problem:
        raise WeightsError(f"{path}: not a valid safetensors file ({problem})") from None


def write_folder(
    weights: Weights, folder: Path, dtype: str | None = None, shard_bytes: int = 5 * 10**9
) -> None:
    """Write config.json and safetensors shards, one tensor in memory at a time; `dtype` F32, F16, BF16 or
    None.

    None keeps the type of the matrices; quantised ones become BF16. A half-written folder never looks
    whole: config.json and the index come last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = dtype or dense_kind(weights)
    plan = _divided(weights.config, DTYPES[kind].itemsize, shard_bytes)
    table, total, done = {}, 0, 0
    for number, names in enumerate(plan, 1):
        file = SINGLE if len(plan) == 1 else f"model-{number:05d}-of-{len(plan):05d}.safetensors"
        with _SafetensorsWriter(folder / file, [(name, kind, weights.shape(name)) for name in names]) as out:
            for name in names:
                tensor = weights.read(name).to(DTYPES[kind])
                out.write(tensor)
                done, total = done + 1, total + tensor.nbytes
                log.event("write", done=done, of=sum(map(len, plan)), tensor=name)
        table.update(dict.fromkeys(names, file))
    if len(plan) > 1:
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": table})
    _write_json(folder / "config.json", to_hf(weights.config, str(DTYPES[kind]).removeprefix("torch.")))


def dense_kind(weights: Weights) -> str:
    """The type in which a dense copy is written: that of the matrices, or BF16 where they are quantised."""
    kind = weights.kind("model.layers.0.mlp.down_proj.weight")
    return kind if kind in DTYPES else "BF16"


def _divided(config: ModelConfig, itemsize: int, shard_bytes: int) -> list[list[str]]:
    plan: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes(config):
        size = _count(shape) * itemsize
        if plan[-1] and filled + size > shard_bytes:
            plan.append([])
            filled = 0
        plan[-1].append(name)
        filled += size
    return plan


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


class _SafetensorsWriter:
    """The format is a JSON header and then the bytes; the file gets its name when it is whole."""

    def __init__(self, path: Path, entries: list[tuple[str, str, tuple[int, ...]]]):
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, kind, shape in entries:
            size = _count(shape) * DTYPES[kind].itemsize
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
            offset += size
        self.path, self.temporary, self.left = (
            path,
            path.with_name(f".{path.name}.{os.getpid()}.part"),
            offset,
        )
        text = json.dumps(header, separators=(",", ":")).encode()
        self.header = text + b" " * (-len(text) % 8)

    def __enter__(self):
        self.file = open(self.temporary, "wb")
        self.file.write(len(self.header).to_bytes(8, "little") + self.header)
        return self

    def write(self, tensor: torch.Tensor) -> None:
        self.file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        self.left -= tensor.nbytes

    def __exit__(self, failed, *_) -> None:
        self.file.close()
        if failed:
            self.temporary.unlink()
            return
        assert self.left == 0, "every declared tensor is written"
        self.temporary.replace(self.path)


def _write_json(path: Path, value: object) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
