"""A GGUF of true shape with random weights: to measure speed and memory where no model can be downloaded.

    python -m bench.random_gguf build/1b.q4_0.gguf q4_0 [--shape 1b]

Blocks are random bytes with sensible scales, so that activations stay finite. There is no vocabulary and no
quality: feed it token ids.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type


@dataclass(frozen=True)
class Shape:
    width: int
    layers: int
    heads: int
    groups: int
    hidden: int
    vocabulary: int = 128_256


SHAPES = {
    "tiny": Shape(width=256, layers=2, heads=4, groups=2, hidden=512, vocabulary=1024),
    "1b": Shape(width=2048, layers=16, heads=32, groups=8, hidden=8192),
    "8b": Shape(width=4096, layers=32, heads=32, groups=8, hidden=14_336),
}
KINDS = {  # name: (most matrices, the careful ones, embedding that is also the head), as llama.cpp mixes them
    "q4_0": (Type.Q4_0, Type.Q4_0, Type.Q6_K),
    "q4_1": (Type.Q4_1, Type.Q4_1, Type.Q6_K),
    "q4_k_m": (Type.Q4_K, Type.Q6_K, Type.Q6_K),
    "q5_k_m": (Type.Q5_K, Type.Q6_K, Type.Q6_K),
    "q6_k": (Type.Q6_K, Type.Q6_K, Type.Q6_K),
    "q8_0": (Type.Q8_0, Type.Q8_0, Type.Q8_0),
    "f16": (Type.F16, Type.F16, Type.F16),
}
HALVES = {  # where a block keeps its half-precision numbers, and a value that keeps weights near 0.02
    Type.Q4_0: {0: 0.004},
    Type.Q4_1: {0: 0.004, 2: -0.03},
    Type.Q8_0: {0: 0.0003},
    Type.Q4_K: {0: 0.0001, 2: 0.0007},
    Type.Q5_K: {0: 0.00005, 2: 0.0007},
    Type.Q6_K: {208: 0.00002},
}


def random_tensor(rng: np.random.Generator, rows: int, columns: int, kind: Type) -> np.ndarray:
    if kind == Type.F32:
        return np.ones(columns, np.float32)  # the norms
    if kind == Type.F16:
        return (rng.standard_normal((rows, columns), dtype=np.float32) * 0.02).astype(np.float16)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.frombuffer(rng.bytes(rows * columns // block * size), np.uint8).reshape(-1, size).copy()
    for place, value in HALVES[kind].items():
        blocks[:, place : place + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)
    return blocks.reshape(rows, columns // block * size)


def tensors(shape: Shape, kind: str) -> Iterator[tuple[str, int, int, Type]]:
    """(name, rows, columns, type) of every tensor, rows = outputs."""
    base, careful, embedding = KINDS[kind]
    width, keys = shape.width, shape.width // shape.heads * shape.groups
    yield "token_embd.weight", shape.vocabulary, width, embedding
    yield "output_norm.weight", 1, width, Type.F32
    for layer in range(shape.layers):
        eighth = shape.layers // 8
        more = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
        for name, rows, columns, which in (
            ("attn_norm", 1, width, Type.F32),
            ("ffn_norm", 1, width, Type.F32),
            ("attn_q", width, width, base),
            ("attn_k", keys, width, base),
            ("attn_v", keys, width, careful if more else base),
            ("attn_output", width, width, base),
            ("ffn_gate", shape.hidden, width, base),
            ("ffn_up", shape.hidden, width, base),
            ("ffn_down", width, shape.hidden, careful if more else base),
        ):
            yield f"blk.{layer}.{name}.weight", rows, columns, which


def write(path: str, kind: str, shape: Shape) -> None:
    rng, writer = np.random.default_rng(0), gguf.GGUFWriter(path, "llama")
    writer.add_context_length(131_072)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.groups)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500_000.0)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    for name, rows, columns, which in tensors(shape, kind):
        kept = None if which in (Type.F32, Type.F16) else which
        writer.add_tensor(name, random_tensor(rng, rows, columns, which), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    given = parser.parse_args()
    write(given.out, given.kind, SHAPES[given.shape])


if __name__ == "__main__":
    main()
