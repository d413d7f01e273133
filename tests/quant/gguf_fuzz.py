"""Wounds a small GGUF many times and opens what is left: `python gguf_fuzz.py FOLDER COUNT` counts.

The process may take 256 MiB more than it has after its imports; anything but PunaError ends it.
"""

import json
import random
import resource
import sys
import time
from pathlib import Path

from puna.errors import PunaError
from puna.gguf import open_gguf
from puna.model.config import ModelConfig, RopeScaling
from puna.quant.gguf import GgufWeights, write_gguf
from tests.models import InMemory, random_model

SMALL = ModelConfig(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    vocab_size=64,
    rope_scaling=RopeScaling(factor=8.0),
)
SPARE = 256 * 2**20
EXTREMES = (0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)


def main(folder, count):
    path, rng = folder / "m.gguf", random.Random(0)
    tokens = {"tokenizer.ggml.tokens": [f"Ġ{n}" for n in range(64)]}
    write_gguf(InMemory(random_model(SMALL)), path, kind, tokens, "small")
    whole = path.read_bytes()
    header = min(entry.offset for entry in open_gguf(path).tensors.values())
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = {"loaded": 0, "refused": 0, "slowest_s": 0.0}
    for _ in range(count):
        path.write_bytes(wounded(whole, header, rng))
        start = time.perf_counter()
        found["loaded" if opens(path) else "refused"] += 1
        found["slowest_s"] = max(found["slowest_s"], time.perf_counter() - start)
    print(json.dumps(found))


def kind(name, shape):
    return "Q8_0" if "mlp" in name else "F16" if "attn" in name else "F32"


def opens(path):
    try:
        weights = GgufWeights(path)
        list(weights.file.keys.values())
        for name in weights.names():
            weights.read(name)
    except PunaError:
        return False
    return True


def wounded(whole, header, rng):
    """One to three wounds, mostly in the header: bytes and numbers changed, cut out, put in, the end lost."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(header if rng.random() < 0.7 else len(data))
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([data[at % len(data)] ^ 1 << rng.randrange(8)])
            case 2:
                data[at : at + 8] = rng.choice(EXTREMES).to_bytes(8, "little")
            case 3:
                del data[at : at + rng.randint(1, 16)]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 16))
            case 5:
                del data[rng.randrange(len(data)) :]
        data = data or bytearray(1)
    return bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
