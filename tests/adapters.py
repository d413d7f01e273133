"""PEFT folders with drawn numbers, and the model that an adapter makes of a model when it is merged."""

import copy
import json
import re

import torch
from safetensors.torch import save_file

from puna.model.lora import to_fp32
from puna.model.names import shapes

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_peft(folder, config, targets=ALL, seed=0, dtype=torch.float32, size=0.5, **settings):
    """An adapter of these projections in all layers, whose up-halves are not zero."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": list(targets),
        "bias": "none",
        **settings,
    }
    dice, tensors = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes(config):
        name = name.removesuffix(".weight")
        if name.endswith(tuple(targets)):
            patterns = said.get("rank_pattern", {})
            rank = next((r for key, r in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), said["r"])
            for half, size_of in (("A", (rank, shape[1])), ("B", (shape[0], rank))):
                numbers = torch.randn(size_of, generator=dice) * size * size_of[1] ** -0.5
                tensors[f"base_model.model.{name}.lora_{half}.weight"] = numbers.to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


def merged(model, adapter):
    """The torch model with scale · up · down added to its weights."""
    changed = copy.deepcopy(model).requires_grad_(False)
    for name, part in adapter.parts.items():
        down, up = (torch.from_numpy(to_fp32(part.kind, half)) for half in (part.down, part.up))
        changed.get_submodule(name).weight += part.scale * up @ down
    return changed
