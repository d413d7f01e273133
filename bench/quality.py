"""How far our native step and llama.cpp are from the exact weights of one GGUF, on the same text, as JSON.

    python -m bench.quality TEXT [--model smollm2] [--tokens 512]

Exact: the dequantised weights in fp32 through the torch model. kl: mean Kullback-Leibler divergence in nats;
same_best: share of positions with the same best token; perplexity: relative to the exact one's. puna_int8:
with keys and values in bytes; int8_for_bf16: what that changes. A model without a vocabulary is given drawn
ids in place of the text.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from bench.machine import facts
from puna import hub
from puna.engine.load import open_runner
from puna.engine.step import Runner, Step
from puna.errors import PunaError
from puna.hardware import cores
from puna.quant.source import open_weights
from puna.tokenizer import formats

AT_ONCE = 128  # rows whose logits are held


def ours(runner: Runner, ids: list[int]) -> np.ndarray:
    """Logits of all positions (T, V)."""
    found, pages = [], list(range(-(-len(ids) // runner.page)))
    for held in range(0, len(ids), AT_ONCE):
        some = ids[held : held + AT_ONCE]
        found.append(runner.run(Step(some, [0, len(some)], [held], [pages], list(range(len(some))))).logits)
    return np.concatenate(found)


def theirs(path: str, ids: list[int], threads: int) -> np.ndarray:
    import llama_cpp

    model = llama_cpp.Llama(
        path,
        n_ctx=len(ids) + 1,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        verbose=False,
    )
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def compared(want: np.ndarray, got: np.ndarray, ids: list[int]) -> dict[str, float]:
    p, q = (torch.from_numpy(logits).double().log_softmax(-1) for logits in (want, got))
    following = torch.tensor(ids[1:])[:, None]
    losses = [float(-side[:-1].gather(1, following).mean()) for side in (p, q)]
    return {
        "kl": float(f"{float((p.exp() * (p - q)).sum(-1).mean()):.3e}"),
        "same_best": round(float((want.argmax(-1) == got.argmax(-1)).mean()), 4),
        "perplexity": round(float(np.exp(losses[1] - losses[0])) - 1, 5),
    }


def text_ids(path: Path, model: str, count: int, words: int) -> list[int]:
    try:
        ids = formats.load(hub.find(model).path).encode(path.read_text())
    except PunaError:
        return np.random.default_rng(0).integers(0, words, count).tolist()
    return ids[:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--tokens", type=int, default=512)
    given = parser.parse_args()
    place, threads = hub.find(given.model), cores()
    words = open_weights(place).config.vocab_size
    ids = text_ids(given.text, given.model, given.tokens, words)
    want = ours(open_runner(open_weights(place), "f32", threads, len(ids)), ids)
    bf16, int8 = (
        ours(open_runner(open_weights(place), "auto", threads, len(ids), cache), ids)
        for cache in ("bf16", "int8")
    )
    sides = {"puna": bf16, "puna_int8": int8, "llama_cpp": theirs(str(place.path), ids, threads)}
    about = {"bench": "quality", "model": given.model, "tokens": len(ids)}
    results = {name: compared(want, got, ids) for name, got in sides.items()}
    results["int8_for_bf16"] = compared(bf16, int8, ids)
    print(json.dumps(about | facts("torch", "llama-cpp-python") | results))


if __name__ == "__main__":
    main()
