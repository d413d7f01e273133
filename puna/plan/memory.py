"""Bytes that a step of training takes on one rank, term by term, from shapes alone.

What is held changes through a step, so the sum is made at the few moments where it can be largest: the loss
at the end of the forward pass, the first and the second block of the way back, its end, the update. The
largest of them is what must fit. Terms follow what the code of model/, parallel/ and train/ keeps for the
backward pass, operation by operation; bench/plan_memory.py and the dry run hold them to what is measured.

Letters: n tokens a rank reads at once, s = n / tensor (its stretch between the matrices), e bytes a number is
computed in, w numbers of a block's matrices on one rank, gathered over FSDP.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from puna.model.config import ModelConfig
from puna.parallel.layout import VSHAPED, Layout
from puna.parallel.stages import owner, split
from puna.plan.counts import BYTES, block
from puna.plan.flow import passes
from puna.settings import Settings

Count = Annotated[int, Field(ge=1)]
WIDE = 4  # bytes of masters, of each of AdamW's two moments, of reduced gradients
CHUNK, ROWS, CHUNK_GPU = 1 << 25, 512, 1 << 30  # logits held at once (train/loss.py; a test compares)
# where a CPU keeps chances: texts in fp32 from, texts to, queries at once (model/products.py; the same test)
PRODUCTS = (128, 2048, 128)


class Work(Settings):
    """What a step does, beside the model and its layout."""

    sequence: Count = 8192
    batch: Count = 1  # sequences in a step, over all ranks
    micro: Count = 1  # sequences that a rank reads at once
    dtype: Literal["fp32", "bf16", "fp8"] = "bf16"
    optimizer: Literal["adamw", "muon"] = "adamw"
    device: Literal["cuda", "cpu", "fake"] = "cuda"  # fake: as a CPU, without what a kernel makes inside
    text: Count | None = None  # tokens of a text on average; None: one fills the sequence

    def parts(self, layout: Layout) -> int:
        """How often a rank goes forward and back in a step."""
        return max(1, self.batch // layout.readers // self.micro)


Terms = dict[str, int]


@dataclass(frozen=True)
class Memory:
    """Bytes by moment and term of the rank of one stage of the pipeline."""

    place: int
    moments: dict[str, Terms]

    @property
    def moment(self) -> str:
        """When most is held."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def terms(self) -> Terms:
        """What is held then."""
        return {name: size for name, size in self.moments[self.moment].items() if size}

    @property
    def total(self) -> int:
        return sum(self.terms.values())


@dataclass(frozen=True)
class Part:
    """What one rank of the pipeline holds of a model: layers in each of its stages, perhaps the ends."""

    layers: tuple[int, ...]
    embeds: bool
    heads: bool


