"""A disk that is full, files that change behind a run's back: a clear error or the work done again, never a
file that counts as whole and is not."""

import os
import random
import shutil
import subprocess
import sys

import pytest
from storm import ROOT, build, carried_out, tree, whole

DOCUMENTS = 2 * 40
SMALL = [4, 48, 300, 700]  # KB of a disk; the last is too small still
ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from storm import carried_out, tree, whole
from puna.data.pipeline import verify
folder, disk, calm, digest, documents, sizes = *map(Path, sys.argv[1:4]), sys.argv[4], int(sys.argv[5]), sys.argv[6:]
def mount(size, *more): subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k,{more[0]}", "tmpfs", disk], check=True)
mount(4, "mode=700")
(disk / "other").write_bytes(bytes(4096))
for number, size in enumerate(sizes):
    mount(size, "remount")
    said = carried_out(folder, str(disk), "--runner", ["inline", "pool"][number % 2], code=2)
    assert f"{disk} is full" in said and "make room, then run again" in said, said
    left = [path for path in disk.rglob("*") if path.is_file() and path.name.startswith(".")]
    assert not left, left
    assert not (disk / "run.json").exists() or not [line for line in verify(disk) if "nothing is done" not in line]
    (disk / "other").unlink(missing_ok=True)
mount(1 << 16, "remount")
assert carried_out(folder, str(disk), "--runner", "inline") == digest
assert tree(disk) == tree(calm)
whole(disk, documents)
print("whole")
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a run that nothing befell, and the hash of its files."""
    folder = build(tmp_path_factory.mktemp("world"), files=2, documents=40)
    return folder, carried_out(folder, "calm", "--runner", "inline")


def in_a_namespace(code: str, *words) -> str:
    """What a script prints that may mount file systems, where the kernel lets it; its ENOSPC is a real one."""
    if subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    ).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "data")))
    command = ["unshare", "-rm", sys.executable, "-c", code, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare: nothing can be mounted")
def test_a_full_disk_is_said_and_the_run_goes_on_where_there_is_room(world, tmp_path):
    folder, digest = world
    said = in_a_namespace(ON_A_SMALL_DISK, folder, tmp_path, folder / "calm", digest, DOCUMENTS, *SMALL)
    assert said.endswith("whole\n")


WITH_A_SMALL_TMP = """
import os, subprocess, sys
from pathlib import Path
from storm import carried_out
folder, small = map(Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", small], check=True)
os.environ["TMPDIR"] = str(small)
print(carried_out(folder, "elsewhere", "--runner", "inline", code=2))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare: nothing can be mounted")
def test_a_full_folder_for_temporary_files_is_named(world, tmp_path):
    said = in_a_namespace(WITH_A_SMALL_TMP, world[0], tmp_path)
    assert f"{tmp_path} is full" in said and f"{world[0] / 'elsewhere'} is full" not in said


@pytest.mark.parametrize(
    ("out", "said"),
    [("recipe.toml", "is no folder"), ("recipe.toml/x", "is no folder"), ("/dev/full", "is no folder")],
)
def test_a_run_that_can_go_nowhere_says_where_and_what_to_try(world, out, said):
    problem = carried_out(world[0], out, "--runner", "inline", code=2)
    assert said in problem and "try: a folder that can be written" in problem


HOW = {
    "a bit flipped": lambda data, dice: flipped(data, dice, 1),
    "many bytes changed": lambda data, dice: flipped(data, dice, 40),
    "cut short": lambda data, dice: data[: dice.randrange(len(data))],
    "empty": lambda data, dice: b"",
    "longer": lambda data, dice: data + dice.randbytes(100),
    "another file": lambda data, dice: b'{"task": 1}' * 20,
    "zeros": lambda data, dice: bytes(len(data)),
}


def flipped(data: bytes, dice: random.Random, times: int) -> bytes:
    found = bytearray(data)
    for _ in range(times):
        found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_files_changed_between_runs_are_found_and_made_again(world, tmp_path, rounds):
    folder, digest = world
    out, dice = tmp_path / "out", random.Random(rounds)
    shutil.copytree(folder / "calm", out)
    for _ in range(rounds):
        for path in dice.sample(sorted(path for path in out.rglob("*") if path.is_file()), 60):
            change = dice.choice(list(HOW))
            path.write_bytes(HOW[change](path.read_bytes(), dice))
        assert carried_out(folder, str(out), "--runner", "inline") == digest
        assert tree(out) == tree(folder / "calm")
        whole(out, DOCUMENTS)
