"""Folders in Hugging Face's and Meta's layout are read and written exactly; hostile ones are refused, never
run.
"""

import json
import os
import pickle
import random
import shutil
import struct
import tracemalloc
import zipfile

import pytest
import torch

from puna.errors import PunaError, WeightsError
from puna.model import hf, meta
from puna.model.names import heads_turned, shapes, to_half_split, to_interleaved, to_meta
from puna.model.weights import check, load
from tests.models import NANO, TRAITS, InMemory, random_model


def same(weights, model):
    return all(
        torch.equal(weights.read(name), tensor)
        for name, tensor in model.state_dict().items()
        if name in dict(shapes(model.config))
    )


@pytest.mark.parametrize("traits", TRAITS)
@pytest.mark.parametrize("shard_bytes", [10**9, 50_000])
def test_a_hugging_face_folder_gives_back_every_bit(tmp_path, traits, shard_bytes):
    model = random_model(TRAITS[traits])
    hf.write_folder(InMemory(model), tmp_path, shard_bytes=shard_bytes)
    weights = hf.HFWeights(tmp_path)
    assert weights.config == model.config and same(weights, model)
    assert same(InMemory(load(weights, torch.float32)), model)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_every_dense_type_is_written_and_read(tmp_path, kind):
    model = random_model(NANO)
    hf.write_folder(InMemory(model), tmp_path, dtype=kind)
    weights = hf.HFWeights(tmp_path)
    assert weights.kind("model.norm.weight") == kind
    assert same(weights, model.to(hf.DTYPES[kind]))


@pytest.mark.parametrize("traits", TRAITS)
def test_a_meta_folder_gives_back_every_bit(tmp_path, traits):
    model = random_model(TRAITS[traits])
    if model.config.head_dim * model.config.num_attention_heads != model.config.hidden_size:
        pytest.fail("Meta's layout needs heads that fill the width")
    meta.write_folder(InMemory(model), tmp_path, torch.float32)
    weights = meta.MetaWeights(tmp_path)
    check(weights)
    assert same(weights, model)
    assert (
        weights.config
        == model.config.model_copy(update={"max_position_embeddings": weights.config.max_position_embeddings})
        or not model.config.rope_scaling
    )


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.parametrize("embedding_dim", [0, 1], ids=["llama3", "llama2"])
def test_meta_shards_are_joined_along_the_right_side(tmp_path, shards, embedding_dim):
    config = NANO.model_copy(update={"num_key_value_heads": 4})
    model = random_model(config)
    whole = tmp_path / "whole"
    meta.write_folder(InMemory(model), whole, torch.float32)
    table = torch.load(whole / "consolidated.00.pth", weights_only=True)
    for rank in range(shards):
        part = {name: _cut(name, tensor, rank, shards, embedding_dim) for name, tensor in table.items()}
        torch.save({**part, "rope.freqs": torch.ones(4)}, tmp_path / f"consolidated.{rank:02d}.pth")
    shutil.copy(whole / "params.json", tmp_path)
    assert same(meta.MetaWeights(tmp_path), model)


def _cut(name, tensor, rank, shards, embedding_dim):
    if tensor.ndim == 1:
        return tensor
    by_columns = name.endswith(("wo.weight", "w2.weight")) or (
        "tok_embeddings" in name and embedding_dim == 1
    )
    return tensor.chunk(shards, 1 if by_columns else 0)[rank].clone()


def test_the_two_row_orders_of_q_and_k_are_inverse():
    weight = torch.arange(4 * 6 * 3).reshape(24, 3)
    assert torch.equal(to_half_split(to_interleaved(weight, 4), 4), weight)
    assert to_interleaved(weight, 4)[:4, 0].tolist() == [0, 9, 3, 12]
    assert heads_turned("model.layers.0.self_attn.k_proj.weight", NANO) == NANO.num_key_value_heads
    assert to_meta("model.layers.11.mlp.up_proj.weight") == "layers.11.feed_forward.w3.weight"


def test_an_interrupted_write_leaves_no_model_behind(tmp_path):
    class Torn(InMemory):
        def read(self, name):
            if name.startswith("model.layers.1"):
                raise KeyboardInterrupt
            return super().read(name)

    for writer in (
        lambda w: hf.write_folder(w, tmp_path),
        lambda w: meta.write_folder(w, tmp_path, torch.float32),
    ):
        with pytest.raises(KeyboardInterrupt):
            writer(Torn(random_model(NANO)))
        assert os.listdir(tmp_path) == []


@pytest.fixture
def folder(tmp_path):
    hf.write_folder(InMemory(random_model(NANO)), tmp_path)
    return tmp_path


def _edit_config(folder, **change):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def _safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
HOSTILE_SAFETENSORS = {
    "empty": b"",
    "truncated length": b"\x01\x02",
    "huge header": struct.pack("<Q", 2**62) + b"{}",
    "header past the end": struct.pack("<Q", 100) + b"{}",
    "no json": _safetensors(b"\xff\x00\x01"),
    "json list": _safetensors([1, 2]),
    "deep json": _safetensors(b'{"a":' * 20_000),
    "offsets past the end": _safetensors({"a": ENTRY}, b"\0" * 4),
    "offsets overlap": _safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 24]}}, b"\0" * 24),
    "offsets backwards": _safetensors({"a": {**ENTRY, "data_offsets": [16, 0]}}, b"\0" * 16),
    "negative shape": _safetensors({"a": {**ENTRY, "shape": [-4]}}, b"\0" * 16),
    "shape larger than its bytes": _safetensors({"a": {**ENTRY, "shape": [2**40, 2**40]}}, b"\0" * 16),
    "shape that overflows": _safetensors({"a": {**ENTRY, "shape": [2**63, 2**63]}}, b"\0" * 16),
    "unknown type": _safetensors({"a": {**ENTRY, "dtype": "F31"}}, b"\0" * 16),
    "trailing bytes": _safetensors({"a": ENTRY}, b"\0" * 99),
    "type we do not read": _safetensors({"a": {**ENTRY, "dtype": "I32"}}, b"\0" * 16),
    "nothing in it": _safetensors({}),
    "wrong shapes": _safetensors({"model.embed_tokens.weight": ENTRY}, b"\0" * 16),
}


