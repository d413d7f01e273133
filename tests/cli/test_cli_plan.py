"""`puna plan` answers in tables and in JSON, from names, files and recipes, without torch."""

import json
import subprocess
import sys

import pytest

from puna.cli.main import main


def told(capsys, *words):
    code = main(["plan", *words])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_a_plan_is_layouts_memory_time_and_cost(capsys):
    code, out, _ = told(capsys, "8b", "--gpus", "64", "--tokens", "1e12", "--price", "2", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["parameters"] == 8_030_261_248
    best = facts["choices"][0]
    assert best["bytes"] < 80e9 and sum(best["terms"].values()) == best["bytes"]
    assert sum(best["lines"].values()) == pytest.approx(best["seconds"])
    assert best["denominator_flops"] == 989.4e12
    assert facts["cost"]["money"] == pytest.approx(2 * facts["cost"]["gpu_hours"])


def test_tables_name_their_units_and_the_denominator(capsys):
    code, out, _ = told(capsys, "8b", "--gpus", "64")
    assert code == 0
    for word in ("GFLOP a token", "GB", "tokens/s", "989", "full"):
        assert word in out


def test_one_layout_is_told_or_refused_with_a_reason(capsys):
    layout = "tensor=8,pipeline=16,shard=128,schedule=interleaved,stages=8,recompute=full"
    code, out, _ = told(capsys, "405b", "--gpus", "16384", "--layout", layout, "--json")
    assert code == 0 and len(json.loads(out)["choices"]) == 1
    code, _, err = told(capsys, "405b", "--gpus", "16384", "--layout", "tensor=16,shard=1024")
    assert code == 2 and "key-value heads" in err
    code, _, err = told(capsys, "405b", "--gpus", "8", "--layout", "tensor=8,shard=2")
    assert code == 2 and "16" in err


def test_a_recipe_is_planned_for_this_machine(capsys, tmp_path):
    recipe = tmp_path / "nano.toml"
    recipe.write_text(
        "[model]\nhidden_size = 64\nnum_hidden_layers = 2\nnum_attention_heads = 4\nnum_key_value_heads = 2\n"
        "intermediate_size = 128\nvocab_size = 1024\n[[stage]]\ntokens = 20_000\nsequence = 128\nbatch = 8\n"
    )
    code, out, _ = told(capsys, str(recipe), "--json")
    facts = json.loads(out)
    assert code == 0 and facts["cost"]["tokens"] == 20_000 and facts["cost"]["hours"] > 0
    assert facts["choices"][0]["work"]["sequence"] == 128


def test_serving_tells_which_weights_fit(capsys):
    code, out, _ = told(capsys, "70b", "--serve", "--gpu", "h100", "--json")
    rows = {row["kind"]: row for row in json.loads(out)["serving"]}
    assert code == 0 and not rows["bf16"]["fits"] and rows["q4_k_m"]["fits"]


def test_published_runs_stand_beside_ours(capsys):
    code, out, _ = told(capsys, "--published")
    assert code == 0 and "3.1-405b" in out and "not explained" in out


def test_an_unknown_processor_is_refused(capsys):
    code, _, err = told(capsys, "8b", "--gpus", "8", "--gpu", "h900")
    assert code == 2 and "not in the table" in err


def test_a_plan_needs_no_torch():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from puna.cli.main import main\nsys.exit(main(['plan', '8b', '--gpus', '8']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
