"""A model from one layout into another, tokenizer included, in memory for about one tensor.

Nothing is overwritten unless asked, the disk is measured first, and what was interrupted never looks whole.
"""

import json
import shutil
from pathlib import Path

from puna import __version__, lineage
from puna.errors import need
from puna.gguf import size_in_bytes
from puna.hub import Place
from puna.model import hf, meta
from puna.model.names import shapes
from puna.model.weights import Weights, check
from puna.quant.gguf import write_gguf
from puna.quant.mixes import kinds_for, mix_of
from puna.quant.source import open_weights
from puna.tokenizer import formats
from puna.tokenizer.tokenizer import Tokenizer

LAYOUTS = ("hf", "gguf", "meta")


def export(place: Place, to: str, out: Path, dtype: str | None = None, overwrite: bool = False) -> None:
    """Write the model at `place` as a Hugging Face folder, a GGUF file or a Meta folder.

    dtype: f32, f16 or bf16; None keeps the type of the matrices, and makes quantised ones bf16.
    """
    need(to in LAYOUTS, f"--to {to}: not one of {', '.join(LAYOUTS)}")
    weights = open_weights(place)
    kind = (dtype or hf.dense_kind(weights)).upper()
    need(kind in hf.DTYPES, f"--dtype {dtype}: not one of {', '.join(hf.DTYPES).lower()}")
    if to == "gguf":
        return quantize(place, kind.lower(), out, overwrite)
    tokenizer = formats.load(place.path)
    vocabulary = formats.to_meta(tokenizer) if to == "meta" else b""  # refused before the weights are written
    _prepare(weights, dict.fromkeys((name for name, _ in shapes(weights.config)), kind), out, overwrite)
    parent = lineage.parent_of(place.path, "converted_from")
    if to == "hf":
        hf.write_folder(weights, out, kind)
        formats.to_hf(tokenizer, out)
        _write_generation_config(place, tokenizer, out)
    else:
        meta.write_folder(weights, out, hf.DTYPES[kind])
        (out / "tokenizer.model").write_bytes(vocabulary)
    _write_lineage(out, parent, kind.lower())


def quantize(place: Place, mix: str, out: Path, overwrite: bool = False) -> None:
    """Write the model at `place` as a GGUF file in one of the usual mixes (quant/mixes.py)."""
    weights = open_weights(place)
    choose = kinds_for(mix, weights.config)
    check(weights)
    _prepare(weights, {name: choose(name, shape) for name, shape in shapes(weights.config)}, out, overwrite)
    keys = {**formats.to_gguf(formats.load(place.path)), "general.file_type": mix_of(mix).file_type}
    parent = lineage.parent_of(place.path, "converted_from" if mix.upper() in hf.DTYPES else "quantised_from")
    write_gguf(weights, out, choose, keys, name=out.stem)
    _write_lineage(out, parent, mix)


def _write_lineage(out: Path, parent: lineage.Parent, numbers: str) -> None:
    """Say beside the weights whose they are: a change of layout changes no licence."""
    facts = {"numbers": numbers, "puna": __version__}
    node = lineage.node_of(out, "weights", [parent], licence=parent.licence, facts=facts)
    lineage.write(out, node)


def _prepare(weights: Weights, kinds: dict[str, str], out: Path, overwrite: bool) -> None:
    """Refuse to overwrite, to write into nowhere, and to begin what the disk cannot hold."""
    occupied = out.is_file() or (out.is_dir() and any(out.iterdir()))
    need(overwrite or not occupied, f"{out}: already exists", "--overwrite, or another --out")
    need(out.parent.is_dir(), f"{out.parent}: no such folder", f"mkdir -p {out.parent}")
    size = sum(size_in_bytes(kinds[name], shape, name) for name, shape in shapes(weights.config))
    free = shutil.disk_usage(out.parent).free
    need(size < free, f"{out}: {size / 2**30:.1f} GiB are needed, the disk has {free / 2**30:.1f} GiB free")


def _write_generation_config(place: Place, tokenizer: Tokenizer, out: Path) -> None:
    """When to stop and how to draw, for engines that read such folders; the source's own file goes first."""
    source = place.path / "generation_config.json"
    if source.is_file():
        if source.resolve() != (out / source.name).resolve():
            shutil.copyfile(source, out / source.name)
        return
    values = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": sorted(tokenizer.stop_ids),
        "pad_token_id": tokenizer.pad_id,
    }
    text = json.dumps({key: value for key, value in values.items() if value not in (None, [])}, indent=2)
    (out / "generation_config.json").write_text(text + "\n", encoding="utf-8")
