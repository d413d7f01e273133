"""The engine's laws: one hash of all files on every runner, exact resume, nothing lost, nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from toy_stages import Count, CutShared, Fragile, Made, SameText, Short, Verified, recipe, survivors

from puna.data.pipeline import receipts_of, result, run, verify
from puna.data.recipe import Recipe
from puna.data.runners import Inline, OnRay, Pool, launch_text
from puna.data.steps import steps_of
from puna.data.store import Store
from puna.errors import DataError, PunaError
from puna.log import listening


class Shuffled(Inline):
    """Tasks of a step in another order."""

    def __call__(self, job, tasks):
        return super().__call__(job, random.Random(5).sample(tasks, len(tasks)))


def tree(out: Path) -> dict[str, bytes]:
    """Every file of a run but receipts, whose times differ."""
    names = [path for path in out.rglob("*") if path.is_file() and "receipts" not in path.parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in names}


def urls(out) -> list[str]:
    return [url for name in result(out) for url in pq.read_table(name)["url"].to_pylist()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run in one process: its folder and its hash."""
    out = tmp_path_factory.mktemp("alone")
    return out, run(recipe(), out)


def test_what_stays_is_what_the_definition_says(alone):
    kept = urls(alone[0])
    assert len(kept) == len(set(kept)) and set(kept) == survivors(Made())


def test_every_document_is_kept_or_in_one_sidecar(alone):
    dropped = [pq.read_table(path) for path in sorted(alone[0].rglob("dropped/*.parquet"))]
    gone = pa.concat_tables(dropped)
    everyone = {Made().row(piece, row)["url"] for piece in range(4) for row in range(60)}
    assert sorted(gone["url"].to_pylist() + urls(alone[0])) == sorted(everyone)
    texts = gone["text"].to_pylist()
    assert 0.2 < sum(text is not None for text in texts) / len(texts) < 0.8


@pytest.mark.parametrize(
    "runner", [Pool(1), Pool(2), Pool(4), Shuffled()], ids=lambda r: f"{type(r).__name__}"
)
def test_every_runner_writes_the_same_bytes(alone, tmp_path, runner):
    assert run(recipe(), tmp_path, runner) == alone[1]
    assert tree(tmp_path) == tree(alone[0])


def test_seven_shards_step_by_step_write_the_same_bytes(alone, tmp_path):
    for step in steps_of(recipe()):
        for i in range(7):
            run(recipe(), tmp_path, shard=(i, 7), step=step.name)
    assert run(recipe(), tmp_path) == alone[1] and tree(tmp_path) == tree(alone[0])


def test_a_step_whose_inputs_are_not_there_says_which_are_missing(tmp_path):
    second = steps_of(recipe())[1].name
    with pytest.raises(DataError, match=r"shard 1/3 of it is done; 3 of 4 tasks of 00-read .*00-read/000000"):
        run(recipe(), tmp_path, shard=(1, 3))
    with pytest.raises(DataError, match=r"(?s)3 of 4 tasks .*run every shard of 00-read"):
        run(recipe(), tmp_path, shard=(0, 3), step=second)