@pytest.mark.parametrize("case", HOSTILE_SAFETENSORS)
def test_a_hostile_safetensors_file_is_refused(folder, case):
    (folder / "model.safetensors").write_bytes(HOSTILE_SAFETENSORS[case])
    with pytest.raises(WeightsError):
        check(hf.HFWeights(folder))


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({}, "no weight_map"),
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {"a": "../model.safetensors"}}, "not the name"),
        ({"weight_map": {"a": "/etc/passwd"}}, "not the name"),
        ({"weight_map": {"a": "model.bin"}}, "not the name"),
        ({"weight_map": {"a": 3}}, "not the name"),
        ({"weight_map": {"a": "model-2.safetensors"}}, "missing"),
    ],
)
def test_a_hostile_index_is_refused(folder, index, said):
    (folder / hf.INDEX).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=said):
        hf.HFWeights(folder)


def test_a_folder_that_lacks_or_bends_something_says_what(folder):
    _edit_config(folder, num_hidden_layers=3)
    with pytest.raises(WeightsError, match=r"layers\.2\.input_layernorm\.weight is missing"):
        check(hf.HFWeights(folder))
    _edit_config(folder, num_hidden_layers=2, intermediate_size=180)
    with pytest.raises(
        WeightsError, match=r"gate_proj\.weight is \(176, 64\), the config makes it \(180, 64\)"
    ):
        check(hf.HFWeights(folder))
    _edit_config(folder, quantization_config={"quant_method": "awq"})
    with pytest.raises(WeightsError, match="quantised with awq"):
        hf.HFWeights(folder)
    (folder / "model.safetensors").unlink()
    _edit_config(folder, quantization_config=None)
    with pytest.raises(WeightsError, match="neither"):
        hf.HFWeights(folder)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bombed",)


def _pickled(value):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps(value, protocol=2))
            archive.writestr("a/version", "3\n")

    return write


def _saved(value):
    return lambda path: torch.save(value, path)


HOSTILE_PTH = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"hello"),
    "old format": lambda path: torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False),
    "code": _pickled(Bomb()),
    "code in a bare pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "code beside tensors": _pickled({"a": Bomb()}),
    "a list": _saved([torch.ones(2)]),
    "no tensors": _saved({"a": 3}),
    "integers": _saved({"tok_embeddings.weight": torch.ones(2, 2, dtype=torch.int64)}),
    "strided into giants": _saved({"tok_embeddings.weight": torch.ones(1).expand(2**20, 2**20)}),
    "sparse": _saved({"tok_embeddings.weight": torch.ones(2, 2).to_sparse()}),
    "no embedding": _saved({"output.weight": torch.ones(2, 2)}),
    "wrong shapes": _saved(
        {"tok_embeddings.weight": torch.ones(2, 2), "layers.0.feed_forward.w1.weight": torch.ones(2)}
    ),
    "cut in half": lambda path: (
        torch.save({"a": torch.ones(9999)}, path),
        path.write_bytes(path.read_bytes()[:20_000]),
    ),
    "zip of nothing": lambda path: zipfile.ZipFile(path, "w").close(),
}


@pytest.mark.parametrize("case", HOSTILE_PTH)
def test_a_hostile_pth_file_is_refused_and_never_run(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    meta.write_folder(InMemory(random_model(NANO)), tmp_path, torch.float32)
    (tmp_path / "consolidated.00.pth").unlink()
    HOSTILE_PTH[case](tmp_path / "consolidated.00.pth")
    tracemalloc.start()
    with pytest.raises(PunaError):
        check(meta.MetaWeights(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert not (tmp_path / "bombed").exists()


def test_meta_shards_that_do_not_count_up_are_refused(tmp_path):
    meta.write_folder(InMemory(random_model(NANO)), tmp_path, torch.float32)
    (tmp_path / "consolidated.00.pth").rename(tmp_path / "consolidated.01.pth")
    with pytest.raises(WeightsError, match="count up from 00"):
        meta.MetaWeights(tmp_path)


@pytest.mark.parametrize("layout", ["hf", "meta"])
def test_a_bent_byte_is_an_error_or_another_model_but_never_a_crash(tmp_path, layout):
    model = random_model(NANO.model_copy(update={"num_hidden_layers": 1, "vocab_size": 32}))
    if layout == "hf":
        hf.write_folder(InMemory(model), tmp_path)
        file, opened = tmp_path / "model.safetensors", hf.HFWeights
    else:
        meta.write_folder(InMemory(model), tmp_path, torch.float32)
        file, opened = tmp_path / "consolidated.00.pth", meta.MetaWeights
    whole, rng, refused = file.read_bytes(), random.Random(0), 0
    for _ in range(400):
        bent = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice(
                (rng.randrange(2000), rng.randrange(len(bent)), len(bent) - 1 - rng.randrange(600))
            )
            bent[at] = rng.randrange(256)
        file.write_bytes(bent if rng.random() < 0.8 else bent[: rng.randrange(len(bent))])
        try:
            weights = opened(tmp_path)
            check(weights)
            for name in dict(shapes(weights.config)):
                weights.read(name)
        except PunaError:
            refused += 1
    assert refused > 50
