"""A stage may turn positions otherwise than the one before, for longer sequences; killed, it goes on to the bit."""

import json

import pytest
import torch
from train.nursery import nursery

from puna import hub
from puna.errors import ConfigError
from puna.model import weights as model_weights
from puna.model.attend import causal
from puna.model.config import RopeScaling
from puna.quant.source import open_weights
from puna.train.recipe import Rope, read_recipe
from puna.train.start import carry_out, start


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """12 steps of sequences of 32 by a model for 32, then 6 of 64 with RoPE made for 64."""
    path = nursery(tmp_path_factory.mktemp("nursery"))
    text = path.read_text().replace("max_position_embeddings = 64", "max_position_embeddings = 32")
    path.write_text(text.replace("[schedule]", """
[stage.rope]
rope_theta = 2e6
max_position_embeddings = 64
rope_scaling = { factor = 2.0, original_max_position_embeddings = 32 }
[schedule]"""))  # fmt: skip
    return read_recipe(path)


def told(run, until=None):
    return [(step.step, step.loss, step.gradient) for step in carry_out(run, until)]


def test_a_stage_changes_rope_wherever_the_run_is_killed(recipe, tmp_path):
    whole = told(start(recipe, tmp_path / "whole"))
    assert len(whole) == recipe.steps == 18
    for cut in (7, 13, 16):  # in the first stage, right after a checkpoint between the two, in the second
        run = carry_out(start(recipe, tmp_path / "cut"))
        assert next(step.loss for step in run if step.step == cut - 1) == whole[cut - 1][1]
        run.close()
    assert told(start(recipe, tmp_path / "cut")) == whole[15:]
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()

    said = json.loads((tmp_path / "cut" / "model" / "config.json").read_text())
    assert (said["rope_theta"], said["max_position_embeddings"]) == (2e6, 64)
    done = start(recipe, tmp_path / "whole")
    assert told(done) == []
    model = model_weights.load(open_weights(hub.find(str(tmp_path / "whole" / "model"))), torch.float32)
    assert model.config == done.model.config and model.config.rope_scaling.factor == 2.0
    tokens = torch.arange(40)[None]
    read = [one.float()(tokens, tokens, causal) for one in (model, done.model)]
    torch.testing.assert_close(*read, atol=1e-5, rtol=1e-5)

    plain = recipe.model_copy(
        update={
            "stage": (recipe.stage[0], recipe.stage[1].model_copy(update={"rope": Rope()})),
            "model": recipe.model.model_copy(update={"max_position_embeddings": 64}),
        }
    )
    other = told(start(plain, tmp_path / "plain"), 13)
    assert other[:12] == whole[:12] and other[12] != whole[12]


def test_stages_add_up_and_each_must_fit_its_sequences(recipe, tmp_path):
    first, second = recipe.stage
    third = second.model_copy(update={"rope": Rope(rope_theta=3e6)})
    longer = recipe.model_copy(update={"stage": (first, second, third)})
    shapes = [longer.shape(recipe.model, step) for step in (0, 11, 12, 17, 18, 23, 24)]
    assert [one.rope_theta for one in shapes] == [500_000.0] * 2 + [2e6] * 2 + [3e6] * 3
    assert shapes[-1].rope_scaling == RopeScaling(factor=2.0, original_max_position_embeddings=32)
    short = second.model_copy(update={"rope": Rope(rope_theta=3e6)})
    with pytest.raises(ConfigError, match="stage 2: sequences of 64 tokens, but the model is made for 32"):
        start(recipe.model_copy(update={"stage": (first, short)}), tmp_path)
