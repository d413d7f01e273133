"""Meta's own model code as an oracle: read from the installed package llama-models, never copied.

Its layers come from fairscale, which splits them over GPUs; on one process they are nn.Linear and
nn.Embedding, so the module names that it imports are bound to these while it is imported.
"""

import importlib
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn


def reference_module():
    """The module llama_models.llama3.model; skips the test where the package is not installed."""
    pytest.importorskip("llama_models", reason="Meta's reference code comes with the package llama-models")
    names = (
        "fairscale",
        "fairscale.nn",
        "fairscale.nn.model_parallel",
        "fairscale.nn.model_parallel.initialize",
        "fairscale.nn.model_parallel.layers",
    )
    for name in names:
        sys.modules.setdefault(name, types.ModuleType(name))
    start, layers = sys.modules[names[3]], sys.modules[names[4]]
    sys.modules[names[2]].initialize = start
    start.get_model_parallel_world_size = lambda: 1
    layers.ColumnParallelLinear = layers.RowParallelLinear = _linear
    layers.VocabParallelEmbedding = lambda rows, width, **_: nn.Embedding(rows, width)
    package = types.ModuleType("llama_models.llama3")  # its __init__ wants packages that no model needs
    package.__path__ = [str(Path(sys.modules["llama_models"].__file__).parent / "llama3")]
    sys.modules.setdefault("llama_models.llama3", package)
    return importlib.import_module("llama_models.llama3.model")


def _linear(inputs, outputs, bias=False, **_):
    return nn.Linear(inputs, outputs, bias=bias)


def reference_model(folder: Path, longest: int):
    """Meta's Transformer, filled from a folder in Meta's layout; the RoPE factor its code hard-codes is set
    to ours.
    """
    import json

    module = reference_module()
    params = json.loads((folder / "params.json").read_text())
    factor = params.pop("rope_scaling_factor", 8.0)
    args = module.ModelArgs(**params, max_batch_size=1, max_seq_len=longest)
    plain = module.apply_scaling
    module.apply_scaling = lambda freqs: _scaled(plain, freqs, factor)
    try:
        model = module.Transformer(args)
    finally:
        module.apply_scaling = plain
    model.load_state_dict(torch.load(folder / "consolidated.00.pth", weights_only=True))
    return model.eval()


def _scaled(by_eight, freqs, factor):
    """Meta's scaling for another factor: its result is a blend (1-s) f/8 + s f, so s can be read off and
    blended anew.
    """
    eighth = by_eight(freqs)
    s = (eighth / freqs - 1 / 8) / (1 - 1 / 8)
    return (1 - s) * freqs / factor + s * freqs if factor != 8 else eighth
