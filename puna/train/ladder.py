"""The models of a sweep: one shape for any number of parameters, one rule for the learning rate.

What is compared must differ in size alone, so width and depth grow together (width = 32 x layers), heads are
8 wide, each with keys and values of its own, the hidden width is 8/3 of the width; data, tokenizer, batch
and seed are the recipe's. The learning rate falls with the root of the width, from the recipe's at the
recipe's width; it warms up for a tenth of the steps, and falls along a cosine to a tenth [P 3.2.1].
"""

import math
from dataclasses import dataclass

from puna.errors import ConfigError, need
from puna.model.config import ModelConfig
from puna.plan.counts import multiplied, training_flops
from puna.train.recipe import Stage, TrainRecipe

STEP, ASPECT, HEAD = 8, 32, 8  # of widths; width a layer; width of a head
WIDEST = 2048
SPREAD = 1.6  # each size over the one below it
TOKENS_A_PARAMETER = 20  # where the lowest point of a budget is looked for [Hoffmann et al. 2022]
FEWEST_STEPS = 30
WARMUP, LAST = 0.1, 0.1  # shares of the steps, of the peak


@dataclass(frozen=True)
class Rung:
    """One run of a sweep, before it is carried out."""

    budget: float  # FLOPs that were asked for
    model: ModelConfig
    steps: int
    batch_tokens: int
    cost: float  # FLOPs of a token, by the causal count

    @property
    def name(self) -> str:
        return f"{self.budget:.2e}-{self.model.hidden_size}x{self.model.num_hidden_layers}"

    @property
    def parameters(self) -> int:
        return multiplied(self.model)

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_tokens

    @property
    def flops(self) -> float:
        return self.tokens * self.cost


def shape(base: ModelConfig, width: int) -> ModelConfig:
    """The rung of this width; what has nothing to do with size is as in `base`."""
    hidden = STEP * math.ceil(8 * width / 3 / STEP)
    sizes = {"hidden_size": width, "num_hidden_layers": max(1, round(width / ASPECT)), "head_dim": HEAD,
             "num_attention_heads": width // HEAD, "num_key_value_heads": width // HEAD,
             "intermediate_size": hidden}  # fmt: skip
    return ModelConfig.read(base.model_dump() | sizes, "sweep")


def nearest(base: ModelConfig, parameters: float) -> ModelConfig:
    """The rung whose parameters are nearest."""
    rungs = [shape(base, width) for width in range(STEP, WIDEST + 1, STEP)]
    return min(rungs, key=lambda rung: abs(math.log(multiplied(rung) / parameters)))


def ladder(recipe: TrainRecipe, budgets: tuple[float, ...], sizes: int) -> list[Rung]:
    """For each budget `sizes` models around the one where its lowest loss may lie, the smallest first."""
    found = []
    for budget in sorted(budgets):
        middle = math.sqrt(budget / 6 / TOKENS_A_PARAMETER)
        wanted = [middle * SPREAD ** (place - (sizes - 1) / 2) for place in range(sizes)]
        models: list[ModelConfig] = []
        for one in wanted:  # where two wish for the same rung the second gets the next one
            model = nearest(base(recipe), one)
            while model in models:
                model = shape(base(recipe), model.hidden_size + STEP)
            models.append(model)
        found += [rung(recipe, budget, model) for model in models]
    return found


def rung(recipe: TrainRecipe, budget: float, model: ModelConfig) -> Rung:
    """As many steps as the budget pays for."""
    stage = recipe.stage[0]
    cost, batch = training_flops(model, stage.sequence), stage.sequence * stage.batch
    steps = round(budget / cost / batch)
    problem = (
        f"{budget:.3g} FLOPs are {steps} steps of {batch:,} tokens with {multiplied(model):,} parameters"
    )
    need(steps >= FEWEST_STEPS, problem, "larger budgets, a smaller batch, a smaller vocabulary", ConfigError)
    return Rung(budget, model, steps, batch, cost)


def base(recipe: TrainRecipe) -> ModelConfig:
    need(not isinstance(recipe.model, str), "a sweep needs a shape: [model] in the recipe", error=ConfigError)
    return recipe.model


def recipe_of(recipe: TrainRecipe, one: Rung) -> TrainRecipe:
    """The recipe of one run."""
    stage: Stage = recipe.stage[0].model_copy(update={"tokens": one.tokens})
    rate = recipe.schedule.peak * math.sqrt(base(recipe).hidden_size / one.model.hidden_size)
    warmup = math.ceil(WARMUP * one.steps)
    schedule = recipe.schedule.model_copy(
        update={"peak": rate, "shape": "cosine", "warmup": warmup, "last": LAST, "decay": 0, "anneal": 0}
    )
    changes = {"name": one.name, "model": one.model, "stage": (stage,), "schedule": schedule,
               "judge_every": one.steps, "keep": 1, "samples": ()}  # fmt: skip
    return recipe.model_copy(update=changes)
