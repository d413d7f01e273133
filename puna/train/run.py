"""Pre-training in a folder. Killed anywhere, it goes on to the bit.

run/recipe.json      the recipe as it was resolved
run/log.jsonl        one record a step
run/checkpoints/     the newest ones
run/model/           at the end: a Hugging Face folder with its tokenizer
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from puna import log
from puna.errors import ConfigError, need
from puna.model.transformer import Llama
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.batches import Batches, next_token_loss
from puna.train.checkpoint import Checkpoints, read
from puna.train.health import Health
from puna.train.optimizer import Optimizer
from puna.train.recipe import TrainRecipe
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
        self.checkpoints = Checkpoints(self.folder / "checkpoints", recipe.keep, recipe.keep_every)
        self.loss = partial(next_token_loss, z=recipe.z_loss)

    def go(self, until: int | None = None) -> Iterator[Step]:
        """Carry out the steps that are left, saving on the way."""
        until = min(until or self.recipe.steps, self.recipe.steps)
        self._begin()
        self._turn()
        rate = partial(self.recipe.schedule.rate, steps=self.recipe.steps)
        accumulate = in_turn(self.model, self.loss)
        told = steps(accumulate, self.optimizer, self.batches, rate, self.health, self.position, until)
        try:
            for step in told:
                self._note(asdict(step) | {"event": "step"})
                yield step
                if self.position.step % self.recipe.checkpoint_every == 0:
                    self.save()
                if (
                    self.position.step % self.recipe.judge_every == 0
                    or self.position.step == self.recipe.steps
                ):
                    self.judge()
                self._turn()
        finally:
            self.checkpoints.settle()
        if self.position.step == self.recipe.steps:
            self.save()
            self.checkpoints.settle()

    def save(self) -> None:
        """Write a checkpoint in the background."""
        facts = {"position": asdict(self.position), "health": self.health.state(), "recipe": self._hash()}
        self.checkpoints.save(self.position.step, self.optimizer.state(), facts)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Bits a byte of what was never trained on, for each set of data."""
        found = {}
        for name in self.batches.rows:
            nats = tokens = text = 0.0
            for part in self.batches.held_out(name, JUDGED):
                nats += float(self.loss(self.model, part)[1])
                tokens += float(part.weights.sum())
                text += self._bytes(part.targets[part.weights > 0])
            if tokens:
                found[name] = bits_per_byte(nats / tokens, text / tokens)
        self._note({"event": "judged", "step": self.position.step, "bits_per_byte": found})
        return found

    def _begin(self) -> None:
        """Go on where a checkpoint of this folder ends; else from the start."""
        self.folder.mkdir(parents=True, exist_ok=True)
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
        _cut(self.folder / "log.jsonl", self.position.step)
        said = self.recipe.model_dump(mode="json")
        (self.folder / "recipe.json").write_text(json.dumps(said, indent=1), encoding="utf-8")

    def _turn(self) -> None:
        """Positions as the stage of the next step has them [P 3.4.2]."""
        self.model.model.config = self.recipe.shape(self.shape, self.position.step)

    def _note(self, record: dict) -> None:
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        log.event(record["event"], **{key: value for key, value in record.items() if key != "event"})

    def _hash(self) -> str:
        """Of what decides the weights, the shards' content too; not of how often they are saved or judged."""
        apart = {
            "checkpoint_every",
            "keep",
            "keep_every",
            "judge_every",
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
