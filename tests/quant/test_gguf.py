"""The GGUF container: what stands in a file is what is read, and a file appears whole or not at all."""

import os
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from puna.errors import WeightsError
from puna.gguf import BLOCKS, open_gguf, size_in_bytes
from puna.gguf_writer import GgufWriter
from tests.quant import gguf_files as raw
from tests.quant.gguf_files import Draft, smollm2


@pytest.mark.parametrize("version", [2, 3])
def test_versions_2_and_3_are_read(tmp_path, version):
    draft = replace(Draft(), version=raw.u32(version))
    file = open_gguf(draft.written(tmp_path / "m.gguf"))
    assert file.version == version
    assert file.keys["general.architecture"] == "llama"
    assert file.keys["tokenizer.ggml.tokens"] == ["a", "Ġb", ""]
    assert file.keys["tokenizer.ggml.token_type"].tolist() == [1, 3, 6]
    assert file.keys["yes"] is True
    one, two = file.tensors.values()
    assert (one.shape, one.kind, one.nbytes) == ((4, 8), "F32", 128)
    assert (two.shape, two.kind, two.nbytes) == ((2, 32), "Q8_0", 68)
    assert file.data("one").tobytes() == draft.data[:128]
    assert file.data("two").tobytes() == draft.data[128:]


def test_every_type_of_number_is_read(tmp_path):
    values = {
        0: ("B", 200),
        1: ("b", -3),
        2: ("H", 60_000),
        3: ("h", -300),
        4: ("I", 2**32 - 1),
        5: ("i", -7),
    }
    values |= {6: ("f", 0.5), 7: ("?", True), 10: ("Q", 2**64 - 1), 11: ("q", -(2**60)), 12: ("d", 1e300)}
    keys = [raw.key(f"one {n}", n, struct.pack("<" + code, value)) for n, (code, value) in values.items()]
    for n, (code, value) in values.items():
        keys.append(raw.key(f"two {n}", raw.ARRAY, raw.array(n, 2, struct.pack("<2" + code, value, value))))
    file = open_gguf(Draft().more_keys(*keys).written(tmp_path / "m.gguf"))
    for n, (_, value) in values.items():
        assert file.keys[f"one {n}"] == value
        assert file.keys[f"two {n}"].tolist() == [value, value]


def test_a_wider_alignment_moves_the_data(tmp_path):
    draft = replace(Draft(), alignment=128).more_keys(raw.key("general.alignment", raw.U32, raw.u32(128)))
    file = open_gguf(draft.written(tmp_path / "m.gguf"))
    assert file.tensors["one"].offset % 128 == 0
    assert file.data("one").tobytes() == draft.data[:128]


def test_a_vocabulary_without_tensors_is_read(tmp_path):
    file = open_gguf(replace(Draft(), infos=(), data=b"", alignment=1).written(tmp_path / "m.gguf"))
    assert not file.tensors and file.keys["tokenizer.ggml.tokens"] == ["a", "Ġb", ""]


def test_tensor_data_is_a_read_only_view(tmp_path):
    data = open_gguf(Draft().written(tmp_path / "m.gguf")).data("one")
    assert data.dtype == np.uint8 and not data.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1


def test_the_container_needs_no_torch():
    code = "import sys, puna.gguf, puna.gguf_writer, puna.model.gguf_keys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_block_sizes_are_those_of_the_reference_package():
    gguf = pytest.importorskip("gguf")
    for kind, block in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]] == block


def test_the_real_file_reads_as_the_reference_package_reads_it():
    gguf = pytest.importorskip("gguf")
    theirs, ours = gguf.GGUFReader(smollm2()), open_gguf(smollm2())
    assert list(ours.keys) == [name for name in theirs.fields if not name.startswith("GGUF.")]
    for name, value in ours.keys.items():
        want = theirs.fields[name].contents()
        assert np.array_equal(value, want) if isinstance(value, np.ndarray) else value == want
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        entry = ours.tensors[tensor.name]
        assert entry.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert (entry.kind, entry.offset) == (tensor.tensor_type.name, tensor.data_offset)
        assert np.array_equal(ours.data(tensor.name), tensor.data.reshape(-1).view(np.uint8))


KEYS = {
    "general.architecture": "llama",
    "a count": 7,
    "a negative": -7,
    "a large": 2**40,
    "a share": 0.25,
    "a switch": False,
    "words": ["a", "Ġb", "", "日本"],
    "whole": [1, -2, 3],
    "real": [0.5, -1.0],
    "switches": [True, False],
    "bytes": np.arange(5, dtype=np.uint8),
    "wide": np.array([2**50, 1]),
}


