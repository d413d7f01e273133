"""The native runner reads what the torch model reads, for every kind of weights and however the rows are cut."""

import numpy as np
import pytest
import torch
from drawn import Drawn, definition, off
from small_world import ByteTokenizer

from puna import log
from puna.engine.engine import Engine
from puna.engine.load import open_runner
from puna.engine.native import PAGE, NativeRunner, bytes_per_page, works_for
from puna.engine.request import Request
from puna.engine.step import Step
from puna.errors import HardwareError, PunaError
from puna.kernels import llama
from puna.model import frequencies, rope
from puna.model.config import HERD, ModelConfig, RopeScaling
from puna.quant.gguf import GgufWeights, write_gguf

if reason := llama.works_here():
    pytest.skip(reason, allow_module_level=True)

CONFIG = ModelConfig(hidden_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=64,
                     intermediate_size=512, vocab_size=1001, max_position_embeddings=2048)  # fmt: skip
SCALED = CONFIG.model_copy(
    update={"rope_scaling": RopeScaling(factor=8.0), "tie_word_embeddings": True, "head_dim": 48}
)
WIDE = CONFIG.model_copy(update={"head_dim": 256, "num_attention_heads": 9, "num_key_value_heads": 1})
IDS = np.random.default_rng(0).integers(0, 1001, 700).tolist()
CACHES = "bf16", "int8"
PROMPTS = tuple(IDS[:520]), tuple(IDS[100:133])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A GGUF of these weights in one kind."""

    def written(kind, config=CONFIG):
        path = tmp_path_factory.mktemp("native") / f"{kind}.gguf"
        write_gguf(Drawn(config), path, lambda name, shape: kind, {}, "tiny")
        return GgufWeights(path)

    return written


def read(runner, ids, pages=None, cuts=()):
    """Logits of all rows, read in pieces that end at `cuts`."""
    pages, found, held = pages or list(range(runner.pages)), [], 0
    for end in (*cuts, len(ids)):
        step = Step(ids[held:end], [0, end - held], [held], [pages], list(range(end - held)))
        found.append(runner.run(step).logits)
        held = end
    return np.concatenate(found)


@pytest.mark.parametrize("instructions", llama.native().instructions())
@pytest.mark.parametrize("config", [CONFIG, SCALED, WIDE], ids=["plain", "scaled", "wide"])
@pytest.mark.parametrize("cache", CACHES)
def test_plain_weights_give_the_logits_of_the_torch_model(config, instructions, cache):
    weights = Drawn(config)
    runner = NativeRunner(weights, 3, 2, instructions, cache)
    got, (want, _) = read(runner, IDS[:70]), definition(weights, IDS[:70], cache)
    np.testing.assert_allclose(got, want, atol=0.02)
    assert off(got, want) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_folder_in_16_bits_is_read_without_loss(dtype):
    weights = Drawn(CONFIG, dtype)
    assert off(read(NativeRunner(weights, 2, 1), IDS[:40]), definition(weights, IDS[:40])[0]) < 1e-5


@pytest.mark.parametrize("kind", [*llama.PACKED, "Q3_K", "IQ4_XS"])
def test_every_kind_is_as_near_as_inputs_in_eight_bits_allow(stored, kind):
    weights = stored(kind)
    got, (want, _) = read(NativeRunner(weights, 2, 2), IDS[:50]), definition(weights, IDS[:50])
    assert off(got, want) < (1e-5 if kind in ("F32", "F16", "BF16") else 2e-3)


@pytest.mark.parametrize("instructions", llama.native().instructions())
@pytest.mark.parametrize("cache", CACHES)
def test_a_row_is_the_same_to_the_bit_however_it_is_read(stored, instructions, cache):
    weights = stored("Q4_K")
    runner = NativeRunner(weights, 60, 2, instructions, cache)
    whole = read(runner, IDS, list(range(22)))  # 700 positions: two pieces of attention
    cuts = (1, 2, 17, 31, 32, 33, 100, 355, 511, 512, 513, 514, 699)
    pages = np.random.default_rng(1).permutation(np.arange(22, 44)).tolist()
    np.testing.assert_array_equal(read(runner, IDS, pages, cuts), whole)
    other = IDS[::-1][:40]
    alone = read(runner, other, list(range(44, 46)))
    together = Step(IDS[600:] + other, [0, 100, 140], [600, 0], [list(range(22)), [47, 46]], list(range(140)))
    np.testing.assert_array_equal(runner.run(together).logits, np.concatenate((whole[600:], alone)))
    one = NativeRunner(weights, 22, 1, instructions, cache)
    np.testing.assert_array_equal(read(one, IDS, None, (650,)), whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_hidden_states_are_those_of_the_torch_model_and_need_no_logits(threads):
    weights = Drawn(SCALED)
    runner = NativeRunner(weights, 3, threads)
    rows = [0, 3, 4, 69]
    hidden = runner.run(Step(IDS[:70], [0, 70], [0], [[2, 0, 1]], [69], rows))
    np.testing.assert_allclose(hidden.hidden, definition(weights, IDS[:70])[1][rows], atol=0.02)
    np.testing.assert_array_equal(hidden.logits, read(runner, IDS[:70])[69:])
    alone = runner.run(Step(IDS[:70], [0, 70], [0], [[0, 1, 2]], [], [69]))
    np.testing.assert_array_equal(alone.hidden, hidden.hidden[3:])


@pytest.mark.parametrize("cache", CACHES)
def test_a_copied_page_is_read_like_its_source(stored, cache):
    runner = NativeRunner(stored("Q8_0"), 6, 2, cache=cache)
    whole = read(runner, IDS[:50], [0, 1])
    runner.copy(1, 4)
    read(runner, IDS[100:150], [5, 1])  # writes over the source
    again = runner.run(Step(IDS[45:50], [0, 5], [45], [[0, 4]], list(range(5)))).logits
    np.testing.assert_array_equal(again, whole[45:])


def test_vectors_of_texts_are_the_same_to_the_bit_however_they_are_cut_and_whatever_was_read(stored):
    weights, found = stored("Q4_K"), {}
    for rows, seen in ((512, 0), (40, 300), (17, 520)):
        runner = NativeRunner(weights, 60, 1)
        with Engine(
            runner, CONFIG, ByteTokenizer([f"w{n}" for n in range(740)]), rows=rows, together=4
        ) as engine:
            assert seen == 0 or list(engine.submit(Request(ids=tuple(IDS[:seen]), max_tokens=1)))
            for embed in ("mean", "last"):
                streams = [engine.submit(Request(ids=ids, embed=embed, max_tokens=0)) for ids in PROMPTS]
                vectors = [list(stream)[-1] for stream in streams]
                for ids, event in zip(PROMPTS, vectors, strict=True):
                    first = found.setdefault((embed, ids), event.embedding)
                    np.testing.assert_array_equal(event.embedding, first)
            assert vectors[0].usage.cached_tokens > 500


def test_what_is_out_of_bounds_is_refused_and_harms_nothing(stored):
    runner = NativeRunner(stored("Q4_0"), 2, 1)
    before = read(runner, IDS[:20])
    good = {"tokens": [1, 2], "starts": [0, 2], "held": [20], "pages": [[0]], "wanted": [1]}
    for wrong, problem in (({"tokens": [1, 1001]}, "outside the vocabulary"), ({"pages": [[2]]}, "outside the cache"),
                           ({"held": [31]}, "without room"), ({"wanted": [2]}, "outside the batch"), ({"hidden": [2]}, "outside the batch"),
                           ({"starts": [0, 1]}, "cover the rows"), ({"held": [-1]}, "without rows")):  # fmt: skip
        with pytest.raises(ValueError, match=problem):
            runner.run(Step(**(good | wrong)))
    with pytest.raises(ValueError, match="outside the cache"):
        runner.copy(0, 2)
    np.testing.assert_array_equal(read(runner, IDS[:20]), before)


def test_a_model_of_odd_widths_says_why_it_has_no_native_step():
    odd = CONFIG.model_copy(update={"intermediate_size": 500})
    assert works_for(CONFIG) is None and "intermediate_size 500" in works_for(odd)
    with pytest.raises(HardwareError, match="not a multiple of 16"):
        NativeRunner(Drawn(odd), 2, 1)
    broad = CONFIG.model_copy(update={"head_dim": 528})
    assert works_for(broad) is None and "head_dim 528" in works_for(broad, "int8")


def test_a_cache_that_cannot_be_had_is_refused_with_what_to_try():
    with pytest.raises(PunaError, match="'int4' is not one of bf16, int8"):
        open_runner(Drawn(CONFIG), "auto", 1, 64, "int4")
    with pytest.raises(PunaError, match=r"dtype f32 was asked for\n  try: --dtype auto, or --cache bf16"):
        open_runner(Drawn(CONFIG), "f32", 1, 64, "int8")
    odd = CONFIG.model_copy(update={"intermediate_size": 500})
    with pytest.raises(HardwareError, match=r"needs the native step, and .*\n  try: --cache bf16"):
        open_runner(Drawn(odd), "auto", 1, 64, "int8")


def test_the_budget_counts_what_a_cache_takes():
    for cache, position in (("bf16", 2 * 64), ("int8", 64 + 4)):
        said = []
        with log.listening(said.append):
            NativeRunner(Drawn(CONFIG), 3, 1, cache=cache)
        assert bytes_per_page(CONFIG, cache) == 2 * PAGE * 2 * 2 * position
        told = {
            "event": "cache",
            "kept_in": cache,
            "positions": 3 * PAGE,
            "bytes": 3 * bytes_per_page(CONFIG, cache),
        }
        assert told.items() <= said[-1].items()


def test_frequencies_without_torch_are_those_of_the_definition():
    linear = RopeScaling(rope_type="linear", factor=4.0)
    for config in (*HERD.values(), SCALED, CONFIG.model_copy(update={"rope_scaling": linear})):
        want = rope.frequencies(config).numpy()
        np.testing.assert_allclose(frequencies.frequencies(config), want, rtol=2e-6)
