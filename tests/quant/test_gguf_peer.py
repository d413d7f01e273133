"""llama.cpp loads what we write, and reads from it what we read."""

import numpy as np
import pytest
import torch

from puna.model.attend import causal
from puna.quant.gguf import GgufWeights, write_gguf
from tests.models import TRAITS, InMemory, random_model
from tests.quant.gguf_files import smollm2

pytestmark = pytest.mark.peer
PROMPTS = ("Why is the sky blue?", "def fibonacci(n):", "Der Himmel ist", "1, 2, 3, 5, 8,")


def opened(path, context=256):
    llama_cpp = pytest.importorskip("llama_cpp")
    return llama_cpp.Llama(str(path), n_ctx=context, n_threads=1, logits_all=True, verbose=False)


def continued(model, text, count=32):
    model.reset()
    written = []
    for token in model.generate(model.tokenize(text.encode()), temp=0.0):
        written.append(token)
        if len(written) == count:
            return written


@pytest.mark.parametrize("kind", ["F32", "F16", "as stored"])
def test_llama_cpp_goes_on_from_our_file_as_from_the_source(tmp_path, kind):
    source = GgufWeights(smollm2())
    tokens = {name: value for name, value in source.file.keys.items() if name.startswith("tokenizer.")}
    path = tmp_path / "m.gguf"
    write_gguf(source, path, lambda n, _: source.kind(n) if kind == "as stored" else kind, tokens, "ours")
    ours, theirs = opened(path), opened(smollm2())
    assert ours.metadata["general.name"] == "ours"
    assert ours.tokenize(b"Hi <|im_end|>", special=True) == theirs.tokenize(b"Hi <|im_end|>", special=True)
    for text in PROMPTS:
        assert continued(ours, text) == continued(theirs, text)


@pytest.mark.parametrize("traits", TRAITS)
@torch.inference_mode()
def test_llama_cpps_logits_from_our_file_are_ours(tmp_path, traits):
    model = random_model(TRAITS[traits])
    path = tmp_path / "m.gguf"
    write_gguf(InMemory(model), path, lambda n, _: "F32", {"tokenizer.ggml.model": "no_vocab"}, traits)
    tokens = torch.randint(0, 512, (200,), generator=torch.Generator().manual_seed(1))
    theirs = opened(path)
    theirs.eval(tokens.tolist())
    want = model(tokens[None], torch.arange(200)[None], causal)[0].numpy()
    assert np.abs(np.array(theirs.scores[:200]) - want).max() < 1e-3
