"""Pre-training in a folder. Killed anywhere, it goes on to the bit.

run/recipe.json      the recipe as it was resolved
run/log.jsonl        one record a step
run/time.json        where its time went
run/checkpoints/     the newest ones
run/model/           at the end: a Hugging Face folder with its tokenizer
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from puna import log
from puna.errors import ConfigError, need
from puna.model.transformer import Llama
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.average import Average
from puna.train.batches import Ahead, Batches, next_token_loss
from puna.train.checkpoint import Checkpoints, facts_of, read
from puna.train.health import Health
from puna.train.optimizer import Optimizer
from puna.train.recipe import TrainRecipe
from puna.train.spent import Spent
from puna.train.statistics import Statistics
from puna.train.step import Position, Step, bits_per_byte, in_turn, steps

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
JUDGED = 64  # held-out sequences of each set


class Run:
    """One run in one folder."""

    def __init__(self, recipe: TrainRecipe, folder: Path, model: Llama, tokenizer: Tokenizer):
        """`model` in fp32 on its device; the shards are of `tokenizer`."""
        self.recipe, self.folder, self.model, self.tokenizer = recipe, Path(folder), model, tokenizer
        self.shape = model.config  # as the run begins; stages change its RoPE
        self.batches = Batches(recipe, str(next(model.parameters()).device))
        for row in self.batches.rows.values():
            row.shards.made_by(tokenizer)
        self.optimizer = Optimizer([self.model], recipe.optimizer, DTYPES[recipe.dtype])
        self.health, self.position = Health(recipe.health), Position()
        self.spent, every = Spent(), recipe.statistics_every
        self.statistics = Statistics([model], self.optimizer, self.position, every)
        last = recipe.stage[-1].steps
        self.average = Average(recipe.average, self.optimizer.masters, recipe.steps, last)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", recipe.keep, recipe.keep_every)
        self.loss = partial(next_token_loss, z=recipe.z_loss)

    def go(self, until: int | None = None) -> Iterator[Step]:
        """Carry out the steps that are left, saving on the way."""
        until = min(until or self.recipe.steps, self.recipe.steps)
        self._begin()
        self._turn()
        accumulate, ahead = in_turn(self.model, self.loss), Ahead(self.batches, self.recipe.prefetch)
        told = steps(accumulate, self.statistics, ahead, self.recipe.rate, self.health, self.position, until)
        try:
            for step in told:
                self._note(asdict(step) | {"event": "step"})
                self.average.take(step.step)
                self.spent.seconds.update(data=step.data_s, steps=step.seconds - step.data_s)
                if self.statistics.is_due(step.step):
                    with self.spent.on("statistics"):
                        self._note(self.statistics.found(step))
                yield step
                if self.health.is_lost:
                    self._rewind()
                if self.position.step in self.recipe.ends:
                    self.health.new_level()
                if self.position.step % self.recipe.checkpoint_every == 0:
                    self.save()
                if (
                    self.position.step % self.recipe.judge_every == 0
                    or self.position.step == self.recipe.steps
                ):
                    self.judge()
                if self.position.step == self.recipe.steps and self.average.count:
                    with self.averaged():
                        self.judge("mean")
                self._turn()
        finally:
            ahead.close()
            with self.spent.on("checkpoints"):
                self.checkpoints.settle()
            self._say_spent()
        if self.position.step == self.recipe.steps:
            self.save()
            self.checkpoints.settle()

    def save(self) -> None:
        """Write a checkpoint in the background."""
        facts = {"position": asdict(self.position), "health": self.health.state(), "recipe": self._hash()}
        facts |= {"averaged": self.average.count, "spent": self.spent.state()}
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
            found = self._bits_per_byte()
        said = {"event": "judged", "step": self.position.step, "bits_per_byte": found}
        self._note(said | {"weights": weights})
        return found

    def _bits_per_byte(self) -> dict[str, float]:
        found = {}
        for name in self.batches.rows:
            nats = tokens = text = 0.0
            for part in self.batches.held_out(name, JUDGED):
                nats += float(self.loss(self.model, part)[1])
                tokens += float(part.weights.sum())
                text += self._bytes(part.targets[part.weights > 0])
            if tokens:
                found[name] = bits_per_byte(nats / tokens, text / tokens)
        return found

    def _begin(self) -> None:
        """Go on where a checkpoint of this folder ends; else from the start."""
        self.folder.mkdir(parents=True, exist_ok=True)
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
        _cut(self.folder / "log.jsonl", self.position.step)
        said = self.recipe.model_dump(mode="json")
        (self.folder / "recipe.json").write_text(json.dumps(said, indent=1), encoding="utf-8")

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
            self._note({"event": "risen", "step": last, "problem": "no checkpoint from before to go back to"})
            return
        facts = self._read(good)
        self.health.rewound(facts["health"])
        left_out = [facts["position"]["step"], last]
        self._note({"event": "rewound", "step": last, "checkpoint": str(good), "left_out": left_out})
        self.save()

    def _turn(self) -> None:
        """Positions as the stage of the next step has them [P 3.4.2]."""
        self.model.model.config = self.recipe.shape(self.shape, self.position.step)

    def _note(self, record: dict) -> None:
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        log.event(record["event"], **{key: value for key, value in record.items() if key != "event"})

    def _say_spent(self) -> None:
        found = self.spent.summary()
        (self.folder / "time.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        log.event("spent", **found)

    def _hash(self) -> str:
        """Of what decides the weights, the shards' content too; not of how often they are saved or judged."""
        apart = {
            "checkpoint_every",
            "keep",
            "keep_every",
            "judge_every",
            "prefetch",
            "statistics_every",
            "device",
            "name",
            "data",
            "tokenizer",
        }
        content = {name: row.shards.content for name, row in self.batches.rows.items()}
        said = json.dumps([content, self.recipe.model_dump(mode="json", exclude=apart)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _bytes(self, tokens: torch.Tensor) -> int:
        return len(self.tokenizer.decode(tokens.tolist()).encode())


def _cut(path: Path, step: int) -> None:
    """Take out of the log what comes after a step: it will be done again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        if record["step"] < step or (record["event"] == "judged" and record["step"] == step):
            kept.append(line)
    part = path.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, path)