def test_ray_writes_the_same_bytes(alone, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    assert run(recipe(), tmp_path, OnRay(cpus=2)) == alone[1]


def test_without_ray_a_sentence_says_what_to_install(tmp_path):
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(PunaError, match="pip install"):
            run(recipe(), tmp_path, OnRay())


def test_a_second_run_does_nothing(alone, tmp_path):
    run(recipe(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "run.json"}
    run(recipe(), tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p.name != "run.json"} == {
        p: t for p, t in before.items() if p.is_file()
    }


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "short":
        path.write_bytes(data[: len(data) // 2])
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


@pytest.mark.parametrize("how", ["gone", "short", "changed"])
def test_damaged_files_and_receipts_are_found_and_made_again(alone, tmp_path, how):
    run(recipe(), tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.json")
    for path in random.Random(how).sample(files, 8):
        damaged(path, how)
    assert verify(tmp_path)
    assert run(recipe(), tmp_path) == alone[1] and tree(tmp_path) == tree(alone[0])
    assert verify(tmp_path) == []


def done_again(changed: Recipe, out: Path) -> set[str]:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("receipts/*.json")}
    run(changed, out)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("receipts/*.json")}
    return {str(path.relative_to(out)).split("/")[0] for path in after if after[path] != before.get(path)}


def test_a_changed_stage_redoes_what_is_downstream_of_it_and_only_that(alone, tmp_path):
    run(recipe(), tmp_path)
    names = [step.name for step in steps_of(recipe())]
    stages = (Count(), Short(), SameText(), Fragile(), Short(few=15), Verified())
    assert done_again(recipe(stages=stages), tmp_path) == set(names[3:])
    stages = (Count(), Short(), Short(few=9), SameText(), Fragile(), Verified())
    assert "00-read" in done_again(recipe(stages=stages), tmp_path)
    assert run(recipe(), tmp_path) == alone[1] and tree(tmp_path) == tree(alone[0])


def test_a_stage_that_changes_no_byte_stops_the_redoing_there(tmp_path):
    run(recipe(), tmp_path)
    stages = (Count(), Short(), Fragile(), SameText(), Fragile(), Verified())  # Fragile drops nothing here
    assert done_again(recipe(stages=stages), tmp_path) == {"00-read"}


def test_a_piece_that_was_taken_out_leaves_no_file_behind(tmp_path):
    run(recipe(), tmp_path / "a")
    fewer = recipe(sources=(Made(pieces=2),))
    run(fewer, tmp_path / "a")
    run(fewer, tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_annotate_keeps_every_document_and_every_verdict(tmp_path):
    run(recipe(mode="annotate"), tmp_path)
    kept = pa.concat_tables([pq.read_table(name) for name in result(tmp_path)])
    short = pa.array([words < 8 for words in kept["t.words"].to_pylist()])
    assert len(kept) == 240
    assert set(kept.filter(short)["v.toy.short"].to_pylist()) == {"toy.short.few_words"}
    assert kept["v.toy.short"].null_count == 240 - kept.filter(short).num_rows
    copies = kept.filter(pa.array([reason is not None for reason in kept["v.toy.same"].to_pylist()]))
    assert 0 < len(copies) < 240 and copies["v.toy.same.sibling"].null_count == 0


def test_an_edit_rewrites_texts_for_what_others_say_and_drops_none(tmp_path):
    cut = recipe(stages=(CutShared(many=48), Count()))
    assert run(cut, tmp_path / "a") == run(cut, tmp_path / "b", Pool(1))
    kept = pa.concat_tables([pq.read_table(name) for name in result(tmp_path / "a")])
    expected = [
        Made().row(piece, row)["text"].removeprefix("planted ") for piece in range(4) for row in range(60)
    ]
    assert kept["text"].to_pylist() == expected


def test_a_gate_that_stands_twice_is_annotated_twice(tmp_path):
    run(recipe(mode="annotate", stages=(Count(), Short(), Short(few=12))), tmp_path)
    kept = pa.concat_tables([pq.read_table(name) for name in result(tmp_path)])
    assert kept["v.toy.short"].null_count > kept["v.toy.short.2"].null_count > 0
    assert "v.toy.short.3" not in kept.column_names and "v.toy.short.2.value" in kept.column_names


def test_a_run_that_keeps_nothing_ends_well(tmp_path):
    nothing = recipe(stages=(Count(), Short(few=1000), SameText(), Fragile()))
    assert (
        run(nothing, tmp_path / "a") == run(nothing, tmp_path / "b", Pool(1)) and result(tmp_path / "a") == []
    )
    late = recipe(stages=(Count(), SameText(), Short(few=1000), SameText()))
    run(late, tmp_path / "c")
    assert urls(tmp_path / "c") == [] and len(result(tmp_path / "c")) > 4


def test_notes_on_kept_documents_become_a_column(alone):
    kept = pa.concat_tables([pq.read_table(name) for name in result(alone[0])])
    planted = [text.startswith("planted") for text in kept["text"].to_pylist()]
    assert kept.filter(pa.array(planted))["n.toy.same"].to_pylist() == [4.0] * 12
    assert set(kept.filter(pa.array([not one for one in planted]))["n.toy.same"].to_pylist()) == {1.0}


def test_documents_are_cut_into_shards_and_groups_by_their_bytes_alone(tmp_path):
    for batch in (7, 60):
        run(recipe(sources=(Made(batch=batch),), stages=()), tmp_path / str(batch))
    small, large = tree(tmp_path / "7"), tree(tmp_path / "60")
    told = ("run.json", "lineage.json")  # they name the recipe
    assert {n: d for n, d in small.items() if n not in told} == {
        n: d for n, d in large.items() if n not in told
    }
    assert sum("/kept/" in name for name in small) > 4


def test_a_piece_that_cannot_be_read_stops_nothing_else(tmp_path):
    broken = recipe(sources=(Made(broken=("piece-1",)),))
    with pytest.raises(
        DataError, match=r"1 of 4 tasks failed, the others are done\nmade: piece-1: cannot be read"
    ):
        run(broken, tmp_path)
    assert [receipt.task for receipt in receipts_of(tmp_path)["00-read"]] == [
        f"00-read/00000{n}" for n in (0, 2, 3)
    ]


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_room(alone, tmp_path):
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[2:]\n"
        "from toy_stages import recipe; from puna.data.pipeline import run; from puna.errors import DataError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "try: run(recipe(), sys.argv[1])\n"
        "except DataError as problem: print(problem); sys.exit(2)\n"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    done = subprocess.run([sys.executable, "-c", code, tmp_path, *paths], capture_output=True, text=True)
    assert (done.returncode, "make room, then run again" in done.stdout) == (2, True), done.stderr
    assert list(tmp_path.rglob(".*")) == []
    assert run(recipe(), tmp_path) == alone[1] and tree(tmp_path) == tree(alone[0])


KILLED = """
import sys; sys.path[:0] = sys.argv[2:]
if __name__ == "__main__":
    from toy_stages import recipe; from puna.data.pipeline import run; from puna.data.runners import Pool
    from puna.log import listening
    with listening(lambda record: print(record["step"], flush=True)):
        run(recipe(), sys.argv[1], Pool(2))
"""


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(alone, tmp_path, kills):
    script, rng = tmp_path / "killed.py", random.Random(kills)
    script.write_text(KILLED)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    for _ in range(kills):
        begun = [sys.executable, script, tmp_path / "out", *paths]
        process = subprocess.Popen(begun, stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(rng.randrange(1, 45)):  # of 57 tasks; those done before are told too
            assert process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert run(recipe(), tmp_path / "out") == alone[1]
    assert tree(tmp_path / "out") == tree(alone[0])


def test_any_file_system_gives_the_same_hash(alone, tmp_path):
    below = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    assert run(recipe(), Store(below, "deep/run"), Pool(2)) == alone[1]
    assert tree(tmp_path / "deep/run") == tree(alone[0])
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    assert run(recipe(), "memory://bucket/run") == alone[1]
    assert run(recipe(), f"file://{tmp_path}/address") == alone[1]


def test_tasks_are_told_as_they_are_done(tmp_path):
    told = []
    with listening(told.append):
        run(recipe(), tmp_path, step="00-read")
    assert [(one["done"], one["of"]) for one in told if one["event"] == "task"] == [
        (n, 4) for n in (1, 2, 3, 4)
    ]


def test_launch_files_hold_every_step_and_shard():
    slurm = launch_text("slurm", "r.toml", "s3://bucket/run", ["00-read", "01-x"], 7)
    assert "--array=0-6" in slurm and "for step in 00-read 01-x" in slurm and "@" not in slurm
    pod = launch_text("kubernetes", "r.toml", "s3://bucket/run", ["00-read"], 7, "images/puna:1")
    assert "completions: 7" in pod and "images/puna:1" in pod and "@" not in pod.partition("apiVersion")[2]
    assert subprocess.run(["bash", "-n"], input=slurm, text=True).returncode == 0


def test_the_recipe_is_saved_with_the_run(alone):
    said = json.loads((alone[0] / "run.json").read_text())
    assert said["stages"][1] == {"name": "toy.short", "version": 1, "where": {}, "few": 8}
    assert said["partitions"] == 4
