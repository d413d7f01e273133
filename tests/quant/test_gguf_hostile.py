"""A damaged or hostile GGUF is an error with a reason: no crash, no hang, no memory beyond its own size."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from puna.errors import WeightsError
from puna.gguf import open_gguf
from tests.quant import gguf_files as raw
from tests.quant.gguf_files import F32, Draft

GOOD = Draft()
WHOLE = GOOD.bytes()


def with_key(kind, value, name="x"):
    return GOOD.more_keys(raw.key(name, kind, value)).bytes()


def with_infos(*infos):
    return replace(GOOD, infos=infos).bytes()


def one(dims=(8, 4), kind=0, offset=0, name="one"):
    return raw.info(name, dims, kind, offset)


BAD = {  # what the message must say: the file
    "0 bytes are too few": b"",
    "23 bytes are too few": WHOLE[:23],
    "begins with b'GGML'": replace(GOOD, magic=b"GGML").bytes(),
    "begins with b'PK": b"PK\3\4" + bytes(100),
    "version 0 is not supported": replace(GOOD, version=raw.u32(0)).bytes(),
    "version 1 is not supported": replace(GOOD, version=raw.u32(1)).bytes(),
    "version 4 is not supported": replace(GOOD, version=raw.u32(4)).bytes(),
    "big-endian": replace(GOOD, version=struct.pack(">I", 3)).bytes(),
    "4 keys and 1,000,000 tensors cannot": replace(GOOD, counts=(10**6, 4)).bytes(),
    "18,446,744,073,709,551,615 keys": replace(GOOD, counts=(2, 2**64 - 1)).bytes(),
    "18,446,744,073,709,551,615 tensors": replace(GOOD, counts=(2**64 - 1, 4)).bytes(),
    "name of a key at byte 32 has 1,000,000": replace(
        GOOD, keys=(raw.text("k", 10**6) + bytes(90),), infos=()
    ).bytes(),
    "name of a key at byte 32 has 18,446": replace(
        GOOD, keys=(raw.text("k", 2**64 - 1) + bytes(90),), infos=()
    ).bytes(),
    "name of a key at byte 32 is not UTF-8": replace(
        GOOD, keys=(raw.key(b"\xff\xfe", raw.U8, b"\1"),)
    ).bytes(),
    "the key 'yes' stands there twice": with_key(raw.BOOL, b"\1", "yes"),
    "'x' has the unknown value type 13": with_key(13, b"\0" * 8),
    "'x' has the unknown value type 4294967295": with_key(2**32 - 1, b"\0" * 8),
    "'x' is an array of arrays": with_key(raw.ARRAY, raw.array(raw.ARRAY, 1, raw.array(raw.U8, 1, b"\1"))),
    "'x' has the unknown value type 77": with_key(raw.ARRAY, raw.array(77, 1, b"\0" * 8)),
    "'x' at byte 244 takes 4,000,000,000 bytes": with_key(raw.ARRAY, raw.array(raw.U32, 10**9, b"")),
    "takes 147,573,952,589,676,412,920 bytes": with_key(raw.ARRAY, raw.array(raw.U64, 2**64 - 1, b"")),
    "'x' claims 1,000,000,000 strings": with_key(raw.ARRAY, raw.array(raw.STRING, 10**9, b"")),
    "'x' claims 18,446,744,073,709,551,615 strings": with_key(
        raw.ARRAY, raw.array(raw.STRING, 2**64 - 1, b"")
    ),
    "'x' reaches to byte 1,000,2": with_key(
        raw.ARRAY, raw.array(raw.STRING, 2, raw.text("a") + raw.text("b", 10**6))
    ),
    "x[1] begins at byte 1,000,2": with_key(
        raw.ARRAY, raw.array(raw.STRING, 2, raw.text("a", 10**6) + raw.text("b"))
    ),
    "x[1] begins at byte 18,446,744": with_key(
        raw.ARRAY, raw.array(raw.STRING, 2, raw.text("a", 2**64 - 1) + raw.text("b"))
    ),
    "'x' at byte 240 takes 1,000,000 bytes": with_key(raw.STRING, raw.text("a", 10**6)),
    "'x' at byte 240 is not UTF-8": with_key(raw.STRING, raw.text(b"\xc3\x28")),
    "'x' at byte 232 is a bool that is neither": with_key(raw.BOOL, b"\2"),
    "'x' at byte 244 is a bool that is neither": with_key(raw.ARRAY, raw.array(raw.BOOL, 2, b"\1\7")),
    "general.alignment is 0,": with_key(raw.U32, raw.u32(0), "general.alignment"),
    "general.alignment is 24,": with_key(raw.U32, raw.u32(24), "general.alignment"),
    "general.alignment is 1,": with_key(raw.U32, raw.u32(1), "general.alignment"),
    "general.alignment is -32,": with_key(raw.I32, struct.pack("<i", -32), "general.alignment"),
    "general.alignment is 32.0,": with_key(F32, struct.pack("<f", 32), "general.alignment"),
    "general.alignment is True,": with_key(raw.BOOL, b"\1", "general.alignment"),
    "general.alignment is ['a']": with_key(
        raw.ARRAY, raw.array(raw.STRING, 1, raw.text("a")), "general.alignment"
    ),
    "reaches to byte 2,147,483,776 of": with_key(raw.U32, raw.u32(2**31), "general.alignment"),
    "name of a tensor at byte 227 is not UTF-8": with_infos(one(name=b"\x80")),
    "name of a tensor at byte 227 has 300 bytes": with_infos(one(name="n" * 300)),
    "the tensor 'one' stands there twice": with_infos(one(), one(offset=128)),
    "'one' has 0 dimensions": with_infos(one(dims=())),
    "'one' has 5 dimensions": with_infos(one(dims=(8, 1, 1, 1, 1))),
    "'one' has 4,294,967,295 dimensions": with_infos(raw.text("one") + raw.u32(2**32 - 1) + bytes(64)),
    "'one' has a dimension of 0": with_infos(one(dims=(8, 0))),
    "reaches to byte 4,835,703,278,458,516,698,824,": with_infos(one(dims=(2**40, 2**40))),
    "reaches to byte 1,361,129,467,683,753,853,853,498,429,727,072,8": with_infos(one(dims=(2**32,) * 4)),
    "reaches to byte 4,000,": with_infos(one(dims=(10**9,))),
    "rows of 33 are not whole Q8_0 blocks of 32": with_infos(one(dims=(33, 2), kind=8)),
    "rows of 64 are not whole Q4_K blocks of 256": with_infos(one(dims=(64, 4), kind=12)),
    "'one' begins at 4, no multiple of the alignment 32": with_infos(one(offset=4)),
    "cut off: 'one' reaches to byte 1,000,": with_infos(one(offset=10**6 - 64)),
    "reaches to byte 18,446,744,073,709,55": with_infos(one(offset=2**64 - 32)),
    "the tensors 'one' and 'two' overlap": with_infos(one(), one(offset=96, dims=(8, 1), name="two")),
    "the tensors 'two' and 'one' overlap": with_infos(one(dims=(8, 1), offset=32), one(name="two")),
    "'one' is stored as unknown type 99": with_infos(one(kind=99)),
    "'one' is stored as unknown type 4,": with_infos(one(kind=4)),
    "'one' is stored as IQ2_XXS": with_infos(one(dims=(256,), kind=16)),
}


@pytest.mark.parametrize("said", BAD)
def test_a_malformed_file_is_told_with_its_reason(tmp_path, said):
    path = tmp_path / "bad.gguf"
    path.write_bytes(BAD[said])
    tracemalloc.start()
    with pytest.raises(WeightsError) as told:
        open_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        str(told.value).startswith(f"{path}: ") and said in str(told.value) and "\n  try: " in str(told.value)
    )
    assert peak < 200_000


def test_bad_text_in_a_long_array_is_told_when_it_is_read(tmp_path):
    strings = raw.text("fine") + raw.text(b"\xed\xa0\x80")
    draft = GOOD.more_keys(raw.key("words", raw.ARRAY, raw.array(raw.STRING, 2, strings)))
    file = open_gguf(draft.written(tmp_path / "m.gguf"))
    with pytest.raises(WeightsError, match=r"words\[1\] at byte 268 is not UTF-8"):
        file.keys["words"]


def test_a_file_cut_anywhere_is_told(tmp_path):
    path = tmp_path / "cut.gguf"
    for size in range(len(WHOLE)):
        path.write_bytes(WHOLE[:size])
        with pytest.raises(WeightsError, match=r"cut off|too few|cannot stand"):
            open_gguf(path)


def test_what_is_no_file_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(WeightsError, match="no such file"):
            open_gguf(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
def test_every_mutation_of_a_small_model_loads_or_is_told(tmp_path):
    """3,000 wounded files in a process of its own, with little memory to spare.

    Warnings are errors, but for those of arithmetic: a wounded weight may be infinite.
    """
    script = Path(__file__).with_name("gguf_fuzz.py")
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::RuntimeWarning", str(script), str(tmp_path), "3000"],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["loaded"] + found["refused"] == 3000
    assert found["loaded"] > 100 and found["refused"] > 1000
    assert found["slowest_s"] < 1
