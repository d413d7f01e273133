"""A recipe is read from TOML, any value can be given on the way, and what is wrong is named."""

import pytest
from toy_stages import Count, Made, Short

from puna.data.recipe import read_recipe
from puna.errors import ConfigError

KINDS = {"made": Made}, {"toy.count": Count, "toy.short": Short}
TEXT = """
seed = 3
[source.made]
pieces = 2
[source.other]
kind = "made"
[stage."toy.count"]
[stage."toy.short"]
few = 5
[stage.later]
kind = "toy.short"
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(TEXT)
    return file


def test_a_recipe_is_read_in_its_order(path):
    found = read_recipe(path, *KINDS)
    assert (found.seed, [source.name for source in found.sources]) == (3, ["made", "other"])
    assert found.stages == (Count(), Short(few=5), Short())


def test_values_given_on_the_way_win(path):
    given = [
        "--seed",
        "9",
        "--mode",
        "annotate",
        "--toy.short.few",
        "6",
        "--later.few",
        "7",
        "--made.pieces",
        "1",
    ]
    found = read_recipe(path, *KINDS, given)
    assert (found.seed, found.mode, found.sources[0].pieces) == (9, "annotate", 1)
    assert [stage.few for stage in found.stages[1:]] == [6, 7]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--sed", "9"], r"unknown setting 'sed'; did you mean 'seed'"),
        (["--toy.shrt.few", "9"], r"no source or stage of that name"),
        (["--toy.short.fw", "9"], r"stage.toy.short: unknown setting 'fw'; did you mean 'few'"),
        (["--toy.short.few", "nine"], r"stage.toy.short: few"),
        (["--seed"], "without a value"),
        (["--later.kind", "toy.shot"], r"no kind 'toy.shot'\n  try: did you mean 'toy.short'"),
        (["--partitions", "3"], "3 is not a power of two"),
    ],
)
def test_what_is_wrong_is_named(path, given, said):
    with pytest.raises(ConfigError, match=said):
        read_recipe(path, *KINDS, given)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(ConfigError, match=r"bad.toml"):
        read_recipe(tmp_path / "bad.toml", *KINDS)
