"""`puna export`: a model into the layout of other tools."""

import sys
from pathlib import Path
from typing import Literal

from puna import hub
from puna.cli.progress import shown


def export(
    model: str,
    /,
    *,
    to: Literal["hf", "gguf", "meta"],
    out: Path | None = None,
    dtype: Literal["f32", "f16", "bf16"] | None = None,
    overwrite: bool = False,
) -> int:
    """Write a model, tokenizer and chat template included, in the layout of other tools.

    Parameters
    ----------
    model
        A folder, a .gguf file, smollm2, or hf:org/name.
    to
        hf: config.json and safetensors; gguf: one file; meta: params.json and consolidated.00.pth.
    out
        The folder or file to write; named after the model, here, if not given.
    dtype
        The numbers' type; that of the model's matrices if not given, bf16 where they are quantised.
    overwrite
        Replace what is already there.
    """
    place = hub.find(model)
    stem = model if model in hub.ALIASES else place.path.stem
    out = out or Path(f"{stem}.gguf" if to == "gguf" else f"{stem}-{to}")
    with shown(sys.stderr, f"writing {out}"):
        from puna.quant.export import export as write  # brings torch

        write(place, to, out, dtype, overwrite)
    print(out)
    return 0
