"""`look`, `export`, `quantize` and `serve` as people meet them: real processes on real, small models."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from adapters import write_peft
from openai import OpenAI

from puna import hardware, hub, lineage
from puna.kernels import llama
from puna.model import hf
from puna.model.names import shapes
from puna.quant.source import open_weights
from puna.tokenizer import formats
from tests.models import NANO, InMemory, random_model
from tests.tokenizer.test_tokenizer_hostile import small

ROOT = Path(__file__).parents[2]
PUNA = [sys.executable, "-m", "puna.cli.main"]
native = pytest.mark.skipif(bool(llama.works_here()) or hardware.has_nvidia(), reason="torch answers here")
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def puna(*words, cwd, code=0):
    done = subprocess.run(
        [*PUNA, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """A folder in Hugging Face's layout: random weights, a vocabulary of 260 tokens."""
    folder = tmp_path_factory.mktemp("models") / "nano"
    config = NANO.model_copy(
        update={"vocab_size": 260, "rope_scaling": None, "hidden_size": 256, "head_dim": 32}
    )
    hf.write_folder(InMemory(random_model(config)), folder)
    formats.to_hf(small(), folder)
    (folder / "chat_template.jinja").write_text(PLAIN)
    return folder


def same(one, other):
    one, other = (open_weights(hub.find(str(path))) for path in (one, other))
    return one.config == other.config and all(
        torch.equal(one.read(name).float(), other.read(name).float()) for name, _ in shapes(one.config)
    )


def test_a_model_goes_through_every_layout_and_comes_back_whole(nano, tmp_path):
    said = puna("export", nano, "--to", "gguf", "--out", "a.gguf", cwd=tmp_path).stdout
    assert said == "a.gguf\n"
    puna("export", "a.gguf", "--to", "hf", "--out", "b", cwd=tmp_path)
    assert same(nano, tmp_path / "b")
    assert formats.load(tmp_path / "b").encode("abc cab") == formats.load(nano).encode("abc cab")
    assert (tmp_path / "b" / "chat_template.jinja").read_text() == PLAIN
    for path, layout in ((nano, "Hugging Face"), ("a.gguf", "GGUF"), ("b", "Hugging Face")):
        facts = json.loads(puna("look", path, "--json", cwd=tmp_path).stdout)
        assert layout in facts["layout"]
        text = puna("look", path, cwd=tmp_path).stdout
        assert "260" in text


def test_a_model_in_another_layout_says_which_one_it_was_and_keeps_its_licence(nano, tmp_path):
    source = shutil.copytree(nano, tmp_path / "source")
    (source / "README.md").write_text("---\nlicense: llama3.2\n---\n")
    puna("export", source, "--to", "gguf", "--out", "a.gguf", cwd=tmp_path)
    puna("quantize", "a.gguf", "--to", "q8_0", "--out", "b.gguf", cwd=tmp_path)
    puna("export", "b.gguf", "--to", "hf", "--out", "c", cwd=tmp_path)
    nodes = [lineage.read(tmp_path / name) for name in ("a.gguf", "b.gguf", "c")]
    assert [node.licence for node in nodes] == ["llama3.2"] * 3
    relations = [parent.relation for node in nodes for parent in node.parents]
    assert relations == ["converted_from", "quantised_from", "converted_from"]
    above = [lineage.node_of(source, "weights").id, nodes[0].id, nodes[1].id]
    assert [parent.id for node in nodes for parent in node.parents] == above
    assert all(lineage.problems(tmp_path / name) == [] for name in ("a.gguf", "b.gguf", "c"))
    assert "quantised_from a.gguf" in puna("look", "b.gguf", cwd=tmp_path).stdout


def test_a_vocabulary_that_metas_layout_cannot_hold_is_told_before_hours_of_writing(nano, tmp_path):
    done = puna("export", nano, "--to", "meta", "--out", "m", cwd=tmp_path, code=2)
    assert "tokenizer.model" in done.stderr and "--to hf" in done.stderr and os.listdir(tmp_path) == []


