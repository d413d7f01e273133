"""Whatever a file says, the command ends with a sentence and exit code 2: no crash, no hang, no code of the
file's run, no memory beyond the file's own size and a constant.

One process runs every case through the command line's own entry, held to little more memory than it starts with;
one case of each kind runs as a process of its own.
"""

import json
import os
import resource
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
import torch

from puna.model import hf, meta
from puna.tokenizer import formats
from tests.model.test_weights import HOSTILE_PTH, HOSTILE_SAFETENSORS
from tests.models import NANO, InMemory, random_model
from tests.quant.test_gguf_hostile import BAD as HOSTILE_GGUF
from tests.tokenizer.hostile_templates import HOSTILE as HOSTILE_JINJA
from tests.tokenizer.test_tokenizer_hostile import BAD_JSON, small

MEMORY = 2**29  # bytes beyond what a process with torch in it has mapped
CONFIGS = {
    "empty": "",
    "not json": "{'hidden_size': 64}",
    "a list": "[1, 2]",
    "deep": '{"a":' * 50_000,
    "huge width": json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 2**40}),
    "no sizes": json.dumps({"architectures": ["LlamaForCausalLM"]}),
    "another architecture": json.dumps({"architectures": ["MambaForCausalLM"], "hidden_size": 64}),
    "invalid UTF-8": b"\xff\xfe\x00",
}


def drive():
    """In the process under test: run each case and print (name, exit code, what was said)."""
    import puna.engine.load  # noqa: F401
    from puna.cli.main import main

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    for case in map(json.loads, sys.stdin.readlines()):
        with redirect_stderr(StringIO()) as said:
            code = main(["chat", case["path"], "-p", "hello", "--max-tokens", "1"])
        print(json.dumps([case["name"], code, said.getvalue()]), flush=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """{name of a case: path of the hostile model}, all on disk."""
    root = tmp_path_factory.mktemp("hostile")
    nano, cases = InMemory(random_model(NANO)), {}

    def folder(kind, name):
        path = root / kind / f"{len(cases)}"
        path.mkdir(parents=True)
        cases[f"{kind}: {name}"] = path
        return path

    for name, content in HOSTILE_GGUF.items():
        path = folder("gguf", name) / "model.gguf"
        path.write_bytes(content)
        cases[f"gguf: {name}"] = path
    for name, content in HOSTILE_SAFETENSORS.items():
        path = _nano_folder(folder("safetensors", name), nano)
        (path / "model.safetensors").write_bytes(content)
    for name, content in CONFIGS.items():
        path = _nano_folder(folder("config", name), nano)
        (path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, change in BAD_JSON.items():
        path = _nano_folder(folder("tokenizer", name), nano)
        (path / "tokenizer_config.json").unlink()
        data = json.loads((path / "tokenizer.json").read_text())
        change(data)
        (path / "tokenizer.json").write_text(json.dumps(data))
    for name, content in HOSTILE_JINJA.items():
        path = _nano_folder(folder("jinja", name), nano)
        (path / "chat_template.jinja").write_text(content, encoding="utf-8")
    for name, write in HOSTILE_PTH.items():
        path = folder("pth", name)
        meta.write_folder(nano, path, torch.float32)
        (path / "consolidated.00.pth").unlink()
        write(path / "consolidated.00.pth")
    return cases


def _nano_folder(path, nano):
    hf.write_folder(nano, path)
    formats.to_hf(small(), path)
    return path


def test_every_hostile_file_is_refused_with_a_sentence_and_exit_code_2(world, tmp_path):
    asked = "".join(json.dumps({"name": name, "path": str(path)}) + "\n" for name, path in world.items())
    program = "from tests.laws.test_hostile_files import drive; drive()"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=asked,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = {name: (code, said) for name, code, said in map(json.loads, done.stdout.splitlines())}
    assert answers.keys() == world.keys() and len(world) >= 40
    bad = {
        name: answer
        for name, answer in answers.items()
        if answer[0] != 2 or not answer[1].startswith("puna: ") or "bug in Puna" in answer[1]
    }
    assert bad == {}
    assert not (tmp_path / "bombed").exists()


@pytest.mark.parametrize("kind", ["gguf", "safetensors", "config", "tokenizer", "jinja", "pth"])
def test_a_process_ends_with_code_2_too(world, tmp_path, kind):
    name = [name for name in world if name.startswith(f"{kind}: ")][3]
    command = [sys.executable, "-m", "puna.cli.main", "chat", str(world[name]), "-p", "hello"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("puna: "), done.stderr
    assert "Traceback" not in done.stderr
