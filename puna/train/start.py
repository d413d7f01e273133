"""From a recipe to a run, and from its end to a model: a Hugging Face folder `model/` with its tokenizer.

Started by torchrun, each process is one rank of the recipe's layout; else there is one that does it all.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from puna import hub
from puna.errors import ConfigError, HardwareError, need
from puna.model import weights as model_weights
from puna.model.config import ModelConfig
from puna.model.fill import fill
from puna.model.hf import write_folder
from puna.model.init import initialize
from puna.model.transformer import Llama
from puna.model.weights import Weights
from puna.parallel.apply import build
from puna.parallel.fp8 import eight_bits
from puna.parallel.layout import Layout
from puna.parallel.world import World, join, leave
from puna.quant.source import open_weights
from puna.tokenizer.formats import load, to_hf
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.cuda import prepare
from puna.train.recipe import TrainRecipe
from puna.train.run import DTYPES, Run
from puna.train.saved import SavedWeights
from puna.train.step import Step


def start(recipe: TrainRecipe, folder: Path) -> Run:
    """A run of this recipe, ready to go; this rank's part of it."""
    device = _device(recipe.device)
    if device == "cuda":
        prepare(recipe.cuda)
    device = join(device, recipe.guard.timeout_s)
    weights, tokenizer = _given(recipe)
    config = weights.config if weights else recipe.model
    assert isinstance(config, ModelConfig)
    _check(recipe, config, tokenizer)
    world = World(_layout(recipe), device)
    for stage in recipe.stage:
        world.layout.check(config, stage.sequence, stage.batch, recipe.micro)
    return Run(recipe, folder, _models(recipe, config, weights, world), tokenizer, world)


def carry_out(run: Run, until: int | None = None) -> Iterator[Step]:
    """The steps that are left; after the last one the model is written, by the first rank alone."""
    yield from run.go(until)
    if run.position.step == run.recipe.steps and not run.stopped:
        leave()
        if run.world.rank == 0:
            saved = run.checkpoints.folder / f"step-{run.position.step:08d}"
            config = run.recipe.shape(run.config, run.position.step)
            kind = "mean" if run.average.count else "weights"
            write_folder(SavedWeights(saved, config, kind), run.folder / "model", "BF16")
            to_hf(run.tokenizer, run.folder / "model")


def _device(wanted: str) -> str:
    there = torch.cuda.is_available()
    need(wanted != "cuda" or there, "device cuda: torch sees none here", "--device cpu", HardwareError)
    return ("cuda" if there else "cpu") if wanted == "auto" else wanted


def _layout(recipe: TrainRecipe) -> Layout:
    """The recipe's; where it says none, every rank that is there holds a shard."""
    if "layout" in recipe.model_fields_set or not dist.is_initialized():
        return recipe.layout
    return Layout(shard=dist.get_world_size())


def _given(recipe: TrainRecipe) -> tuple[Weights | None, Tokenizer]:
    """The MODEL to go on from, if there is one, and the tokenizer that its ids are of."""
    if isinstance(recipe.model, str):
        place = hub.find(recipe.model)
        return open_weights(place), load(recipe.tokenizer or place.path)
    need(recipe.tokenizer, "a model from the start needs a tokenizer", "tokenizer = PATH", ConfigError)
    return None, load(recipe.tokenizer)


def _check(recipe: TrainRecipe, config: ModelConfig, tokenizer: Tokenizer) -> None:
    rows, where = config.vocab_size, recipe.tokenizer or recipe.model
    problem = f"{where}: {tokenizer.size:,} token ids, but the model has {rows:,} rows for them"
    need(tokenizer.size <= rows, problem, "vocab_size in the recipe's model", ConfigError)
    for number, (stage, shape) in enumerate(zip(recipe.stage, recipe.shapes(config), strict=True), 1):
        most = shape.max_position_embeddings
        problem = (
            f"stage {number}: sequences of {stage.sequence:,} tokens, but the model is made for {most:,}"
        )
        fix = "max_position_embeddings in the recipe's model, or in the stage's rope"
        need(stage.sequence <= most, problem, fix, ConfigError)


def _models(recipe: TrainRecipe, config: ModelConfig, weights: Weights | None, world: World) -> list[Llama]:
    """This rank's stages of the model, from the seed or from a MODEL."""
    if weights and world.mesh is None and recipe.dtype != "fp64":
        models = [model_weights.load(weights, torch.float32, world.device).requires_grad_(True)]
    else:
        models = build(config, world, DTYPES[recipe.dtype])
        for model in models:
            _fill(model, recipe, config, weights)
    if recipe.dtype == "fp8":
        for model in models:
            eight_bits(model, recipe.fp8_ends, world)
    return models


def _fill(model: Llama, recipe: TrainRecipe, config: ModelConfig, weights: Weights | None) -> None:
    if recipe.dtype == "fp64":
        model.double()
    if weights:
        fill(model, weights)
    else:
        initialize(model, config, recipe.seed)
