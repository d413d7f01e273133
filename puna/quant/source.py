"""Any MODEL argument as weights: one call from a Hugging Face folder, a Meta folder or a GGUF file."""

from puna.hub import Place
from puna.model.hf import HFWeights
from puna.model.meta import MetaWeights
from puna.model.weights import Weights
from puna.quant.gguf import GgufWeights

READERS = {"hf": HFWeights, "meta": MetaWeights, "gguf": GgufWeights}


def open_weights(place: Place) -> Weights:
    """The weights at a place found by `hub.find`; the header is checked, no tensor is read yet."""
    return READERS[place.kind](place.path)