def test_nothing_is_overwritten_unless_asked(nano, tmp_path):
    name = puna("quantize", nano, "--to", "Q8_0", cwd=tmp_path).stdout.strip()
    assert name == "nano.Q8_0.gguf" and sorted(os.listdir(tmp_path)) == [name, f"{name}.lineage.json"]
    before = (tmp_path / name).read_bytes()
    done = puna("quantize", nano, "--to", "q8_0", "--out", name, cwd=tmp_path, code=2)
    assert "already exists" in done.stderr and "--overwrite" in done.stderr
    puna("quantize", nano, "--to", "q8_0", "--out", name, "--overwrite", cwd=tmp_path)
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("look", "nowhere"), "no such file or folder"),
        (("look",), "puna look --help"),
        (("quantize", "NANO", "--to", "q4km"), "did you mean 'q4_k_m'"),
        (("export", "NANO"), "--to"),
        (("export", "NANO", "--to", "onnx"), "onnx"),
        (("export", "NANO", "--to", "gguf", "--out", "no/where.gguf"), "no such folder"),
        (("export", "NANO", "--to", "hf", "--dtype", "int4"), "int4"),
        (("serve", "NANO", "--port", "99999999"), "--port"),
        (("serve", "NANO", "--cache", "int4"), "bf16"),
        (("serve", "NANO", "--cache", "int8", "--dtype", "f32"), "try: --dtype auto, or --cache bf16"),
        (
            ("chat", "NANO", "-p", "x", "--cache", "int8", "--dtype", "bf16"),
            "a cache in int8 needs the native step",
        ),
        (("serve", "nowhere"), "no such file or folder"),
        (("serve", "NANO", "--adapter", "one"), "--adapter NAME=FOLDER"),
        (("chat", "NANO", "-p", "x", "--adapter", "nowhere"), "nowhere: no such folder"),
        (("chatt",), "chat"),
    ],
)
def test_bad_words_are_refused_with_code_2_and_nothing_written(nano, tmp_path, words, said):
    done = puna(*(nano if word == "NANO" else word for word in words), cwd=tmp_path, code=2)
    assert said in done.stderr and done.stdout == "" and os.listdir(tmp_path) == []


def test_export_holds_about_one_tensor(tmp_path):
    """538 MB are written from a 98 MB file; the largest tensor takes 113 MB. `extra` is what the work adds."""
    program = (
        "import resource, sys; from pathlib import Path; from puna import hub; from puna.quant import export\n"
        "kib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = kib(); export.export(hub.find('smollm2'), sys.argv[1], Path(sys.argv[2]), 'f32')\n"
        "print((kib() - before) / 1024)"
    )
    for layout in ("hf", "gguf"):
        done = subprocess.run(
            [sys.executable, "-c", program, layout, str(tmp_path / layout)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        extra_mib = float(done.stdout)
        assert extra_mib < 98 + 2.5 * 113, layout  # the file's own pages, a tensor, and its copy while turned


@pytest.fixture(scope="module")
def adapter(nano, tmp_path_factory):
    config = open_weights(hub.find(str(nano))).config
    return write_peft(tmp_path_factory.mktemp("peft") / "changed", config, size=2)


@pytest.fixture(params=["bf16", pytest.param("int8", marks=native)])
def server(nano, adapter, tmp_path, request):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *PUNA,
            "serve",
            str(nano),
            "--port",
            str(port),
            "--name",
            "tiny",
            "--adapter",
            f"changed={adapter}",
            "--cache",
            request.param,
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    for line in process.stderr:
        if line.startswith("serving tiny at "):
            break
    yield process, port, request.param
    watchdog.cancel()
    process.kill()
    process.wait()
    process.stderr.close()


def test_the_served_model_and_its_adapter_answer_the_openai_client_until_it_is_interrupted(
    server, nano, adapter, tmp_path
):
    process, port, cache = server
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny", "changed"]
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 5}
        whole = client.chat.completions.create(**asked, temperature=0)
        parts = client.chat.completions.create(**asked, temperature=0, stream=True)
        streamed = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        other = client.chat.completions.create(**asked | {"model": "changed"}, temperature=0)
    said = other.choices[0].message.content
    assert other.model == "changed" and said != whole.choices[0].message.content
    words = (
        "-p",
        "abc",
        "--adapter",
        adapter,
        "--max-tokens",
        5,
        "--temperature",
        0,
        "--json",
        "--cache",
        cache,
    )
    assert json.loads(puna("chat", nano, *words, cwd=tmp_path).stdout)["text"] == said
    assert whole.usage.completion_tokens <= 5 and streamed == whole.choices[0].message.content
    done = puna("serve", nano, "--port", port, cwd=tmp_path, code=2)
    assert f"{port}" in done.stderr and "try:" in done.stderr  # somebody is there already
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) in (0, 130)
