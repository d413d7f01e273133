"""Any MODEL argument as weights: one call from a Hugging Face folder, a Meta folder or a GGUF file."""

from puna.hub import Place
from puna.model.weights import Weights
from puna.quant.gguf import GgufWeights


def open_weights(place: Place) -> Weights:
    """The weights at a place found by `hub.find`; the header is checked, no tensor is read yet."""
    if place.kind == "gguf":
        return GgufWeights(place.path)
    if place.kind == "hf":
        from puna.model.hf import HFWeights  # brings torch, as the next does

        return HFWeights(place.path)
    from puna.model.meta import MetaWeights

    return MetaWeights(place.path)
