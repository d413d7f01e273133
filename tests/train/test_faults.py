"""What may befall a run: it stops with a sentence, or goes on; nothing is lost but what came after a checkpoint."""

import os
import resource
import signal
import subprocess
import sys

import pytest
from data.object_store import ENVIRONMENT, objects, s3_server
from train.nursery import nursery
from train.ranked import told_by

from puna.data.shards import HEADER, shard_name
from puna.errors import DataError
from puna.train.checkpoint import damage
from puna.train.recipe import read_recipe
from puna.train.start import carry_out, start


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The recipe, and the folder of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("nursery")
    recipe = read_recipe(nursery(folder))
    list(carry_out(start(recipe, folder / "whole")))
    return recipe, folder / "whole"


def as_if_nothing_had_been(recipe, whole, folder):
    list(carry_out(start(recipe, folder)))
    name = "model/model.safetensors"
    return told_by(folder) == told_by(whole) and (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_lets_the_step_end_and_saves_it(place, tmp_path, number):
    recipe, whole = place
    run = start(recipe, tmp_path)
    for step in carry_out(run):
        if step.step == 4:
            os.kill(os.getpid(), number)
    assert run.stopped == number.name and run.position.step == 5
    assert run.checkpoints.newest().name == "step-00000005"
    assert as_if_nothing_had_been(recipe, whole, tmp_path)


def test_the_second_ctrl_c_stops_at_once(place, tmp_path):
    recipe, whole = place
    with pytest.raises(KeyboardInterrupt):
        for step in carry_out(start(recipe, tmp_path)):
            if step.step == 4:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
    assert as_if_nothing_had_been(recipe, whole, tmp_path)


STUCK = """
import os, signal, sys, time
from pathlib import Path
from puna.log import listening
from puna.train.recipe import read_recipe
from puna.train.start import start
recipe, folder, *settings = sys.argv[1:]
run = start(read_recipe(Path(recipe), settings), Path(folder))
true = run.loss
def stands_still(model, part):
    if run.position.step == 3:
        run.checkpoints.settle()
    if run.position.step == 4:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return true(model, part)
run.loss = stands_still
with listening(lambda record: print(record["event"], record.get("why"), file=sys.stderr)):
    list(run.go())
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (("--guard.hang_s", "4"), "a step took longer than hang_s = 4 s"),
        (("--guard.deadline_s", "0.4"), "SIGTERM, and no checkpoint within deadline_s = 0.4 s"),
    ],
)
def test_what_takes_too_long_shows_where_it_stands_and_ends(place, tmp_path, setting, said):
    recipe, _ = place
    command = [
        sys.executable,
        "-c",
        STUCK,
        str(recipe.tokenizer.parent / "recipe.toml"),
        str(tmp_path),
        *setting,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and f"hung {said}" in ended.stderr and "stands_still" in ended.stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]


def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_loses_no_checkpoint(place, tmp_path):
    recipe, whole = place
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(DataError, match=r"no checkpoint could be written.*too large(.|\n)*try: make room"):
        for step in carry_out(start(recipe, tmp_path)):
            if step.step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            if step.step == 7:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [left] = [path for path in (tmp_path / "checkpoints").iterdir() if not path.name.startswith(".")]
    assert left.name == "step-00000003" and damage(left) == []
    assert as_if_nothing_had_been(recipe, whole, tmp_path)
    assert not list((tmp_path / "checkpoints").glob(".*")), "what was half written is gone"


def test_shards_that_are_cut_or_damaged_end_the_run_with_a_sentence(tmp_path):
    recipe = read_recipe(nursery(tmp_path))
    shard = tmp_path / "a" / shard_name(0)
    good = shard.read_bytes()
    with pytest.raises(
        DataError, match=r"000000\.tokens: (it was changed while it was read|[^{]*cut or damaged)"
    ):
        for step in carry_out(start(recipe, tmp_path / "run")):
            if step.step == 4:
                os.truncate(shard, len(good) // 3)
    with pytest.raises(DataError, match="cut or damaged"):
        start(recipe, tmp_path / "run")
    with pytest.raises(DataError, match=r"id [\d,]+ in a vocabulary of 262: the shards are damaged"):
        shard.write_bytes(good)
        for step in carry_out(start(recipe, tmp_path / "run")):
            if step.step >= 4:
                with open(shard, "r+b") as file:
                    file.seek(HEADER)
                    file.write(b"\xff" * (len(good) // 2))
    shard.write_bytes(good)
    list(carry_out(start(recipe, tmp_path / "run")))


def kept_away_from(recipe, whole, folder, address, files):
    """Train a while, lose the disk, go on elsewhere from what the store has."""
    away = recipe.model_copy(update={"checkpoints": address})
    list(carry_out(start(away, folder / "one"), 10))
    assert {name.partition("/")[0] for name in files()} == {"step-00000006", "step-00000009"}
    run = start(away, folder / "two")
    assert run.checkpoints.newest().name == "step-00000009"
    list(carry_out(run))
    assert told_by(folder / "two") == told_by(whole)[9:]
    name = "model/model.safetensors"
    assert (folder / "two" / name).read_bytes() == (whole / name).read_bytes()
    assert {name.partition("/")[0] for name in files()} == {"step-00000015", "step-00000018"}


def test_a_run_goes_on_on_another_machine_from_a_store(place, tmp_path):
    recipe, whole = place
    store = tmp_path / "store"
    files = lambda: [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()]  # noqa: E731
    kept_away_from(recipe, whole, tmp_path, f"file://{store}", files)


@pytest.mark.slow
def test_and_from_a_bucket(place, tmp_path, monkeypatch):
    recipe, whole = place
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with s3_server() as port:
        address = f"s3://pampa/nano?endpoint_override=127.0.0.1:{port}&scheme=http"
        kept_away_from(recipe, whole, tmp_path, address, lambda: objects(port, "pampa/nano"))
