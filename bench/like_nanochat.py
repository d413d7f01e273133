"""A model of nanochat's design, written from its description, for what it multiplies in a second on a CPU.

nanochat's package carries no model. Its plain form: queries and keys normed after rotation, norms without
weights, squared ReLU, an untied head with capped logits, every head its own keys and values; fp32 and
torch.compile where there is no GPU. What newer versions add (value embeddings, gates) is left out: it costs
time and no products.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CAP = 15.0  # of the logits


class Block(nn.Module):
    def __init__(self, D: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(D, 4 * D, bias=False), nn.Linear(4 * D, D, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, D = x.shape
        normed = norm(x)
        q, k, v = (part(normed).view(B, T, self.heads, -1) for part in (self.q, self.k, self.v))
        q, k = (norm(rotated(part, cos, sin)) for part in (q, k))
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        x = x + self.o(mixed.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.relu(self.up(norm(x))).square())


class LikeNanochat(nn.Module):
    def __init__(self, D: int, layers: int, heads: int, vocabulary: int, T: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, D)
        self.blocks = nn.ModuleList(Block(D, heads) for _ in range(layers))
        self.head = nn.Linear(D, vocabulary, bias=False)
        turns = 10_000.0 ** -torch.linspace(0, 1, D // heads // 2 + 1)[:-1]
        angles = torch.outer(torch.arange(T).float(), turns)[:, None]  # (T, 1, Dh / 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = norm(self.embedding(tokens))  # (B, T, D)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = CAP * torch.tanh(self.head(norm(x)).float() / CAP)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def flops(self, T: int) -> int:
        """Of training on one token: six for each weight that multiplies, attention by the causal count."""
        D, layers = self.head.in_features, len(self.blocks)
        return 6 * (self.head.weight.numel() + layers * 12 * D * D) + 6 * layers * D * T


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:])


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], -1)
