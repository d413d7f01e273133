"""A real but small world for tests of the engine and the server: a byte tokenizer, a template, tiny Llamas.

`random_llama` has random weights. `parrot` is a Llama whose weights are set by hand so that each token has
one known successor: its embedding is the identity, attention and MLP add nothing, its head is a
permutation. It says what a test wants said.
"""

import codecs
import json
import re
from collections import namedtuple
from itertools import pairwise

import torch

from puna.engine.engine import Engine
from puna.engine.runner import TorchRunner
from puna.model.config import ModelConfig
from puna.model.transformer import Llama

SPECIAL = ("<bos>", "<eot>", "<start>", "<end>", "<|python_tag|>")
Rendered = namedtuple("Rendered", "ids spans")


class ByteTokenizer:
    """256 bytes, then whole `words` (longest first when encoding), then the special tokens."""

    def __init__(self, words=()):
        self.pieces = [bytes([n]) for n in range(256)] + [w.encode() for w in words]
        self.special = self.specials = {name: len(self.pieces) + n for n, name in enumerate(SPECIAL)}
        self.size = len(self.pieces) + len(SPECIAL)
        self.ids = {piece: id for id, piece in enumerate(self.pieces)}
        longest = sorted(self.pieces, key=len, reverse=True)
        self.pattern = re.compile(b"|".join(re.escape(piece) for piece in longest), re.DOTALL)
        self.bos_id, self.adds_bos = self.special["<bos>"], True
        self.stop_ids = frozenset({self.special["<eot>"]})

    def encode(self, text, special=False):
        return [self.ids[piece] for piece in self.pattern.findall(text.encode(errors="replace"))]

    def bytes_of(self, id):
        return self._bytes(id, special=True)

    def decode(self, ids, special=True):
        return b"".join(self._bytes(id, special) for id in ids).decode(errors="replace")

    def stream(self, special=False):
        return ByteStream(self, special)

    def _bytes(self, id, special):
        if id < len(self.pieces):
            return self.pieces[id]
        return SPECIAL[id - len(self.pieces)].encode() if special else b""


class ByteStream:
    def __init__(self, tokenizer, special):
        self.tokenizer, self.special = tokenizer, special
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id):
        return self.decoder.decode(self.tokenizer._bytes(id, self.special))

    def finish(self):
        return self.decoder.decode(b"", final=True)


class PlainTemplate:
    """<bos>, each message as <start>role<end>content<eot>."""

    def __init__(self, tokenizer):
        self.tokenizer, self.stop_ids = tokenizer, tokenizer.stop_ids

    def render(self, messages, tools=(), reply=True):
        special, encode = self.tokenizer.special, self.tokenizer.encode
        ids = [special["<bos>"]]
        for message in messages:
            ids += [special["<start>"], *encode(message.role), special["<end>"]]
            ids += [*encode(message.content), special["<eot>"]]
        if tools:
            ids += encode(json.dumps([tool.to_openai() for tool in tools]))
        if reply:
            ids += [special["<start>"], *encode("assistant"), special["<end>"]]
        return Rendered(ids, ())


def random_llama(vocab_size, context=512, seed=0):
    torch.manual_seed(seed)
    model = Llama(
        ModelConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=64,
            vocab_size=vocab_size,
            max_position_embeddings=context,
        )
    )
    for weight in model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return model.requires_grad_(False)


def parrot(vocab_size, sequence, context=512):
    """A Llama that after sequence[i] writes sequence[i + 1], surely; after other tokens it is undecided."""
    model = Llama(
        ModelConfig(
            hidden_size=vocab_size,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=2,
            intermediate_size=2,
            vocab_size=vocab_size,
            max_position_embeddings=context,
        )
    ).requires_grad_(False)
    model.model.embed_tokens.weight.copy_(torch.eye(vocab_size))
    for projection in (model.model.layers["0"].self_attn.o_proj, model.model.layers["0"].mlp.down_proj):
        projection.weight.zero_()
    model.lm_head.weight.zero_()
    for before, after in pairwise(sequence):
        model.lm_head.weight[after, before] = 10.0
    return model


def torch_engine(model, tokenizer, *, contexts=4, page=16, **settings):
    """An engine over the torch definition, with room for so many contexts."""
    pages = int(contexts * model.config.max_position_embeddings) // page
    return Engine(TorchRunner(model, pages, page), model.config, tokenizer, **settings)
