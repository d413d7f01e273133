"""PEFT's folders: what they mean is kept to the letter, or refused with a reason."""

import json
import math

import numpy as np
import pytest
import torch
from adapters import merged, write_peft
from safetensors.torch import load_file, save_file
from small_world import random_llama

from puna.errors import PunaError
from puna.model.attend import causal
from puna.model.lora import read_adapter, to_fp32

MODEL = random_llama(90)
CONFIG = MODEL.config
QUERY = "model.layers.1.self_attn.q_proj"


def change(folder, settings=None, tensors=None):
    """Overwrite some settings, and some tensors; None takes one away."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(settings or {})}))
    path = folder / "adapter_model.safetensors"
    held = {**load_file(path), **(tensors or {})}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_numbers_are_the_files_in_every_kind(tmp_path, dtype):
    adapter = read_adapter(write_peft(tmp_path, CONFIG, ("q_proj", "down_proj"), dtype=dtype), CONFIG)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert len(adapter.parts) == 4 and len(stored) == 8
    for name, part in adapter.parts.items():
        for letter, half in (("A", part.down), ("B", part.up)):
            want = stored[f"base_model.model.{name}.lora_{letter}.weight"].float().numpy()
            np.testing.assert_array_equal(to_fp32(part.kind, half), want)


def test_halves_of_two_kinds_are_read_as_fp32(tmp_path):
    folder = write_peft(tmp_path, CONFIG)
    name = f"base_model.model.{QUERY}.lora_B.weight"
    half = load_file(folder / "adapter_model.safetensors")[name].bfloat16()
    change(folder, tensors={name: half})
    part = read_adapter(folder, CONFIG).parts[QUERY]
    assert part.kind == "F32" and part.up.dtype == np.float32
    np.testing.assert_array_equal(part.up, half.float().numpy())


def test_scales_and_ranks_follow_the_patterns(tmp_path):
    patterns = {
        "rank_pattern": {"q_proj": 2, r".*\.0\.mlp\.up_proj": 3},
        "alpha_pattern": {r"^model\.layers\.1.*": 5},
    }
    parts = read_adapter(write_peft(tmp_path / "a", CONFIG, r=8, **patterns), CONFIG).parts
    assert parts[QUERY].scale == 5 / 2 and parts[QUERY].down.shape[0] == 2
    assert (
        parts["model.layers.0.mlp.up_proj"].scale == 8 / 3
        and parts["model.layers.1.mlp.up_proj"].scale == 5 / 8
    )
    rooted = read_adapter(write_peft(tmp_path / "b", CONFIG, r=8, use_rslora=True), CONFIG).parts
    assert rooted[QUERY].scale == pytest.approx(8 / math.sqrt(8))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear"},
        {"target_modules": r"model\.layers\..*(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"},
        {
            "exclude_modules": ["lm_head"],
            "init_lora_weights": "gaussian",
            "lora_dropout": 0.1,
            "use_later": None,
        },
    ],
)
def test_all_ways_to_name_the_same_projections_mean_the_same(tmp_path, settings):
    folder = write_peft(tmp_path, CONFIG)
    before = set(read_adapter(folder, CONFIG).parts)
    change(folder, settings)
    assert set(read_adapter(folder, CONFIG).parts) == before and len(before) == 14


def test_one_layer_alone_may_be_changed(tmp_path):
    folder = write_peft(tmp_path, CONFIG, ("q_proj",))
    other = QUERY.replace("1", "0")
    change(
        folder,
        {"layers_to_transform": [1]},
        {f"base_model.model.{other}.lora_{half}.weight": None for half in "AB"},
    )
    assert set(read_adapter(folder, CONFIG).parts) == {QUERY}


REFUSED = [
    ({"peft_type": "IA3"}, {}, "peft_type"),
    ({"use_dora": True}, {}, "use_dora True cannot be kept to: DoRA also changes the length"),
    ({"fan_in_fan_out": True}, {}, "the other way round"),
    ({"bias": "all"}, {}, "bias"),
    ({"modules_to_save": ["lm_head"]}, {}, "replaces whole layers"),
    ({"trainable_token_indices": [1]}, {}, "changes the embedding"),
    ({"something_new": {"a": 1}}, {}, "something_new .* is not known here"),
    ({"init_lora_weights": "pissa_niter_4"}, {}, "changes the model's own weights"),
    ({"target_modules": "(q_proj"}, {}, "is no pattern"),
    ({"rank_pattern": {"q_proj": 0}}, {}, "rank_pattern"),
    ({"r": 5}, {}, r"lora_A is \(4, 32\), this model and adapter_config.json make it \(5, 32\)"),
    ({"target_modules": ["q_proj"]}, {}, "adapter_config.json does not name it"),
    ({}, {f"base_model.model.{QUERY}.lora_B.weight": None}, f"{QUERY}.lora_B is missing"),
    ({}, {"base_model.model.lm_head.lora_A.weight": torch.ones(4, 32)}, "it changes lm_head"),
    (
        {},
        {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 90)},
        "it changes the embedding",
    ),
    ({}, {f"base_model.model.{QUERY}.lora_magnitude_vector.weight": torch.ones(32)}, "DoRA also changes"),
    ({}, {"base_model.model.lm_head.weight": torch.ones(90, 32)}, "replaces whole layers"),
    (
        {},
        {f"base_model.model.{QUERY}.lora_A.weight": torch.ones(4, 32).double()},
        "is F64; only F32, F16, BF16",
    ),
    ({}, {f"base_model.model.{QUERY}.lora_A.weight": torch.ones(4, 33)}, r"lora_A is \(4, 33\)"),
]


@pytest.mark.parametrize(("settings", "tensors", "said"), REFUSED, ids=[said[:30] for *_, said in REFUSED])
def test_what_cannot_be_kept_to_is_refused_with_a_reason(tmp_path, settings, tensors, said):
    folder = write_peft(tmp_path, CONFIG)
    change(folder, settings, tensors)
    with pytest.raises(PunaError, match=said) as refused:
        read_adapter(folder, CONFIG)
    assert str(folder) in str(refused.value)


def test_a_folder_that_is_none_and_a_broken_file_say_where(tmp_path):
    with pytest.raises(PunaError, match="no such folder"):
        read_adapter(tmp_path / "none", CONFIG)
    with pytest.raises(PunaError, match=r"no adapter_config\.json"):
        read_adapter(tmp_path, CONFIG)
    folder = write_peft(tmp_path / "broken", CONFIG)
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PunaError, match="not a valid safetensors file"):
        read_adapter(folder, CONFIG)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "v_proj"], "use_rslora": True, "layers_to_transform": [1]},
        {
            "target_modules": r".*_proj",
            "rank_pattern": {"k_proj": 2},
            "alpha_pattern": {r"0\.mlp\.up_proj": 3},
        },
    ],
)
def test_what_peft_saves_means_what_peft_computes(tmp_path, settings):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **CONFIG.model_dump(include={"hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim",
                                         "num_key_value_heads", "intermediate_size", "vocab_size", "rms_norm_eps"}),
            rope_parameters={"rope_type": "default", "rope_theta": CONFIG.rope_theta},
        )
    )  # fmt: skip
    theirs.load_state_dict(MODEL.state_dict())
    torch.manual_seed(0)
    adapted = peft.get_peft_model(
        theirs, peft.LoraConfig(r=6, lora_alpha=9, init_lora_weights=False, **settings)
    ).eval()
    adapted.save_pretrained(tmp_path)
    ids = torch.randint(0, 90, (1, 20))
    with torch.inference_mode():
        want, plain = adapted(ids).logits[0], MODEL(ids, torch.arange(20)[None], causal)[0]
        got = merged(MODEL, read_adapter(tmp_path, CONFIG))(ids, torch.arange(20)[None], causal)[0]
    assert (want - plain).abs().max() > 0.1
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
