"""POST /v1/embeddings with the real openai client."""

import base64

import numpy as np
import openai
import pytest
import torch
from conftest import TOKENIZER

from puna.model.attend import causal
from puna.serve.embeddings import to_length_1

TEXTS = ["The high", "grass é", "land of llamas " * 9]


def ids(text):
    return [TOKENIZER.bos_id, *TOKENIZER.encode(text)]


def embed(site, texts, **rest):
    return site.client.embeddings.create(model="tiny", input=texts, **rest)


def wanted(site, text, pooling="mean", size=None):
    tokens = torch.tensor(ids(text))
    with torch.inference_mode():
        states = site.engine.runner.model.model(tokens[None], torch.arange(len(tokens))[None], causal)[0]
    return to_length_1((states.mean(0) if pooling == "mean" else states[-1]).numpy()[:size])


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_are_the_models_own_of_length_1(tiny, pooling, encoding):
    reply = embed(tiny, TEXTS, encoding_format=encoding, extra_body={"pooling": pooling})
    assert [each.index for each in reply.data] == [0, 1, 2] and reply.model == "tiny"
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == sum(len(ids(text)) for text in TEXTS)
    for each, text in zip(reply.data, TEXTS, strict=True):
        vector = np.array(each.embedding)
        if encoding == "base64":
            vector = np.frombuffer(base64.b64decode(each.embedding), "<f4")
        np.testing.assert_allclose(vector, wanted(tiny, text, pooling), atol=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_all_forms_of_input_give_the_same_vectors(tiny):
    vectors = [embed(tiny, text).data[0].embedding for text in TEXTS]
    many = [each.embedding for each in embed(tiny, [ids(text) for text in TEXTS]).data]
    np.testing.assert_allclose(many, vectors, atol=1e-5)
    null = embed(tiny, TEXTS[0], extra_body={"pooling": None, "encoding_format": None, "dimensions": None})
    assert null.data[0].embedding == pytest.approx(vectors[0], abs=1e-5)
    assert embed(tiny, ids(TEXTS[0])).data[0].embedding == pytest.approx(vectors[0], abs=1e-5)


def test_a_shorter_vector_is_the_beginning_brought_to_length_1(tiny):
    vector = embed(tiny, TEXTS[0], dimensions=5).data[0].embedding
    np.testing.assert_allclose(vector, wanted(tiny, TEXTS[0], size=5), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input": ""}, "an empty text"),
        ({"input": ["a", ""]}, "an empty text"),
        ({"input": []}, "is needed"),
        ({"input": "a", "dimensions": 33}, "the model's vectors have 32"),
        ({"input": "a " * 3000}, "context"),
        ({"input": "a", "model": "other"}, "no model 'other'"),
        ({"input": "a", "extra_body": {"poling": "last"}}, "'pooling'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tiny, wrong, said):
    with pytest.raises(openai.APIStatusError, match=said) as caught:
        tiny.client.embeddings.create(**{"model": "tiny", **wrong})
    assert 400 <= caught.value.status_code < 500 and tiny.idle()


def test_a_direction_of_no_length_stays_so():
    assert to_length_1(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
