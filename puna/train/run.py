"""Pre-training in a folder. Killed anywhere, it goes on to the bit.

run/recipe.json      the recipe as it was resolved
run/log.jsonl        one record a step
run/time.json        where its time went
run/checkpoints/     the newest ones
run/model/           at the end: a Hugging Face folder with its tokenizer
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puna import hardware, log
from puna.errors import ConfigError, need
from puna.model.transformer import Llama
from puna.parallel.agree import Ranks
from puna.parallel.context import attention, own
from puna.parallel.fsdp import let_go
from puna.parallel.pipeline import Pipeline
from puna.parallel.world import ALONE, World
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.average import Average
from puna.train.batches import Ahead, Batches, Part, next_token_loss
from puna.train.checkpoint import Checkpoints, facts_of, read
from puna.train.guard import Guard
from puna.train.health import Health
from puna.train.optimizer import Optimizer
from puna.train.recipe import TrainRecipe
from puna.train.record import Record
from puna.train.spent import Spent
from puna.train.statistics import Statistics
from puna.train.step import Position, Step, bits_per_byte, in_turn, steps

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
# of the recipe, what the weights do not depend on
APART = {
    "name", "data", "tokenizer", "device", "layout", "micro", "guard",
    "checkpoint_every", "checkpoints", "keep", "keep_every", "judge_every", "prefetch", "statistics_every",
    "samples", "sample_every", "tensorboard",
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
        self.spent, every = Spent(), recipe.statistics_every
        self.statistics = Statistics(models, self.optimizer, self.position, every, world)
        last = recipe.stage[-1].steps
        self.average = Average(recipe.average, self.optimizer.masters, recipe.steps, last)
        place, ranks = self.folder / "checkpoints", Ranks(world, recipe.guard.timeout_s)
        keep = (recipe.keep, recipe.keep_every)
        self.checkpoints = Checkpoints(place, *keep, ranks, recipe.checkpoints)
        self.record = Record(self.folder, ours=world.rank == 0)
        self.loss = partial(next_token_loss, z=recipe.z_loss, attention=attention(world))
        several = world.layout.pipeline > 1
        self.pipeline = Pipeline(models, self.loss, world, dtype) if several else None
        self.about: dict[str, Any] = {}  # told where it begins, if anything: the machine, what a token costs
        self.stopped = ""  # the signal that ended it early, if one did

    @property
    def model(self) -> Llama:
        """The model of a run on one process; of several, this rank's first stage."""
        return self.models[0]

    def go(self, until: int | None = None) -> Iterator[Step]:
        """Carry out the steps that are left, saving on the way."""
        until = min(until or self.recipe.steps, self.recipe.steps)
        with Guard(self.recipe.guard) as guard:
            guard.beat()
            self._begin()
            ahead = Ahead(self.batches, self.recipe.prefetch)
            try:
                for step in self._steps(ahead, until):
                    self._tell(step)
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
                ahead.close()
                with self.spent.on("checkpoints"):
                    self.checkpoints.settle()
                self.record.tell_spent(self.spent.summary())

    def save(self) -> None:
        """Write a checkpoint in the background, if there is none of this step."""
        if self.checkpoints.last == self.position.step:
            return
        facts = {"position": asdict(self.position), "health": self.health.state(), "recipe": self._hash()}
        facts |= {"averaged": self.average.count, "spent": self.spent.state()}
        facts["layout"] = self.world.layout.model_dump(mode="json")
        with self.spent.on("checkpoints"):
            self.checkpoints.save(self.position.step, self.optimizer.state() | self.average.state(), facts)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model is the mean of its last weights while the block runs, where one is taken."""
        with self.average.as_weights():
            self.optimizer.publish()
            yield
        self.optimizer.publish()

    def judge(self, weights: str = "last") -> dict[str, float]:
        """Bits a byte of what was never trained on, for each set of data."""
        with self.spent.on("judging"), torch.no_grad():
            losses, found = self._held_out()
        said = {"event": "judged", "step": self.position.step, "bits_per_byte": found, "loss": losses}
        self.record.note(said | {"weights": weights})
        return found

    def _held_out(self) -> tuple[dict[str, float], dict[str, float]]:
        """Nats a token and bits a byte, of each set."""
        losses, found = {}, {}
        for name in self.batches.rows:
            parts = list(self.batches.held_out(name, self.recipe.judged))
            asked = [token for part in parts for token in part.targets[part.weights > 0].tolist()]
            counts = torch.tensor([len(asked), sum(map(self._length, asked))], dtype=torch.float64)
            tokens, text = self.world.over_tokens(counts).tolist()
            nats = float(self.world.over_stages(self.world.over_tokens(self._sums(parts)))[1])
            if tokens:
                losses[name], found[name] = nats / tokens, bits_per_byte(nats / tokens, text / tokens)
        return losses, found

    def _sums(self, parts: Sequence[Part]) -> Tensor:
        """The loss over this rank's parts: (2,)."""
        if self.pipeline:
            return self.pipeline.judge(parts)
        found = [self.loss(self.model, part).double().cpu() for part in parts]
        let_go(self.models)
        return torch.stack(found or [torch.zeros(2, dtype=torch.float64)]).sum(0)  # (2,)

    def _steps(self, batches: Ahead, until: int) -> Iterator[Step]:
        accumulate = self.pipeline or in_turn(self.model, self.loss)
        rate, health = self.recipe.rate, self.health
        return steps(accumulate, self.statistics, batches, rate, health, self.position, until, self.world)

    def _tell(self, step: Step) -> None:
        self.record.note(asdict(step) | {"event": "step"} | self._cost(step))
        self.average.take(step.step)
        self.spent.seconds.update(data=step.data_s, steps=step.seconds - step.data_s)
        if self.statistics.is_due(step.step):
            with self.spent.on("statistics"):
                self.record.note(self.statistics.found(step))

    def _after(self) -> None:
        """What is due after a step."""
        if self.health.is_lost:
            self._rewind()
        done, r = self.position.step, self.recipe
        if done in r.ends:
            self.health.new_level()
        if done % r.checkpoint_every == 0:
            self.save()
        if done % r.judge_every == 0 or done == r.steps:
            self.judge()
        if done == r.steps and self.average.count:
            with self.averaged():
                self.judge("mean")
        self._turn()

    def _begin(self) -> None:
        """Go on where a checkpoint of this folder ends; else from the start."""
        if self.world.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoints.tidy()
        newest = self.checkpoints.newest()
        if newest:
            self.optimizer.prepare()
            facts = self._read(newest)
            fix = "another folder for another recipe"
            need(facts["recipe"] == self._hash(), f"{newest}: made by another recipe", fix, ConfigError)
            self.position.__init__(**facts["position"])
            self.health.load(facts["health"])
            self.spent.load(facts["spent"])
            log.event("resumed", checkpoint=str(newest), step=self.position.step)
        self.record.begin(self.recipe.model_dump(mode="json"), self.position.step)
        if self.about:
            self.record.note({"event": "begun", "step": self.position.step} | self.about)
        self._turn()

    def _read(self, checkpoint: Path) -> dict[str, Any]:
        """Take the weights of a checkpoint, and all that goes with them; its facts."""
        self.average.expect(facts_of(checkpoint)["averaged"])
        facts = read(checkpoint, self.optimizer.state() | self.average.state())
        self.optimizer.publish()
        return facts

    def _rewind(self) -> None:
        """Back to the weights from before the loss rose, and past the batches since."""
        last = self.position.step - 1
        self.checkpoints.settle()
        good = self.checkpoints.newest(self.position.step - self.health.risen)
        if not good:
            self.health.new_level()
            self.record.note(
                {"event": "risen", "step": last, "problem": "no checkpoint from before to go back to"}
            )
            return
        facts = self._read(good)
        self.health.rewound(facts["health"])
        left_out = [facts["position"]["step"], last]
        self.record.note({"event": "rewound", "step": last, "checkpoint": str(good), "left_out": left_out})
        self.save()

    def _turn(self) -> None:
        """Positions as the stage of the next step has them [P 3.4.2]."""
        for model in self.models:
            model.model.config = self.recipe.shape(self.config, self.position.step)

    def _cost(self, step: Step) -> dict[str, float]:
        cuda = self.optimizer.length.is_cuda
        memory = torch.cuda.max_memory_allocated() if cuda else hardware.peak_memory()
        return {"tokens_s": step.tokens / step.seconds, "memory": memory}

    def _hash(self) -> str:
        """Of what decides the weights, the shards' content too; not of how they are made and kept."""
        content = {name: row.shards.content for name, row in self.batches.rows.items()}
        said = json.dumps([content, self.recipe.model_dump(mode="json", exclude=APART)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _length(self, token: int) -> int:
        return len(self.tokenizer.bytes_of(token))
