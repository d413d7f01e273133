"""Meta's folders: params.json and consolidated.NN.pth, split over any number of tensor-parallel shards.

The files are zip archives of a pickle and raw storages. torch unpickles them with weights_only (nothing in
them can run) and maps the storages, so reading takes memory for one tensor.
"""

import io
import json
import math
import pickle
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from puna import log
from puna.errors import ConfigError, WeightsError, need
from puna.model.config import ModelConfig, RopeScaling, read_json
from puna.model.names import heads_turned, shapes, to_half_split, to_interleaved, to_meta
from puna.model.weights import Weights

KINDS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
BY_COLUMNS = (
    "o_proj.weight",
    "down_proj.weight",
)  # sharded along the input; all other matrices along the output


class MetaWeights:
    """Reads Meta's shards by Hugging Face name, joined and with q and k in half-split order."""

    def __init__(self, folder: Path):
        self.where = str(folder)
        files = sorted(folder.glob("consolidated.*.pth"))
        need(files, f"{folder}: no consolidated.NN.pth here", error=WeightsError)
        numbers = [path.name.split(".")[1] for path in files]
        need(
            numbers == [f"{n:02d}" for n in range(len(files))],
            f"{folder}: shards {', '.join(numbers)} are here; they must count up from 00 without a gap",
            error=WeightsError,
        )
        self._shards = [_mapped(path) for path in files]
        self.config = _config(read_json(folder / "params.json"), str(folder / "params.json"), self._shards)
        self._names = {name: to_meta(name) for name, _ in shapes(self.config)}
        for path, shard in zip(files, self._shards, strict=True):
            for name in self._names.values():
                need(name in shard, f"{path}: tensor {name} is missing", error=WeightsError)

    def names(self) -> Iterable[str]:
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        parts = self._parts(name)
        dim = self._joined_along(name, parts)
        if dim is None:
            return tuple(parts[0].shape)
        return tuple(sum(p.shape[i] for p in parts) if i == dim else n for i, n in enumerate(parts[0].shape))

    def kind(self, name: str) -> str:
        return KINDS[self._parts(name)[0].dtype]

    def read(self, name: str) -> torch.Tensor:
        parts = self._parts(name)
        dim = self._joined_along(name, parts)
        whole = parts[0] if dim is None else torch.cat(parts, dim)
        heads = heads_turned(name, self.config)
        return to_half_split(whole, heads) if heads else whole

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        return self.read(name)[first:last]

    def _parts(self, name: str) -> list[torch.Tensor]:
        return [shard[self._names[name]] for shard in self._shards]

    def _joined_along(self, name: str, parts: list[torch.Tensor]) -> int | None:
        if len(parts) == 1 or parts[0].ndim == 1:  # norms are replicated
            return None
        if name.endswith("embed_tokens.weight"):  # Llama 2 cut its embedding by columns, Llama 3 by rows
            return 1 if parts[0].shape[0] == self.config.vocab_size else 0
        return 1 if name.endswith(BY_COLUMNS) else 0


