"""A recipe may ask for products of 8 bits: the run learns, goes on to the bit, and says no where they cannot be."""

import pytest
from train.nursery import nursery

from puna.errors import ConfigError
from puna.train.recipe import read_recipe
from puna.train.start import carry_out, start


def test_a_run_in_8_bits_learns_and_goes_on_to_the_bit(tmp_path):
    overrides = ("--dtype", "fp8", "--fp8_ends", "true")
    recipe = read_recipe(nursery(tmp_path), overrides)
    whole = list(carry_out(start(recipe, tmp_path / "whole")))
    assert whole[-1].loss < whole[0].loss - 0.5
    list(carry_out(start(recipe, tmp_path / "cut"), 7))
    rest = list(carry_out(start(recipe, tmp_path / "cut")))
    assert [(s.step, s.loss) for s in rest] == [(s.step, s.loss) for s in whole[6:]], (
        "from the last checkpoint on"
    )


def test_a_width_that_8_bits_do_not_take_is_refused(tmp_path):
    overrides = ("--dtype", "fp8", "--fp8_ends", "true", "--model.intermediate_size", "72")
    with pytest.raises(ConfigError, match="16 must divide both"):
        start(read_recipe(nursery(tmp_path), overrides), tmp_path / "run")
