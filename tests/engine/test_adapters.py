"""An adapter beside the model gives what the merged model gives, whoever else is read in the same step."""

import threading
import time

import numpy as np
import pytest
import torch
from adapters import ALL, merged, write_peft
from drawn import Drawn, definition, off
from hash_runner import HashRunner, hash_config, logits_after
from small_world import ByteTokenizer, torch_engine

from puna.engine.engine import Engine
from puna.engine.native import NativeRunner
from puna.engine.request import Request, Sampling
from puna.engine.runner import TorchRunner
from puna.engine.step import Step
from puna.errors import PunaError, RequestError
from puna.kernels import llama
from puna.model.attend import causal
from puna.model.config import ModelConfig
from puna.model.lora import read_adapter
from puna.model.weights import load
from puna.quant.gguf import GgufWeights, write_gguf

native = pytest.mark.skipif(bool(llama.works_here()), reason=str(llama.works_here()))
SETS = llama.native().instructions() if not llama.works_here() else []
CONFIG = ModelConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                     intermediate_size=256, vocab_size=301, max_position_embeddings=512)  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 301, 300).tolist()
TOKENIZER = ByteTokenizer()
SHAPES = {
    "all": {"r": 4},
    "queries": {"targets": ("q_proj", "k_proj"), "r": 20, "use_rslora": True},
    "uneven": {"rank_pattern": {"down_proj": 33, "0.self_attn.q_proj": 1}, "alpha_pattern": {"up_proj": 1.5}},
    "half": {"dtype": torch.bfloat16, "r": 16, "targets": ALL[2:]},
}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Every one of SHAPES, by name."""
    place = tmp_path_factory.mktemp("adapters")
    return {
        name: read_adapter(write_peft(place / name, CONFIG, seed=seed, **given), CONFIG)
        for seed, (name, given) in enumerate(SHAPES.items())
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "q8.gguf"
    write_gguf(Drawn(CONFIG), path, lambda name, shape: "Q8_0", {}, "tiny")
    return GgufWeights(path)


def wanted(model, ids):
    with torch.inference_mode():
        return model(torch.tensor(ids)[None], torch.arange(len(ids))[None], causal)[0].numpy()


def read(runner, ids, number, cuts=(), pages=None):
    """Logits of all rows of one sequence, read in pieces that end at `cuts`."""
    pages, found, held = pages or list(range(runner.pages)), [], 0
    for end in (*cuts, len(ids)):
        step = Step(ids[held:end], [0, end - held], [held], [pages], list(range(end - held)), [], [number])
        found.append(runner.run(step).logits)
        held = end
    return np.concatenate(found)


@pytest.mark.parametrize("name", SHAPES)
def test_beside_the_model_is_as_good_as_merged_into_it(adapters, name):
    model = load(Drawn(CONFIG), torch.float32)
    runner = TorchRunner(model, 8, 32)
    runner.put_adapter(3, adapters[name])
    plain, changed = wanted(model, IDS[:60]), wanted(merged(model, adapters[name]), IDS[:60])
    assert off(plain, changed) > 1e-2, "the adapter does something"
    np.testing.assert_allclose(read(runner, IDS[:60], 3, (7, 50)), changed, atol=2e-5)
    np.testing.assert_allclose(read(runner, IDS[:60], 0), plain, atol=2e-5)


@native
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_native_step_reads_what_the_merged_model_reads(adapters, name, instructions):
    runner = NativeRunner(Drawn(CONFIG), 8, 2, instructions)
    runner.put_adapter(3, adapters[name])
    changed, _ = definition(merged(load(Drawn(CONFIG), torch.float32), adapters[name]), IDS[:60])
    got = read(runner, IDS[:60], 3, (7, 50))
    assert off(got, changed) < 5e-6
    np.testing.assert_allclose(got, changed, atol=0.02)


@native
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("cache", ["bf16", "int8"])
def test_adapters_and_none_in_one_step_are_each_as_alone_to_the_bit(stored, adapters, instructions, cache):
    numbers = {name: number for number, name in enumerate(adapters, 5)}
    runner = NativeRunner(stored, 60, 2, instructions, cache)
    before = read(runner, IDS, 0)
    for name, number in numbers.items():
        runner.put_adapter(number, adapters[name])
    turns = [0, 5, 5, 6, 0, 7, 8, 5]
    lengths = [40, 70, 1, 17, 33, 100, 2, 9]
    texts = [IDS[n * 20 :][:length] for n, length in enumerate(lengths)]
    alone = [
        read(runner, ids, number, (min(3, len(ids) - 1),) if len(ids) > 3 else ())
        for ids, number in zip(texts, turns, strict=True)
    ]
    starts = np.cumsum([0, *lengths]).tolist()
    pages = np.random.default_rng(1).permutation(60)[: 8 * 4].reshape(8, 4).tolist()
    step = Step(
        [id for ids in texts for id in ids], starts, [0] * 8, pages, list(range(starts[-1])), [], turns
    )
    np.testing.assert_array_equal(runner.run(step).logits, np.concatenate(alone))
    np.testing.assert_array_equal(read(runner, IDS, 0, (130,)), before)
    one = NativeRunner(stored, 60, 1, instructions, cache)
    one.put_adapter(1, adapters["uneven"])
    np.testing.assert_array_equal(read(one, texts[5], 1), alone[5])


@native
def test_an_adapter_that_is_gone_or_unknown_is_refused(stored, adapters):
    runner = NativeRunner(stored, 4, 1)
    runner.put_adapter(1, adapters["all"])
    there = read(runner, IDS[:5], 1)
    for wrong in ([2], [-1], [1, 1]):
        with pytest.raises(ValueError, match="adapter"):
            runner.run(Step(IDS[:5], [0, 5], [0], [[0]], [4], [], wrong))
    runner.put_adapter(2, adapters["half"])
    runner.drop_adapter(1)
    with pytest.raises(ValueError, match="not there"):
        read(runner, IDS[:5], 1)
    runner.put_adapter(3, adapters["all"])
    np.testing.assert_array_equal(read(runner, IDS[:5], 3), there)


def greedy(ids, **rest):
    return Request(ids=tuple(ids), **{"max_tokens": 6, "sampling": Sampling(temperature=0), **rest})


def written(stream):
    events = list(stream)
    assert events[-1].finish == "length", events[-1].problem
    return [id for event in events for id in event.ids], events[-1].usage.cached_tokens


def test_each_request_writes_what_its_merged_model_writes(adapters):
    model, tokenizer = load(Drawn(CONFIG), torch.float32), ByteTokenizer([f"w{n}" for n in range(40)])
    alone = {}
    for name in (None, "all", "queries"):
        own = merged(model, adapters[name]) if name else model
        with torch_engine(own, tokenizer) as engine:
            alone[name] = written(engine.submit(greedy(IDS[:40])))[0]
    assert len(set(map(tuple, alone.values()))) == 3
    with torch_engine(model, tokenizer) as engine:
        for name in ("all", "queries"):
            engine.add_adapter(name, adapters[name])
        streams = [(name, engine.submit(greedy(IDS[:40], adapter=name))) for name in [*alone] * 2]
        for name, stream in streams:
            assert written(stream)[0] == alone[name]
        for name in alone:
            assert written(engine.submit(greedy(IDS[:40], adapter=name))) == (alone[name], 39)


def alone_with(salt, ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits_after(ids, salt=salt)[: TOKENIZER.size].argmax()))
    return ids[-count:]


def test_what_was_read_with_an_adapter_is_found_with_it_alone():
    with Engine(HashRunner(100, 4), hash_config(200), TOKENIZER) as engine:
        for name, salt in (("one", 7), ("two", 9)):
            engine.add_adapter(name, salt)
        prompt = [id % 250 for id in IDS[:50]]
        for name, salt in ((None, 0), ("one", 7), ("two", 9)):
            assert written(engine.submit(greedy(prompt, adapter=name))) == (alone_with(salt, prompt, 6), 0)
            assert written(engine.submit(greedy(prompt, adapter=name))) == (alone_with(salt, prompt, 6), 49)


def test_an_adapter_stays_under_the_requests_that_have_it_and_then_goes_with_its_pages():
    seen = threading.Event()
    go_on = threading.Event()
    runner = HashRunner(40, 4, fails=lambda: seen.set() or not go_on.wait(20))
    with Engine(runner, hash_config(100), TOKENIZER) as engine:
        engine.add_adapter("one", 7)
        with pytest.raises(PunaError, match="'one' is there already"):
            engine.add_adapter("one", 8)
        stream = engine.submit(greedy([1, 2, 3, 4, 5, 6], adapter="one", max_tokens=20))
        assert seen.wait(20)
        removal = threading.Thread(target=engine.remove_adapter, args=("one",))
        removal.start()
        while not engine._orders:  # it came while the request runs
            time.sleep(0.001)
        go_on.set()
        removal.join(20)
        with pytest.raises(RequestError, match="no adapter 'one'") as refused:
            engine.submit(greedy([1], adapter="one"))
        assert refused.value.status == 404
        assert written(stream)[0] == alone_with(7, [1, 2, 3, 4, 5, 6], 20)
        account = engine.pages.account()
        assert runner.salts == {0: 0} and account.free == list(range(40)), "nobody can find what it read"
        engine.add_adapter("one", 8)
        assert written(engine.submit(greedy([1, 2, 3], adapter="one"))) == (alone_with(8, [1, 2, 3], 6), 0)
        with pytest.raises(RequestError, match="try: 'one'"):
            engine.submit(greedy([1], adapter="onne"))
        with pytest.raises(RequestError, match="no adapter 'two'"):
            engine.remove_adapter("two")
    with pytest.raises(RequestError, match="closed"):
        engine.add_adapter("late", 1)