def _mapped(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one .pth, still on disk. WeightsError unless it is a plain table of dense tensors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about odd pickles; what they hold is checked below
            table = torch.load(path, mmap=True, weights_only=True, map_location="cpu")
    except Exception as problem:  # a bent pickle makes torch's reader raise whatever it trips over
        said = str(problem).strip().splitlines()
        raise WeightsError(
            f"{path}: not a .pth file of plain tensors ({(said or [type(problem).__name__])[0][:200]})\n"
            "  try: a file saved by torch.save in the zip format; pickled code is never run"
        ) from None
    need(
        isinstance(table, dict),
        f"{path}: holds a {type(table).__name__}, not a table of tensors",
        error=WeightsError,
    )
    kept, size = {}, path.stat().st_size
    for name, tensor in table.items():
        if name == "rope.freqs":
            continue
        need(
            isinstance(name, str) and isinstance(tensor, torch.Tensor),
            f"{path}: {name!r} is no tensor",
            error=WeightsError,
        )
        need(
            tensor.dtype in KINDS
            and tensor.layout == torch.strided
            and tensor.is_contiguous()
            and not tensor.is_meta,
            f"{path}: {name} is {tensor.dtype}, {tensor.layout}; only dense F32, F16 and BF16 are read",
            error=WeightsError,
        )
        need(
            tensor.nbytes <= size,
            f"{path}: {name} claims {tensor.nbytes:,} bytes, the file has {size:,}",
            error=WeightsError,
        )
        kept[name] = tensor
    return kept


def _config(values: Any, where: str, shards: list[dict[str, torch.Tensor]]) -> ModelConfig:
    need(isinstance(values, dict), f"{where}: not a JSON object", error=ConfigError)
    need(
        "quantization_args" not in values and "vision_chunk_size" not in values,
        f"{where}: quantised and vision models of Meta's layout are not supported",
        error=ConfigError,
    )
    width, layers, heads = (_count(values, key, where) for key in ("dim", "n_layers", "n_heads"))
    embedding = shards[0].get("tok_embeddings.weight")
    need(
        embedding is not None and embedding.ndim == 2,
        f"{where}: tok_embeddings.weight is missing",
        error=WeightsError,
    )
    assert embedding is not None
    rows = (
        embedding.shape[0]
        if embedding.shape[1] < width
        else sum(s["tok_embeddings.weight"].shape[0] for s in shards if "tok_embeddings.weight" in s)
    )
    need(
        "layers.0.feed_forward.w1.weight" in shards[0],
        f"{where}: layers.0.feed_forward.w1.weight is missing",
        error=WeightsError,
    )
    hidden = sum(
        s["layers.0.feed_forward.w1.weight"].shape[0]
        for s in shards
        if "layers.0.feed_forward.w1.weight" in s
    )
    scaled = values.get("use_scaled_rope", False)
    return ModelConfig.read(
        {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": values.get("n_kv_heads") or heads,
            "intermediate_size": hidden,
            "vocab_size": rows,
            "max_position_embeddings": 131_072 if scaled else 8192 if rows >= 128_000 else 4096,
            "rope_theta": values.get("rope_theta", 10_000.0),
            "rope_scaling": RopeScaling(factor=_factor(values)).model_dump() if scaled else None,
            "rms_norm_eps": values.get("norm_eps", 1e-5),
            "tie_word_embeddings": _tied(shards[0]),
        },
        where,
    )


def _count(values: dict, key: str, where: str) -> int:
    value = values.get(key)
    need(isinstance(value, int) and 0 < value < 2**24, f"{where}: {key} is {value!r}", error=ConfigError)
    return value


def _factor(values: dict) -> float:
    """Meta's files do not say how far RoPE is squeezed, and its code says 8 for all; 3.2 1B and 3B need 32
    [llama3.md 0].
    """
    small = (values["dim"], values["n_layers"]) in ((2048, 16), (3072, 28))
    return float(values.get("rope_scaling_factor", 32.0 if small else 8.0))


def _tied(shard: dict[str, torch.Tensor]) -> bool:
    """3.2 1B and 3B carry the embedding a second time as the head."""
    head, embedding = shard.get("output.weight"), shard["tok_embeddings.weight"]
    if head is None:
        return True
    if head.shape != embedding.shape:
        return False
    return torch.equal(head[:64], embedding[:64]) and torch.equal(head, embedding)


def write_folder(weights: Weights, folder: Path, dtype: torch.dtype) -> None:
    """Write params.json and one consolidated.00.pth that Meta's code loads, one tensor at a time."""
    config = weights.config
    folder.mkdir(parents=True, exist_ok=True)
    entries = [(to_meta(name), shape, name) for name, shape in shapes(config)]
    if config.tie_word_embeddings:  # Meta's model always has a head
        entries.append(
            ("output.weight", (config.vocab_size, config.hidden_size), "model.embed_tokens.weight")
        )

    def tensors():
        for done, (_, _, name) in enumerate(entries, 1):
            tensor, heads = weights.read(name).to(dtype), heads_turned(name, config)
            yield to_interleaved(tensor, heads) if heads else tensor
            log.event("write", done=done, of=len(entries), tensor=name)

    params = _params(config)
    write_pth(folder / "consolidated.00.pth", [(name, shape) for name, shape, _ in entries], dtype, tensors())
    (folder / "params.json").write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")


def _params(config: ModelConfig) -> dict[str, Any]:
    c = config
    plain = c.head_dim * c.num_attention_heads == c.hidden_size
    need(
        plain,
        f"Meta's layout cannot say head_dim {c.head_dim} for width {c.hidden_size}",
        "--to hf",
        ConfigError,
    )
    scaling = c.rope_scaling
    llama3 = scaling is None or scaling == RopeScaling(factor=scaling.factor)
    need(llama3, "Meta's layout knows only Llama 3.1's RoPE scaling", "--to hf", ConfigError)
    multiple, multiplier = _ffn_rule(c)
    return {
        "dim": c.hidden_size,
        "n_layers": c.num_hidden_layers,
        "n_heads": c.num_attention_heads,
        "n_kv_heads": c.num_key_value_heads,
        "vocab_size": c.vocab_size,
        "multiple_of": multiple,
        "ffn_dim_multiplier": multiplier,
        "norm_eps": c.rms_norm_eps,
        "rope_theta": c.rope_theta,
        "use_scaled_rope": scaling is not None,
        **({"rope_scaling_factor": scaling.factor} if scaling else {}),
    }


def _ffn_rule(c: ModelConfig) -> tuple[int, float]:
    """A multiple_of and ffn_dim_multiplier from which Meta's code derives this width [llama3.md 1.1]."""
    base = int(2 * 4 * c.hidden_size / 3)
    for multiple in (4096, 1024, 256, 64, 16, 4, 1):
        if c.intermediate_size % multiple:
            continue
        multiplier = round((c.intermediate_size - multiple / 2) / base, 6)
        if multiple * math.ceil(int(multiplier * base) / multiple) == c.intermediate_size:
            return multiple, multiplier
    return 1, (c.intermediate_size + 0.5) / base


def write_pth(
    path: Path,
    entries: list[tuple[str, tuple[int, ...]]],
    dtype: torch.dtype,
    tensors: Iterable[torch.Tensor],
):
    """A file that torch.load reads (mmap too): the table first, then each tensor's bytes as they come."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            _put(archive, "data.pkl", [_table(entries, dtype)])
            _put(archive, "byteorder", [b"little"])
            for number, tensor in enumerate(tensors):
                flat = tensor.contiguous().flatten().view(torch.uint8).numpy()
                _put(archive, f"data/{number}", [flat.data])
            _put(archive, "version", [b"3\n"])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _put(archive: zipfile.ZipFile, name: str, chunks: Iterable[Any]) -> None:
    """One record whose bytes begin at a multiple of 64, as torch wants for mapping: padding goes into the
    extra field.
    """
    entry = zipfile.ZipInfo(f"consolidated/{name}")
    header = 30 + len(entry.filename) + 20 + 4  # local header, name, zip64 field, our field's head
    padding = -(archive.fp.tell() + header) % 64
    entry.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    with archive.open(entry, "w", force_zip64=True) as record:
        for chunk in chunks:
            record.write(chunk)


class _Reference:
    """A tensor as torch pickles it: how to rebuild it, and which storage holds it."""

    def __init__(self, key: str, shape: tuple[int, ...], dtype: torch.dtype):
        self.storage, self.shape = _Storage(key, torch.Size(shape).numel(), dtype), shape

    def __reduce__(self):
        strides = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        return torch._utils._rebuild_tensor_v2, (self.storage, 0, self.shape, strides, False, {})


class _Storage:
    def __init__(self, key: str, count: int, dtype: torch.dtype):
        names = {
            torch.float32: torch.FloatStorage,
            torch.float16: torch.HalfStorage,
            torch.bfloat16: torch.BFloat16Storage,
        }
        self.persistent = ("storage", names[dtype], key, "cpu", count)


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple | None:
        return value.persistent if isinstance(value, _Storage) else None


def _table(entries: list[tuple[str, tuple[int, ...]]], dtype: torch.dtype) -> bytes:
    out = io.BytesIO()
    _Pickler(out, protocol=2).dump(
        {name: _Reference(str(n), shape, dtype) for n, (name, shape) in enumerate(entries)}
    )
    return out.getvalue()
