"""Pre-training in a folder. Killed anywhere, it goes on to the bit.

run/recipe.json      the recipe as it was resolved
run/log.jsonl        one record a step
run/checkpoints/     the newest ones
run/model/           at the end: a Hugging Face folder with its tokenizer
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from puna import log
from puna.errors import ConfigError, need
from puna.model.transformer import Llama
from puna.parallel.agree import Ranks
from puna.parallel.context import attention, own
from puna.parallel.pipeline import Pipeline
from puna.parallel.world import ALONE, World
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.batches import Batches, Part, next_token_loss
from puna.train.checkpoint import Checkpoints, read
from puna.train.guard import Guard
from puna.train.health import Health
from puna.train.optimizer import Optimizer
from puna.train.recipe import TrainRecipe
from puna.train.record import Record
from puna.train.step import Position, Step, bits_per_byte, in_turn, steps

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
JUDGED = 64  # held-out sequences of each set
# of the recipe, what the weights do not depend on
APART = {
    "name", "data", "tokenizer", "device", "layout", "micro", "guard",
    "checkpoint_every", "checkpoints", "keep", "keep_every", "judge_every",
}  # fmt: skip


class Run:
    """One run in one folder; on several ranks, one of them."""

    def __init__(
        self,
        recipe: TrainRecipe,
        folder: Path,
        models: Sequence[Llama],
        tokenizer: Tokenizer,
        world: World = ALONE,
    ):
        """`models`: this rank's stages, in fp32 on its device; the shards of data are of `tokenizer`."""
        self.recipe, self.folder, self.tokenizer, self.world = recipe, Path(folder), tokenizer, world
        self.models, self.config = models, models[0].config
        share, shares = world.place("readers"), world.layout.readers
        self.batches = Batches(recipe, world.device, share, shares, partial(own, world=world))
        for row in self.batches.rows.values():
            row.shards.made_by(tokenizer)
        dtype = DTYPES[recipe.dtype]
        apart = None if world.mesh is not None else dtype  # on ranks FSDP sees to it
        self.optimizer = Optimizer(models, recipe.optimizer, apart, world)
        self.health, self.position = Health(recipe.health), Position()
        place, ranks = self.folder / "checkpoints", Ranks(world, recipe.guard.timeout_s)
        keep = (recipe.keep, recipe.keep_every)
        self.checkpoints = Checkpoints(place, *keep, ranks, recipe.checkpoints)
        self.record = Record(self.folder, ours=world.rank == 0)
        self.loss = partial(next_token_loss, z=recipe.z_loss, attention=attention(world))
        several = world.layout.pipeline > 1
        self.pipeline = Pipeline(models, self.loss, world, dtype) if several else None
        self.stopped = ""  # the signal that ended it early, if one did

    def go(self, until: int | None = None) -> Iterator[Step]:
        """Carry out the steps that are left, saving on the way."""
        until = min(until or self.recipe.steps, self.recipe.steps)
        with Guard(self.recipe.guard) as guard:
            guard.beat()
            self._begin()
            try:
                for step in self._steps(until):
                    self.record.note(asdict(step) | {"event": "step"})
                    guard.rest()
                    yield step
                    guard.beat()
                    self._after()
                    if self.world.any(bool(guard.asked)):
                        self.stopped = guard.asked or "another rank's signal"
                        break
                if self.stopped or self.position.step == self.recipe.steps:
                    self.save()
            finally:
                self.checkpoints.settle()

    def save(self) -> None:
        """Write a checkpoint in the background, if there is none of this step."""
        if self.checkpoints.last == self.position.step:
            return
        facts = {"position": asdict(self.position), "health": self.health.state(), "recipe": self._hash()}
        facts["layout"] = self.world.layout.model_dump(mode="json")
        self.checkpoints.save(self.position.step, self.optimizer.state(), facts)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Bits a byte of what was never trained on, for each set of data."""
        found = {}
        for name in self.batches.rows:
            parts = list(self.batches.held_out(name, JUDGED))
            asked = [token for part in parts for token in part.targets[part.weights > 0].tolist()]
            counts = torch.tensor([len(asked), sum(map(self._length, asked))], dtype=torch.float64)
            tokens, text = self.world.over_tokens(counts).tolist()
            nats = float(self.world.over_stages(self.world.over_tokens(self._sums(parts)))[1])
            if tokens:
                found[name] = bits_per_byte(nats / tokens, text / tokens)
        self.record.note({"event": "judged", "step": self.position.step, "bits_per_byte": found})
        return found

    def _sums(self, parts: Sequence[Part]) -> Tensor:
        """The loss over this rank's parts: (2,)."""
        if self.pipeline:
            return self.pipeline.judge(parts)
        found = [self.loss(self.models[0], part).double().cpu() for part in parts]
        return torch.stack(found or [torch.zeros(2, dtype=torch.float64)]).sum(0)  # (2,)

    def _steps(self, until: int) -> Iterator[Step]:
        rate = partial(self.recipe.schedule.rate, steps=self.recipe.steps)
        accumulate = self.pipeline or in_turn(self.models[0], self.loss)
        return steps(
            accumulate, self.optimizer, self.batches, rate, self.health, self.position, until, self.world
        )

    def _after(self) -> None:
        """What is due after a step."""
        done, r = self.position.step, self.recipe
        if done % r.checkpoint_every == 0:
            self.save()
        if done % r.judge_every == 0 or done == r.steps:
            self.judge()
        self._turn()

    def _begin(self) -> None:
        """Go on where a checkpoint of this folder ends; else from the start."""
        if self.world.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoints.tidy()
        newest = self.checkpoints.newest()
        if newest:
            self.optimizer.prepare()
            facts = read(newest, self.optimizer.state())
            fix = "another folder for another recipe"
            need(facts["recipe"] == self._hash(), f"{newest}: made by another recipe", fix, ConfigError)
            self.position.__init__(**facts["position"])
            self.health.load(facts["health"])
            self.optimizer.publish()
            log.event("resumed", checkpoint=str(newest), step=self.position.step)
        self.record.begin(self.recipe.model_dump(mode="json"), self.position.step)
        self._turn()

    def _turn(self) -> None:
        """Positions as the stage of the next step has them [P 3.4.2]."""
        for model in self.models:
            model.model.config = self.recipe.shape(self.config, self.position.step)

    def _hash(self) -> str:
        """Of what decides the weights, the shards' content too; not of how they are made and kept."""
        content = {name: row.shards.content for name, row in self.batches.rows.items()}
        said = json.dumps([content, self.recipe.model_dump(mode="json", exclude=APART)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _length(self, token: int) -> int:
        return len(self.tokenizer.bytes_of(token))
