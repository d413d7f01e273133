"""A tiny run: shards of made-up documents, a vocabulary of bytes, a model that trains in a second."""

import random

import numpy as np

from puna.data.shards import ShardWriter, shard_name
from puna.tokenizer.formats import load, to_hf
from puna.tokenizer.merges import from_ranks
from puna.tokenizer.specials import Specials
from puna.tokenizer.splits import LLAMA3
from puna.tokenizer.tokenizer import Tokenizer

RECIPE = """
name = "tiny"
tokenizer = "{0}/vocabulary"
micro = 2
checkpoint_every = 3
judge_every = 6
held_out = 0.05
{more}
[model]
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
intermediate_size = 64
vocab_size = 262
max_position_embeddings = 64
tie_word_embeddings = true
[data]
a = "{0}/a"
b = "{0}/b"
[[stage]]
tokens = 1536
sequence = 32
batch = 4
weights = {{ a = 3.0, b = 1.0 }}
[[stage]]
tokens = 768
sequence = 64
batch = 2
weights = {{ b = 1.0 }}
[schedule]
peak = 1e-2
warmup = 2
"""


def nursery(folder, more=""):
    """A folder with all that the recipe names."""
    words = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b" and"]
    specials = Specials.gathered({"<|begin|>": 260, "<|end|>": 261}, bos=260, eos=261)
    to_hf(Tokenizer(from_ranks(words), LLAMA3, specials), folder / "vocabulary")
    tokenizer = load(folder / "vocabulary")
    for name, seed in (("a", 1), ("b", 2)):
        dice, texts = (
            random.Random(seed),
            ["the lake and the snow and the wool", "salt on the road and the ice"],
        )
        documents = [
            [260, *tokenizer.encode(" ".join(dice.choices(texts, k=dice.randrange(1, 5)))), 261]
            for _ in range(120)
        ]
        (folder / name).mkdir()
        with ShardWriter(folder / name / shard_name(0), 262, ["made"], tokenizer.fingerprint()) as shard:
            flat = np.concatenate([np.array(document) for document in documents])
            ids = np.random.default_rng(seed).integers(0, 256, (120, 16), dtype=np.uint8)
            shard.extend(flat, np.array(list(map(len, documents))), ids, np.zeros(120, int))
    (folder / "recipe.toml").write_text(RECIPE.format(folder, more=more))
    return folder / "recipe.toml"
