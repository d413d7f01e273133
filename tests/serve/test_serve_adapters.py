"""An adapter is a model to clients: listed, asked for by its name, and never mixed with another."""

import numpy as np
import openai
import pytest
from adapters import merged, write_peft
from conftest import TOKENIZER, site
from small_world import random_llama

from puna.model.lora import read_adapter

MODEL = random_llama(TOKENIZER.size)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return read_adapter(write_peft(tmp_path_factory.mktemp("peft"), MODEL.config), MODEL.config)


@pytest.fixture(scope="module")
def adapted(adapter):
    with site(MODEL) as here:
        here.engine.add_adapter("llama-tuned", adapter)
        yield here


def said(client, model):
    completion = client.completions.create(model=model, prompt="The high", max_tokens=8, temperature=0)
    chat = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "x"}], max_tokens=8, temperature=0
    )
    vector = client.embeddings.create(model=model, input="The high")
    assert completion.model == chat.model == vector.model == model
    return completion.choices[0].text, chat.choices[0].message.content, vector.data[0].embedding


def test_a_client_that_asks_for_an_adapter_gets_what_the_merged_model_says(adapted, adapter):
    with site(merged(MODEL, adapter)) as other:
        wanted = said(other.client, "tiny")
    plain = said(adapted.client, "tiny")
    for _ in range(2):  # the second time from what was read before
        text, chat, vector = said(adapted.client, "llama-tuned")
        assert (text, chat) == wanted[:2] and text != plain[0]
        np.testing.assert_allclose(vector, wanted[2], atol=1e-5)
    assert said(adapted.client, "tiny")[:2] == plain[:2]


def test_adapters_are_listed_with_the_model_they_change(adapted):
    models = {model.id: model for model in adapted.client.models.list()}
    assert list(models) == ["tiny", "llama-tuned"]
    assert models["llama-tuned"].parent == adapted.client.models.retrieve("llama-tuned").parent == "tiny"
    with pytest.raises(openai.NotFoundError, match="'llama-tuned'"):
        said(adapted.client, "lama-tuned")
