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
ROUNDS = ("interleaved", "interleaved_zero_bubble")  # parts of a batch pass in rounds of equal size
SPLIT = ("interleaved_zero_bubble", *VSHAPED)  # gradients of weights are made later than those of inputs


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

    @property
    def all_stages(self) -> int:
        """How many stages the pipeline has."""
        return self.pipeline * self.stages_a_rank

    def check(self, model: ModelConfig, sequence: int, batch: int, micro: int) -> None:
        """Refuse what cannot be, with the reason. sequence in tokens; batch and micro in sequences."""
        rules = self._rules(model, sequence, batch, micro) + self._shard_rules()
        rules += self._context_rules(sequence)
        if self.pipeline > 1:
            rules += self._pipeline_rules(model, batch, micro)
        for fits, problem, fix in rules:
            need(fits, f"layout: {problem}", fix, ConfigError)

    def _rules(self, m: ModelConfig, sequence: int, batch: int, micro: int) -> list[tuple[bool, str, str]]:
        readers, tensor = self.readers, self.tensor
        heads, words = m.num_key_value_heads, m.vocab_size
        return [
            (heads % tensor == 0, f"tensor = {tensor} does not divide {heads} key-value heads",
             f"tensor up to {heads}, and more of shard or pipeline"),
            (m.intermediate_size % tensor == 0,
             f"tensor = {tensor} does not divide the hidden width {m.intermediate_size}", "a smaller tensor"),
            (words % tensor == 0, f"tensor = {tensor} does not divide {words:,} words",
             "a vocab_size that it divides"),
            (batch % readers == 0, f"a batch of {batch:,} sequences does not fall into {readers} shares "
             "(replicate x shard)", "a batch that they divide"),
        ]  # fmt: skip

    def _shard_rules(self) -> list[tuple[bool, str, str]]:
        pieces, again = self.shard * self.context, self.reshard
        if not isinstance(again, int):
            return []
        return [
            (pieces % again == 0, f"reshard = {again} does not divide the {pieces} ranks that share a tensor "
             "(shard x context)", 'a divisor, "always" or "never"'),
            # FSDP forms the smaller groups among these ranks alone, and the others never answer (torch 2.13)
            (self.tensor == self.pipeline == 1, f"reshard = {again} does not go with tensor or pipeline",
             'reshard = "always" or "never"'),
        ]  # fmt: skip

    def _context_rules(self, sequence: int) -> list[tuple[bool, str, str]]:
        """A sequence is two chunks a rank of context, and each chunk falls evenly to the ranks of tensor."""
        context, tensor = self.context, self.tensor
        pieces = (2 * context if context > 1 else 1) * tensor
        return [
            (sequence % pieces == 0, f"sequences of {sequence:,} tokens do not fall into {pieces} pieces "
             f"(tensor = {tensor}, context = {context})", "another sequence length"),
        ]  # fmt: skip

    def _pipeline_rules(self, m: ModelConfig, batch: int, micro: int) -> list[tuple[bool, str, str]]:
        name, held, stages = self.schedule, self.stages_a_rank, self.all_stages
        share = batch // self.readers
        parts = max(1, share // micro)  # of a rank's share of a batch: what flows through the pipeline
        least = {"1f1b": stages, "dualpipev": stages}.get(name, 1)
        rounds = max(1, parts // self.pipeline) if name in ROUNDS else 1
        takes = 1 if name in SINGLE else 2 if name in VSHAPED else held
        return [
            (not m.tie_word_embeddings, "the first and the last stage of a pipeline cannot share one matrix "
             "(tie_word_embeddings)", "pipeline = 1, or a head of its own"),
            (held == takes, f"{name} has {takes} stages a rank, not {held}", "leave out stages"),
            (stages <= m.num_hidden_layers + 2, f"{m.num_hidden_layers} layers, the embedding and the head "
             f"do not fill {stages} stages", "a smaller pipeline, or fewer stages a rank"),
            (share <= micro or share % micro == 0, f"{share} sequences do not fall into parts of {micro}, "
             "which in a pipeline are all of one size", "a micro that divides batch / (replicate x shard)"),
            (parts >= least, f"{name} with {stages} stages needs as many parts of a batch, here are {parts}",
             "a smaller micro or a larger batch; gpipe takes any number"),
            (parts % rounds == 0, f"{name} does not divide {parts} parts of a batch evenly into {rounds} "
             "rounds", f"a multiple of {self.pipeline}; looped_bfs takes any number"),
            (name not in SPLIT or not self.compile, f"{name} takes the backward pass apart, which it cannot "
             "in compiled layers", "compile = false, or interleaved"),
            (name not in SPLIT or self.reshard in (None, "never"), f"{name} takes the backward pass apart, "
             "and would miss weights that were let go after the forward pass", 'reshard = "never"'),
        ]  # fmt: skip