def memory(config: ModelConfig, layout: Layout, work: Work) -> Memory:
    """Of the rank that needs most: at the ends of the pipeline, beside them, or where layers are most."""
    places = {0, min(1, layout.pipeline - 1), layout.pipeline // 2, layout.pipeline - 1}
    return max((memory_at(config, layout, work, place) for place in places), key=lambda found: found.total)


def memory_at(config: ModelConfig, layout: Layout, work: Work, place: int) -> Memory:
    """Of the ranks at one place of the pipeline."""
    return Memory(place, _Rank(config, layout, work, place).moments())


def held(layout: Layout, layers: int, place: int) -> Part:
    """Which layers the rank at this place of the pipeline has: as parallel/stages.py cuts."""
    if layout.pipeline == 1:
        return Part((layers,), True, True)
    return _parts(layers, layout.pipeline, layout.all_stages, layout.schedule in VSHAPED)[place]


@lru_cache
def _parts(layers: int, ranks: int, stages: int, vshaped: bool) -> list[Part]:
    every = split(layers, stages)
    own: list[list[int]] = [[] for _ in range(ranks)]
    for stage in range(stages):
        own[owner(stage, ranks, vshaped)].append(stage)
    return [Part(tuple(len(every[s]) for s in mine), 0 in mine, stages - 1 in mine) for mine in own]


def numbers_of(c: ModelConfig, layout: Layout, part: Part) -> int:
    """What one rank of the pipeline holds of a model, gathered over FSDP."""
    return sum(part.layers) * _block(c, layout) + _outside(c, layout, part)


def _block(c: ModelConfig, layout: Layout) -> int:
    return block(c) // layout.tensor + 2 * c.hidden_size


def _outside(c: ModelConfig, layout: Layout, part: Part) -> int:
    """What stands outside the blocks: embedding, last norm, head."""
    alone = part.embeds and part.heads and c.tie_word_embeddings
    matrices = (part.embeds + part.heads - alone) * (c.vocab_size * c.hidden_size // layout.tensor)
    return matrices + (c.hidden_size if part.heads else 0)


class _Rank:
    """The sums of one rank."""

    def __init__(self, c: ModelConfig, layout: Layout, work: Work, place: int):
        self.c, self.layout, self.work = c, layout, work
        self.part = held(layout, c.num_hidden_layers, place)
        self.parts = work.parts(layout)
        self.t, self.e = layout.tensor, 2 if work.dtype == "fp8" else BYTES[work.dtype]
        self.n = work.micro * work.sequence // layout.context
        self.s = self.n // self.t
        self.passes = passes(layout, place, self.parts)
        self.fsdp = layout.ranks > 1
        self.shares = layout.shard * layout.context
        self.w, self.root = _block(c, layout), _outside(c, layout, self.part)
        self.numbers = numbers_of(c, layout, self.part)

    # what is always there

    def resident(self) -> Terms:
        share = -(-self.numbers // self.shares)
        matrices = sum(self.part.layers) * block(self.c) // self.t // self.shares
        once = matrices if self.work.optimizer == "muon" else 0  # Muon remembers one number a weight
        copy = not self.fsdp and self.e < WIDE
        return {
            "masters": WIDE * share,
            "optimizer": 2 * WIDE * share - WIDE * once,
            "weights": self.e * self.numbers if copy else 0,
        }

    # activations

    def kept(self) -> int:
        """What a block leaves for its way back, for one part of a batch."""
        c, n, s, e, t = self.c, self.n, self.s, self.e, self.t
        norms = 2 * (s * c.hidden_size * (WIDE + e) + WIDE * s + n * c.hidden_size * e)
        queries, groups = c.num_attention_heads * c.head_dim // t, c.num_key_value_heads * c.head_dim // t
        turned = n * e * (queries + 2 * groups * self.layout.context)
        return norms + turned + self.mixed(queries) + 4 * n * c.intermediate_size // t * e

    def mixed(self, queries: int) -> int:
        """What attention leaves: its result, once more in the order that o_proj reads, and its sums."""
        n, e, heads = self.n, self.e, self.c.num_attention_heads // self.t
        text = min(self.work.text or self.work.sequence, self.work.sequence)
        if self.work.device != "cuda" and (1 if e == 2 else PRODUCTS[0]) <= text <= PRODUCTS[1]:
            return n * (queries * e + heads * (text + PRODUCTS[2]) // 2 * e)  # chances
        return n * (2 * queries * e + heads * WIDE)

    def left(self) -> int:
        """What a block leaves if some of it is made again."""
        c, n, e, t = self.c, self.n, self.e, self.t
        entered = self.s * c.hidden_size * e
        if self.layout.recompute == "none":
            return self.kept()
        if self.layout.recompute == "full":
            return entered
        queries = c.num_attention_heads * c.head_dim // t
        return entered + n * c.hidden_size * e + self.twice(queries)

    def twice(self, queries: int) -> int:
        """Selective: what is both kept and part of what a block leaves otherwise: k, the mixed, up."""
        c, n, e, t = self.c, self.n, self.e, self.t
        numbers = queries + c.num_key_value_heads * c.head_dim // t + c.intermediate_size // t
        return n * (numbers * e + c.num_attention_heads // t * WIDE)

    def waiting(self) -> Terms:
        """Activations at the end of a forward pass, of all parts under way."""
        layers = sum(self.part.layers[stage] for stage in self.passes)
        turns = WIDE * self.n * self.c.head_dim  # of RoPE
        turned = sum(self.part.layers[stage] > 0 for stage in self.passes)
        activations = layers * self.left() + turned * turns
        return {"activations": activations, "pipeline": self.travels() if self.layout.pipeline > 1 else 0}

    def travels(self) -> int:
        """Hidden states between stages: there are places for those of all parts, and for their gradients, and
        what was sent is kept.
        """
        part, last = self.part, len(self.part.layers) - 1
        ways = 2 * len(part.layers) - part.embeds - part.heads
        kept = sum(not (part.heads and stage == last) for stage in self.passes)
        if self.layout.recompute != "none":  # what came in is what the first layer of a stage keeps
            kept -= sum(part.layers[stage] > 0 and not (part.embeds and stage == 0) for stage in self.passes)
        return (ways * self.parts + kept) * self.s * self.c.hidden_size * self.e

    def last_norm(self) -> int:
        c = self.c
        return self.s * (c.hidden_size * (WIDE + self.e) + WIDE) + self.n * c.hidden_size * self.e

    # moments

    def moments(self) -> dict[str, Terms]:
        found = {"update": self.update()}
        if self.part.heads:
            found["loss"] = self.loss()
        found |= {"way back": self.back(0), "second block": self.back(1), "end of a block": self.back(2)}
        found |= {"embedding": self.end(0), "end": self.end(1)}
        return found

    def before(self) -> Terms:
        """Gradients of earlier parts of the batch."""
        return {"gradients": self.added_up(self.numbers) if self.parts > 1 else 0}

    def added_up(self, numbers: int) -> int:
        """FSDP adds them up wide; that of an embedding in pieces is of all words until it is reduced."""
        if not self.fsdp:
            return self.e * numbers
        others = (self.t - 1) * (self.c.vocab_size // self.t) * self.c.hidden_size if self.part.embeds else 0
        return WIDE * (numbers + others)

    def loss(self) -> Terms:
        """The last of its chunks (train/loss.py)."""
        terms = {"loss": self.chunk() + self.n * self.c.hidden_size * self.e}
        if self.fsdp:
            terms["gathered"] = (self.numbers if self.never else self.root + self.w) * self.e
        waits = self.waiting()
        waits["activations"] += self.last_norm()
        return _sum(self.resident(), self.before(), waits, terms)

    def chunk(self) -> int:
        """Logits, which become their gradient, or what becomes the head's: whichever takes more."""
        cpu, e, narrow = self.work.device != "cuda", self.e, self.e < WIDE
        words = self.c.vocab_size // (self.t if self.layout.loss_parallel else 1)
        head, rows = (
            words * self.c.hidden_size,
            max(1, min(CHUNK // words, ROWS) if cpu else CHUNK_GPU // words),
        )
        logits, chunks = min(self.n, rows) * words, -(-self.n // rows)
        several = chunks > 1
        wide = WIDE if narrow and (cpu or self.t > 1) else 0  # a copy in fp32; one kernel needs none
        summed = (WIDE + e if narrow else WIDE * min(chunks - 1, 2)) * head  # of the chunks before
        reading = logits * (e + wide + (e if several else 0)) + several * summed
        inside = narrow and several and self.work.device == "cpu"
        found = WIDE if inside else e  # a CPU adds it up by way of a wide copy
        return max(reading, logits * e + found * head + several * summed)

    def gathered(self) -> int:
        """Weights at hand on the way back: this block's, and the next one's on the way."""
        if not self.fsdp:
            return 0
        if self.never:
            return (self.numbers + self.w) * self.e
        return (self.root + 2 * self.w) * self.e

    @property
    def never(self) -> bool:
        again = self.layout.reshard or ("never" if self.layout.pipeline > 1 else "always")
        return again == "never"

    def back(self, moment: int) -> Terms:
        """0: in the MLP of the last block; 1: of the one before; 2: at the end of that."""
        c, n, s, e = self.c, self.n, self.s, self.e
        waits = self.waiting()
        waits["activations"] += self.again(moment)
        mlp = 2 * n * c.intermediate_size // self.t * e + (n + s) * c.hidden_size * e
        norm = 3 * s * c.hidden_size * WIDE + n * c.hidden_size * e
        done = self.w if moment == 2 else c.intermediate_size * c.hidden_size // self.t
        alone = self.part.heads and self.parts == 1  # later it is part of the sum
        head = c.vocab_size * c.hidden_size // self.t * e if alone else 0
        gradients = {"gradients": done * e + head}
        if self.fsdp and moment and self.parts == 1:  # else it stands where the sum of the parts stood
            gradients["reduced"] = WIDE * self.w
        if not self.fsdp:
            gradients["gradients"] += moment * self.w * e
        if self.parts > 1 and not self.fsdp:
            gradients = {"gradients": done * e}
        terms = {"working": norm if moment == 2 else mlp, "gathered": self.gathered()}
        return _sum(self.resident(), self.before(), waits, gradients, terms)

    def again(self, moment: int) -> int:
        """What the way back has added to the activations of the forward pass, or let go of them."""
        if not max(self.part.layers):
            return 0
        left, kept = self.left(), self.kept()
        made = 0 if left == kept else kept - left  # of the block that is made again
        if self.layout.recompute == "selective":
            made += self.s * self.c.hidden_size * self.e + self.n * self.c.hidden_size * self.e
        gone = min(moment, max(self.part.layers)) * left
        return (0 if moment == 2 else made) - gone

    def end(self, moment: int) -> Terms:
        """0: the gradient of the embedding is made; 1: what stands outside the blocks is reduced."""
        waits = {"activations": self.waiting()["activations"] * (len(self.passes) - 1) // len(self.passes)}
        if not self.fsdp:
            every = {"gradients": self.numbers * self.e}
            working = self.s * self.c.hidden_size * 2 * WIDE
            return _sum(self.resident(), every, waits, {"working": working})
        own = {"gradients": WIDE * self.numbers // self.shares}
        rest = self.numbers - self.root if self.never else 0
        if moment:  # all that stands outside the blocks is reduced, its weights are let go
            own["gradients"] += self.root * self.e
            terms = {"reduced": WIDE * self.root, "gathered": rest * self.e}
        else:  # the gradient of the embedding is made of all words, in pieces or not
            matrix = self.c.vocab_size * self.c.hidden_size * self.e
            embedding = matrix if self.part.embeds else 0
            own["gradients"] += matrix // self.t if self.part.heads else 0
            gathered = (rest + self.root) * self.e
            terms = {"working": embedding, "reduced": WIDE * self.w, "gathered": gathered}
        before = {"gradients": self.added_up(self.root) if self.parts > 1 else 0}
        return _sum(self.resident(), own, before, waits, terms)

    def update(self) -> Terms:
        share = -(-self.numbers // self.shares)
        largest = self.c.vocab_size * self.c.hidden_size // self.t
        copy = self.e * largest if not self.fsdp and self.e < WIDE else 0
        return _sum(self.resident(), {"gradients": WIDE * share, "working": copy})


def _sum(*terms: Terms) -> Terms:
    found: Terms = {}
    for some in terms:
        for name, size in some.items():
            found[name] = found.get(name, 0) + size
    return found
