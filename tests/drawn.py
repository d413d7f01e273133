"""A model with drawn weights, and what the native runner should make of it."""

import torch

from puna.kernels.llama_reference import whole
from puna.model.attend import mix
from puna.model.names import shapes
from puna.model.transformer import Llama
from puna.model.weights import load


class Drawn:
    """A model of this shape with drawn weights."""

    where = "drawn"

    def __init__(self, config, dtype=torch.float32):
        self.config, dice = config, torch.Generator().manual_seed(1)
        self.tensors = {}
        for name, shape in shapes(config):
            width = 0.5 if len(shape) == 1 else shape[-1] ** -0.5
            self.tensors[name] = (torch.randn(shape, generator=dice) * width + (len(shape) == 1)).to(dtype)

    def names(self):
        return self.tensors.keys()

    def shape(self, name):
        return tuple(self.tensors[name].shape)

    def kind(self, name):
        return {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[self.tensors[name].dtype]

    def read(self, name):
        return self.tensors[name]

    def rows(self, name, first, last):
        return self.tensors[name][first:last]


def bf16(x):
    return x.bfloat16().float()


def int8(x):
    codes, scales = whole(x.flatten(0, -2).numpy(), 127)
    return torch.from_numpy(codes * scales[:, None]).reshape(x.shape)


def definition(model, ids, cache="bf16"):
    """Logits (T, V) and hidden states (T, D) of a torch model with keys, values and queries rounded as the
    native cache rounds them; of weights, too.
    """
    narrow = {"bf16": bf16, "int8": int8}[cache]
    model = model if isinstance(model, Llama) else load(model, torch.float32)
    width = model.config.head_dim

    def attend(layer, q, k, v):
        asked = bf16(q * width**-0.5) * width**0.5 if cache == "bf16" else q
        return mix(asked, *map(keys, (narrow(k), narrow(v))))

    def keys(x):
        return x.transpose(0, 1)

    with torch.inference_mode():
        hidden = model.model(torch.tensor(ids), torch.arange(len(ids)), attend)
        return model.lm_head(hidden).numpy(), hidden.numpy()


def off(got, want):
    """Mean Kullback-Leibler divergence in nats."""
    p, q = (torch.tensor(x).double().log_softmax(-1) for x in (want, got))
    return float((p.exp() * (p - q)).sum(-1).mean())
