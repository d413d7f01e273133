"""A stage of a pipeline is the same model with parts taken out. Names stay, so weights are found by them."""

from puna.model.transformer import Llama
from puna.parallel.stages import split


def cut(model: Llama, stage: int, stages: int) -> None:
    """Leave of a model what one stage does: some layers, and at the ends the embedding or the head."""
    body = model.model
    kept = split(len(body.layers), stages)[stage]
    for name in list(body.layers):
        if int(name) not in kept:
            del body.layers[name]
    if stage > 0:
        body.register_module("embed_tokens", None)
    if stage < stages - 1:
        body.register_module("norm", None)
        model.register_module("lm_head", None)
