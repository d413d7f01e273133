"""Our logits are those of Meta's reference code and of transformers, on random weights with each model's
traits.
"""

import pytest
import torch

from puna.model import hf, meta
from puna.model.attend import Memory, causal
from puna.model.weights import load
from tests.meta_reference import reference_model
from tests.models import NANO, TRAITS, InMemory, random_model

FAR = [4_000, pytest.param(20_000, marks=pytest.mark.slow)]


@torch.inference_mode()
def logits_of(model, tokens):
    return model(tokens[None], torch.arange(len(tokens))[None], causal)[0]


@pytest.mark.parametrize("traits", TRAITS)
def test_logits_are_those_of_metas_reference_code(tmp_path, traits):
    model = random_model(TRAITS[traits])
    meta.write_folder(InMemory(model), tmp_path, torch.float32)
    theirs = reference_model(tmp_path, longest=256)
    tokens = torch.randint(0, NANO.vocab_size, (200,), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits_of(model, tokens), theirs(tokens[None], 0)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("traits", ["3-8b", "3.1-8b", "3.2-1b"])
@torch.inference_mode()
def test_logits_are_metas_at_far_positions_too(tmp_path, traits, far):
    config = TRAITS[traits].model_copy(update={"max_position_embeddings": far, "num_hidden_layers": 1})
    model = random_model(config)
    meta.write_folder(InMemory(model), tmp_path, torch.float32)
    theirs = reference_model(tmp_path, longest=far)
    tokens = torch.randint(0, config.vocab_size, (far,), generator=torch.Generator().manual_seed(1))
    memory = Memory(config)
    for start in range(0, far, 500):
        here = tokens[start : start + 500]
        ours = model(here, torch.arange(start, start + len(here)), memory)
        memory.advance(len(here))
        torch.testing.assert_close(ours, theirs(here[None], start)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("traits", TRAITS)
def test_transformers_loads_what_we_write_and_gives_our_logits(tmp_path, traits):
    transformers = pytest.importorskip("transformers")
    model = random_model(TRAITS[traits])
    hf.write_folder(InMemory(model), tmp_path, shard_bytes=100_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = torch.randint(0, NANO.vocab_size, (100,), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        want = theirs(tokens[None]).logits[0]
    torch.testing.assert_close(logits_of(model, tokens), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("traits", TRAITS)
def test_we_load_what_transformers_writes(tmp_path, traits):
    transformers = pytest.importorskip("transformers")
    c = TRAITS[traits]
    rope = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_scaling:
        rope.update(c.rope_scaling.model_dump())
    values = c.model_dump(exclude={"rope_scaling", "rope_theta"})
    torch.manual_seed(3)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values, rope_parameters=rope)).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    weights = hf.HFWeights(tmp_path)
    assert weights.config == c
    tokens = torch.randint(0, c.vocab_size, (100,), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        want = theirs(tokens[None]).logits[0]
    torch.testing.assert_close(logits_of(load(weights, torch.float32), tokens), want, atol=1e-5, rtol=0)
