"""A layout that cannot be is refused, and the reason is said."""

import pytest
from parallel.parity import CONFIG

from puna.errors import ConfigError
from puna.parallel.layout import Layout


@pytest.mark.parametrize(
    "layout, config, sequence, batch, reason",
    [
        ({"tensor": 4}, {}, 64, 8, "tensor = 4 does not divide 2 key-value heads"),
        ({"tensor": 2}, {"intermediate_size": 129}, 64, 8, "does not divide the hidden width 129"),
        ({"tensor": 2}, {"vocab_size": 321}, 64, 8, "does not divide 321 words"),
        ({"tensor": 2}, {}, 63, 8, "sequences of 63 tokens do not fall into 2 pieces"),
        ({"replicate": 2, "shard": 2}, {}, 64, 6, "a batch of 6 sequences does not fall into 4 shares"),
        ({"shard": 4, "reshard": 3}, {}, 64, 8, "reshard = 3 does not divide the 4 ranks"),
        ({"pipeline": 2, "schedule": "zbv", "compile": True}, {}, 64, 8, "zbv takes the backward pass apart"),
        ({"context": 2, "tensor": 2}, {}, 60, 8, "sequences of 60 tokens do not fall into 8 pieces"),
        ({"shard": 4, "tensor": 2, "reshard": 2}, {}, 64, 8, "does not go with tensor or pipeline"),
        ({"reshard": 2}, {}, 64, 8, "reshard = 2 does not divide the 1 ranks"),
    ],
)
def test_what_cannot_be_is_refused(layout, config, sequence, batch, reason):
    with pytest.raises(ConfigError, match=reason):
        Layout(**layout).check(CONFIG.model_copy(update=config), sequence, batch, 2)


@pytest.mark.parametrize(
    "layout",
    [
        {"tensor": 2, "shard": 2, "replicate": 2, "recompute": "selective", "compile": True},
        {"shard": 4, "reshard": 2},
        {"tensor": 2, "loss_parallel": False},
    ],
    ids=str,
)
def test_what_can_be_is_not(layout):
    Layout(**layout).check(CONFIG, 64, 8, 2)
