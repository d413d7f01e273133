"""Muon is torch's own on one rank; factors and decay are of the weights they name; making room disturbs nothing."""

import pytest
import torch

from puna.errors import ConfigError
from puna.model.config import ModelConfig
from puna.model.init import initialize
from puna.model.transformer import Llama
from puna.train.muon import Muon, orthogonal
from puna.train.optimizer import Optimizer, OptimizerSettings

TINY = ModelConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                   intermediate_size=48, vocab_size=200)  # fmt: skip


def model():
    made = Llama(TINY)
    initialize(made, TINY, 0)
    return made


def gradients(optimizer, step):
    draw = torch.Generator().manual_seed(step)
    for weight in optimizer.weights.values():
        weight.grad = torch.randn(weight.shape, generator=draw).to(weight.dtype)
    optimizer.gather()


def test_muon_is_torchs_own():
    draw = torch.Generator().manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))
                     for shape in ((24, 40), (40, 24), (32, 32))] for _ in range(2))  # fmt: skip
    mine = Muon([{"params": ours, "weight_decay": 0.1}])
    own = torch.optim.Muon(theirs, lr=0.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            other.grad = one.grad.clone()
        for optimizer in (mine, own):
            optimizer.param_groups[0]["lr"] = 0.02
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            one, other, atol=2e-3, rtol=0
        )  # 16 bits in both, added up in another order


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_an_update_of_muon_moves_every_direction_alike(shape):
    values = torch.linalg.svdvals(
        orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(2)).double())
    )
    assert values.min() > 0.3 and values.max() < 1.3


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_weights_decay_and_move_by_the_factors_of_their_names(kind):
    settings = OptimizerSettings(kind=kind, decay_embeddings=False, muon_rate=2.0,
                                 rates={"embed_tokens": 0.5, "mlp": 3.0, "down_proj": 0.1})  # fmt: skip
    optimizer = Optimizer([model()], settings)
    names = {id(master): name for name, master in optimizer.masters.items()}
    found = {names[id(master)]: (group["factor"], group["weight_decay"])
             for part in optimizer.parts for group in part.param_groups for master in group["params"]}  # fmt: skip
    assert found.keys() == optimizer.masters.keys()
    twice = 2.0 if kind == "muon" else 1.0
    assert found["model.embed_tokens.weight"] == (0.5, 0.0) and found["lm_head.weight"] == (1.0, 0.0)
    assert found["model.layers.0.input_layernorm.weight"] == (1.0, 0.0)
    assert found["model.layers.1.self_attn.q_proj.weight"] == (twice, 0.1)
    assert found["model.layers.1.mlp.up_proj.weight"] == (3.0 * twice, 0.1)
    assert found["model.layers.1.mlp.down_proj.weight"][0] == pytest.approx(0.3 * twice)
    before = optimizer.masters["model.norm.weight"].detach().clone()
    gradients(optimizer, 0)
    optimizer.update(1e-3)
    moved = optimizer.masters["model.norm.weight"].detach() - before
    assert moved.abs().max() == pytest.approx(1e-3, rel=1e-3), "AdamW's first step is the rate itself"


def test_a_factor_for_what_the_model_has_not_is_refused():
    tied = TINY.model_copy(update={"tie_word_embeddings": True})
    with pytest.raises(ConfigError, match="no \\['lm_head'\\]"):
        Optimizer([Llama(tied)], OptimizerSettings(rates={"lm_head": 0.5}))
    with pytest.raises(ConfigError, match="rates"):
        OptimizerSettings.read({"rates": {"lm_haed": 0.5}}, "optimizer")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_room_for_a_checkpoint_disturbs_nothing_and_holds_all_of_it(kind):
    whole, again = (Optimizer([model()], OptimizerSettings(kind=kind), torch.bfloat16) for _ in range(2))
    for step in range(3):
        gradients(whole, step)
        whole.update(1e-2)
    before = {name: weight.detach().clone() for name, weight in (again.weights | again.masters).items()}
    again.prepare()
    assert all(torch.equal(before[name], weight) for name, weight in (again.weights | again.masters).items())
    assert all(master.grad is None for master in again.masters.values())
    state = again.state()
    assert state.keys() == whole.state().keys()
    for name, kept in whole.state().items():
        state[name].copy_(kept)
    again.publish()
    for optimizer in (whole, again):
        gradients(optimizer, 3)
        optimizer.update(1e-2)
    for name, kept in whole.state().items():
        assert torch.equal(again.state()[name], kept), name
