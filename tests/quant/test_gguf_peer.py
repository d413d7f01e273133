"""llama.cpp loads what we write, and reads from it what we read."""

import numpy as np
import pytest
import torch

from puna.model.attend import causal
from puna.model.weights import load
from puna.quant.gguf import GgufWeights, write_gguf
from tests.models import TRAITS, InMemory, random_model
from tests.quant.gguf_files import smollm2

pytestmark = pytest.mark.peer
F32 = 0  # ggml's number; llama.cpp keeps keys and values in F16 unless told
PROMPT = "Why is the sky blue?"


def opened(path):
    llama_cpp = pytest.importorskip("llama_cpp")
    return llama_cpp.Llama(
        str(path), n_ctx=256, n_threads=1, logits_all=True, type_k=F32, type_v=F32, verbose=False
    )


def continued(model, text, count):
    model.reset()
    written = []
    for token in model.generate(model.tokenize(text.encode()), temp=0.0):
        written.append(token)
        if len(written) == count:
            return written


@torch.inference_mode()
def furthest(theirs, model, tokens):
    """The largest difference between llama.cpp's logits and ours, over all positions."""
    theirs.eval(tokens)
    want = model(torch.tensor(tokens)[None], torch.arange(len(tokens))[None], causal)[0].numpy()
    return np.abs(np.array(theirs.scores[: len(tokens)]) - want).max()


def rewritten(path, kind):
    source = GgufWeights(smollm2())
    tokens = {name: value for name, value in source.file.keys.items() if name.startswith("tokenizer.")}
    write_gguf(source, path, lambda name, _: kind or source.kind(name), tokens, "ours")
    return path


def test_llama_cpp_goes_on_from_our_copy_as_from_the_source(tmp_path):
    ours, theirs = opened(rewritten(tmp_path / "m.gguf", None)), opened(smollm2())
    assert ours.metadata["general.name"] == "ours"
    assert ours.tokenize(b"Hi <|im_end|>", special=True) == theirs.tokenize(b"Hi <|im_end|>", special=True)
    assert continued(ours, PROMPT, 24) == continued(theirs, PROMPT, 24)


def test_the_real_model_dequantised_has_our_logits_in_llama_cpp(tmp_path):
    path = rewritten(tmp_path / "m.gguf", "F32")  # with F16 matrices llama.cpp rounds what they multiply, too
    theirs, model = opened(path), load(GgufWeights(path), torch.float32)
    assert furthest(theirs, model, theirs.tokenize(PROMPT.encode())) < 1e-3


@pytest.mark.parametrize("traits", TRAITS)
def test_llama_cpps_logits_from_our_file_are_ours(tmp_path, traits):
    model = random_model(TRAITS[traits])
    path = tmp_path / "m.gguf"
    write_gguf(InMemory(model), path, lambda n, _: "F32", {"tokenizer.ggml.model": "no_vocab"}, traits)
    tokens = torch.randint(0, 512, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    assert furthest(opened(path), model, tokens) < 1e-4
