"""`puna quantize`: a model in fewer bits."""

import sys
from pathlib import Path

from puna import hub
from puna.cli.progress import shown


def quantize(model: str, /, *, to: str = "q4_k_m", out: Path | None = None, overwrite: bool = False) -> int:
    """Write a model as a GGUF file in fewer bits.

    Parameters
    ----------
    model
        A folder, a .gguf file, smollm2, or hf:org/name; best the original weights.
    to
        f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1 or q4_0.
    out
        The file to write; named after the model, here, if not given.
    overwrite
        Replace the file that is already there.
    """
    place = hub.find(model)
    stem = model if model in hub.ALIASES else place.path.stem
    out = out or Path(f"{stem}.{to.upper()}.gguf")
    with shown(sys.stderr, f"writing {out}"):
        from puna.quant.export import quantize as write  # brings torch

        write(place, to, out, overwrite)
    print(out)
    return 0
