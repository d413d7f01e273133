"""The wrapper around tiktoken costs next to nothing, and starting costs no wait."""

import importlib.util
import time
from pathlib import Path

import pytest
from vocabularies import llama3, llama3_file, smollm2, smollm2_keys

from puna.tokenizer.formats import from_gguf, load


def bench():
    path = Path(__file__).parents[2] / "bench" / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("bench_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("make", [llama3, smollm2])
def test_encoding_takes_at_most_a_tenth_more_than_bare_tiktoken(make):
    module = bench()
    assert module.measure(make(), module.text_of(None), rounds=9)["ratio"]["best"] <= 1.10


@pytest.mark.slow
def test_loading_a_vocabulary_takes_a_small_part_of_the_two_seconds_until_chat_answers():
    keys = smollm2_keys()
    for seconds, make in ((0.25, lambda: from_gguf(keys)), (0.75, lambda: load(llama3_file()))):
        assert min(timed(make) for _ in range(5)) < seconds


def timed(make):
    start = time.perf_counter()
    make()
    return time.perf_counter() - start