def some_file(path, tensors=(("one", (3, 5), "F16"), ("two", (2, 64), "Q8_0")), keys=KEYS):
    rng = np.random.default_rng(0)
    stored = {
        name: rng.integers(0, 256, size_in_bytes(kind, shape, name), np.uint8)
        for name, shape, kind in tensors
    }
    with GgufWriter(path, keys, tensors) as file:
        for name, data in stored.items():
            file.write(name, data[:7])
            file.write(name, data[7:])
    return stored


def test_what_is_written_is_read_back(tmp_path):
    stored = some_file(tmp_path / "m.gguf")
    file = open_gguf(tmp_path / "m.gguf")
    for name, value in KEYS.items():
        found = file.keys[name]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == (
            value.tolist() if isinstance(value, np.ndarray) else value
        )
    assert [(e.name, e.shape, e.kind) for e in file.tensors.values()] == [
        ("one", (3, 5), "F16"),
        ("two", (2, 64), "Q8_0"),
    ]
    assert all(np.array_equal(file.data(name), data) for name, data in stored.items())


def test_the_reference_package_reads_what_we_write(tmp_path):
    gguf = pytest.importorskip("gguf")
    stored = some_file(tmp_path / "m.gguf", keys={**KEYS, "general.alignment": 64})
    theirs = gguf.GGUFReader(tmp_path / "m.gguf")
    assert theirs.fields["words"].contents() == KEYS["words"]
    types = {
        "a count": "UINT32",
        "a negative": "INT64",
        "a share": "FLOAT32",
        "a switch": "BOOL",
        "whole": "INT32",
    }
    for name, kind in types.items():
        assert theirs.fields[name].types[-1].name == kind
    for tensor in theirs.tensors:
        assert tensor.data_offset % 64 == 0
        assert tensor.data.reshape(-1).view(np.uint8).tobytes() == stored[tensor.name].tobytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"old")
    writer = GgufWriter(path, KEYS, [("one", (4,), "F32")])
    with pytest.raises(KeyboardInterrupt), writer as file:
        file.write("one", np.zeros(1, np.float32))
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.gguf"] and path.read_bytes() == b"old"


def test_a_tensor_never_written_is_a_failed_write(tmp_path):
    with (
        pytest.raises(AssertionError, match="two"),
        GgufWriter(tmp_path / "m.gguf", {}, [("one", (4,), "F32"), ("two", (4,), "F32")]) as file,
    ):
        file.write("one", np.zeros(4, np.float32))
    assert not list(tmp_path.iterdir())


def test_text_that_utf_8_cannot_write_is_told(tmp_path):
    with pytest.raises(WeightsError, match="holds half a character"):
        some_file(tmp_path / "m.gguf", keys={"tokenizer.chat_template": "\ud800"})


def test_writing_where_one_cannot_is_told(tmp_path):
    with pytest.raises(WeightsError, match=r"no/m\.gguf: cannot be written"):
        some_file(tmp_path / "no" / "m.gguf")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path):
    writer = GgufWriter(tmp_path / "m.gguf", {}, [("one", (2**16,), "F32")])
    (tmp_path / f".m.gguf.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match=r"cannot be written \(No space"), writer as file:
        file.write("one", np.zeros(2**16, np.float32))
    assert not list(tmp_path.iterdir())


def test_rows_that_are_no_whole_blocks_are_told():
    with pytest.raises(WeightsError, match="rows of 576 are not whole Q4_K blocks of 256"):
        size_in_bytes("Q4_K", (3, 576), "down")


def test_the_keys_of_llama_3_open_in_a_blink(tmp_path):
    """128,256 tokens and 280,147 merges: 0.03 s where this was written, the merges 0.1 s more."""
    keys = {
        "tokenizer.ggml.tokens": [f"Ġtoken{n}" for n in range(128_256)],
        "tokenizer.ggml.merges": [f"Ġto ken{n}" for n in range(280_147)],
    }
    some_file(tmp_path / "m.gguf", keys=keys)
    start = time.perf_counter()
    file = open_gguf(tmp_path / "m.gguf")
    assert time.perf_counter() - start < 0.5
    assert file.keys["tokenizer.ggml.merges"] == keys["tokenizer.ggml.merges"]
    assert time.perf_counter() - start < 1.5
