"""From a recipe to a run, and from its end to a model: a Hugging Face folder `model/` with its tokenizer."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from puna import hub
from puna.errors import ConfigError, HardwareError, need
from puna.model import weights as model_weights
from puna.model.config import ModelConfig
from puna.model.hf import write_folder
from puna.model.init import initialize
from puna.model.transformer import Llama
from puna.quant.source import open_weights
from puna.tokenizer.formats import load, to_hf
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.recipe import TrainRecipe
from puna.train.run import Run
from puna.train.step import Step


def start(recipe: TrainRecipe, folder: Path) -> Run:
    """A run of this recipe, ready to go."""
    return Run(recipe, folder, *_model(recipe, _device(recipe.device)))


def carry_out(run: Run, until: int | None = None) -> Iterator[Step]:
    """The steps that are left; after the last one the model is written."""
    yield from run.go(until)
    if run.position.step == run.recipe.steps:
        folder = run.folder / "model"
        write_folder(_InMemory(run.model.config, run.optimizer.masters), folder, "BF16")
        to_hf(run.tokenizer, folder)


class _InMemory:
    """Tensors that are here, as weights that can be written."""

    def __init__(self, config: ModelConfig, tensors: dict[str, torch.Tensor]):
        self.config, self.tensors, self.where = config, tensors, "the run"

    def names(self) -> Iterable[str]:
        return self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def kind(self, name: str) -> str:
        return "F32"

    def read(self, name: str) -> torch.Tensor:
        return self.tensors[name].detach().cpu()


def _device(wanted: str) -> str:
    there = torch.cuda.is_available()
    need(wanted != "cuda" or there, "device cuda: torch sees none here", "--device cpu", HardwareError)
    return ("cuda" if there else "cpu") if wanted == "auto" else wanted


def _model(recipe: TrainRecipe, device: str) -> tuple[Llama, Tokenizer]:
    """The model, from its shape and the seed or from a MODEL, and the tokenizer that its ids are of."""
    if isinstance(recipe.model, str):
        place = hub.find(recipe.model)
        model = model_weights.load(open_weights(place), torch.float32, device)
        path = recipe.tokenizer or place.path
    else:
        need(recipe.tokenizer, "a model from the start needs a tokenizer", "tokenizer = PATH", ConfigError)
        path = recipe.tokenizer
        with torch.device("meta"):
            model = Llama(recipe.model)
        model.to_empty(device=device)
        if recipe.model.tie_word_embeddings:  # to_empty gives each name a tensor of its own
            model.lm_head.weight = model.model.embed_tokens.weight
        initialize(model, recipe.model, recipe.seed)
    tokenizer = load(path)
    rows = model.config.vocab_size
    problem = f"{path}: {tokenizer.size:,} token ids, but the model has {rows:,} rows for them"
    need(tokenizer.size <= rows, problem, "vocab_size in the recipe's model", ConfigError)
    for number, (stage, shape) in enumerate(zip(recipe.stage, recipe.shapes(model.config), strict=True), 1):
        most = shape.max_position_embeddings
        problem = (
            f"stage {number}: sequences of {stage.sequence:,} tokens, but the model is made for {most:,}"
        )
        fix = "max_position_embeddings in the recipe's model, or in the stage's rope"
        need(stage.sequence <= most, problem, fix, ConfigError)
    return model.requires_grad_(True), tokenizer
