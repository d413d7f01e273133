"""How a model and its batch are laid over ranks, and which layouts cannot be. No torch: plans read it.

Ranks are numbered with `tensor` innermost, then context, shard, replicate, pipeline, so what talks most
stands nearest [P 3.3.2].
"""

from typing import Annotated, Literal

from pydantic import Field

from puna.errors import ConfigError, need
from puna.model.config import ModelConfig
from puna.settings import Settings

Count = Annotated[int, Field(ge=1)]
Schedule = Literal[
    "gpipe", "1f1b", "interleaved", "looped_bfs", "interleaved_zero_bubble", "zbv", "dualpipev"
]
SINGLE = ("gpipe", "1f1b")  # one stage a rank
VSHAPED = ("zbv", "dualpipev")  # exactly two: the first rank also holds the last stage


class Layout(Settings):
    """Degrees of parallelism: their product is the number of ranks."""

    pipeline: Count = 1  # stages of layers
    replicate: Count = 1  # whole copies of the shards (HSDP)
    shard: Count = 1  # every tensor in so many pieces (FSDP)
    context: Count = 1  # every sequence in so many pieces
    tensor: Count = 1  # every matrix in so many pieces, activations between them too
    schedule: Schedule = "1f1b"
    stages: Count | None = None  # a rank's stages of the pipeline; None: what the schedule takes, 1 or 2
    reshard: Literal["always", "never"] | Count | None = (
        None  # after the forward pass; None: not in a pipeline
    )
    loss_parallel: bool = True  # with tensor: each rank holds the logits of its words only
    recompute: Literal["none", "selective", "full"] = "none"  # activations again in the backward pass
    compile: bool = False

    @property
    def ranks(self) -> int:
        return self.pipeline * self.replicate * self.shard * self.context * self.tensor

    @property
    def readers(self) -> int:
        """In how many shares a batch is read."""
        return self.replicate * self.shard

    @property
    def stages_a_rank(self) -> int:
        """How many stages of the pipeline each rank holds."""
        return self.stages or (1 if self.pipeline == 1 or self.schedule in SINGLE else 2)

    def check(self, model: ModelConfig, sequence: int, batch: int, micro: int) -> None:
        """Refuse what cannot be, with the reason. sequence in tokens; batch and micro in sequences."""
        for fits, problem, fix in self._rules(model, sequence, batch, micro) + self._shard_rules():
            need(fits, f"layout: {problem}", fix, ConfigError)

    def _rules(self, m: ModelConfig, sequence: int, batch: int, micro: int) -> list[tuple[bool, str, str]]:
        readers, tensor, context = self.readers, self.tensor, self.context
        pieces = 2 * context * tensor if context > 1 else tensor
        heads, words = m.num_key_value_heads, m.vocab_size
        return [
            (heads % tensor == 0, f"tensor = {tensor} does not divide {heads} key-value heads",
             f"tensor up to {heads}, and more of shard or pipeline"),
            (m.intermediate_size % tensor == 0,
             f"tensor = {tensor} does not divide the hidden width {m.intermediate_size}", "a smaller tensor"),
            (words % tensor == 0, f"tensor = {tensor} does not divide {words:,} words",
             "a vocab_size that it divides"),
            (sequence % pieces == 0, f"sequences of {sequence:,} tokens do not fall into {pieces} pieces "
             f"(tensor = {tensor}, context = {context})", "another sequence length"),
            (batch % readers == 0, f"a batch of {batch:,} sequences does not fall into {readers} shares "
             "(replicate x shard)", "a batch that they divide"),
        ]  # fmt: skip

    def _shard_rules(self) -> list[tuple[bool, str, str]]:
        pieces, again = self.shard * self.context, self.reshard
        return [
            (not isinstance(again, int) or pieces % again == 0, f"reshard = {again} does not divide the {pieces} "
             "ranks that share a tensor (shard x context)", f'a divisor of {pieces}, "always" or "never"'),
        ]  # fmt: skip
