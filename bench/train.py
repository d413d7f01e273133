"""Training steps against transformers' Trainer: same shape, tokens, optimiser and threads, in turns, as JSON.

    python -m bench.train [--rounds 5] [--threads 2] [--shape 19m] [--no-levers]
    python -m bench.train --one puna-bf16         # one side alone, in this process

Each measurement is a process of its own: WARM steps, then TIMED of which the median counts. A ratio above 1
is in our favour. `levers` says what each choice of ours gives.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from bench.machine import facts

WARM, TIMED = 3, 8
SHAPES = {
    "19m": {"hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 2,
            "intermediate_size": 1024, "vocab_size": 8192, "max_position_embeddings": 512},
    "135m": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
             "intermediate_size": 1536, "vocab_size": 49152, "max_position_embeddings": 512},
}  # fmt: skip
BATCH = {"19m": (4, 512), "135m": (2, 512)}  # sequences, tokens in each
SIDES = ("trainer-fp32", "trainer-bf16", "like-nanochat", "puna-fp32", "puna-bf16")
LEVERS = (
    "compiled",
    "builtin-attention",
    "naive-loss",
    "freed-memory",
)  # puna-bf16 with or without one thing


def one(side: str, shape: str) -> list[float]:
    """Seconds of each timed step."""
    kinds = {"trainer": trainer, "like": nanochat, "puna": ours}
    return kinds[side.split("-")[0]](side, shape)


def tokens(number: int, shape: str):
    """(B, T) the tokens of step `number`: every side reads these."""
    import torch

    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, SHAPES[shape]["vocab_size"], BATCH[shape], generator=generator)


def trainer(side: str, shape: str) -> list[float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    rope = {"rope_theta": 5e5, "rope_type": "default"}
    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=shape == "135m", rope_parameters=rope)
    rows = BATCH[shape][0]

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return rows * (WARM + TIMED)

        def __getitem__(self, index: int) -> dict:
            row = tokens(index // rows, shape)[index % rows]
            return {"input_ids": row, "labels": row}

    marks = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kept):
            marks.append(time.perf_counter())

        def on_train_end(self, *args, **kept):
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=rows, max_steps=WARM + TIMED, learning_rate=1e-3,
            bf16=side.endswith("bf16"), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
            logging_steps=10_000, weight_decay=0.1, adam_beta2=0.95, lr_scheduler_type="constant",
        )  # fmt: skip
        Trainer(LlamaForCausalLM(config), arguments, train_dataset=Data(), callbacks=[Clock()]).train()
    return [b - a for a, b in itertools.pairwise(marks)][WARM:]


def of_nanochat(shape: str):
    from bench.like_nanochat import LikeNanochat

    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    return LikeNanochat(*(SHAPES[shape][size] for size in sizes), BATCH[shape][1])


def nanochat(side: str, shape: str) -> list[float]:
    import torch

    model, seconds = of_nanochat(shape), []
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    model = torch.compile(model, dynamic=False)
    for number in range(WARM + TIMED):
        begun = time.perf_counter()
        read = tokens(number, shape)
        targets = read.roll(-1, 1)
        targets[:, -1] = -1
        model(read, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    return seconds[WARM:]


def model_of(shape: str):
    """Our model of this shape, its first weights drawn."""
    from puna.model.config import ModelConfig
    from puna.model.init import initialize
    from puna.model.transformer import Llama

    config = ModelConfig(**SHAPES[shape], tie_word_embeddings=shape == "135m")
    model = Llama(config).requires_grad_(True)
    initialize(model, config, 0)
    return model


def batch(number: int, shape: str) -> list:
    """Step `number` as our loop reads it, each row one document."""
    import torch

    from puna.train.batches import Part

    ids = tokens(number, shape)
    B, T = ids.shape
    weights = torch.ones(B, T)
    weights[:, -1] = 0
    owner = torch.arange(B)[:, None].expand(B, T)
    return [Part(ids, ids.roll(-1, 1), torch.arange(T).expand(B, T), owner, weights)]


def ours(side: str, shape: str) -> list[float]:
    import torch

    from puna import hardware
    from puna.model import attend
    from puna.parallel.compile import compiled
    from puna.train import batches, loss
    from puna.train.health import Health, HealthSettings
    from puna.train.optimizer import Optimizer, OptimizerSettings
    from puna.train.step import Position, in_turn, steps

    if "builtin-attention" in side:
        attend.by_products = lambda k: False
    if "naive-loss" in side:
        batches.chunked_cross_entropy = lambda hidden, head, *more: loss.cross_entropy(
            hidden.flatten(0, -2), head, *(x.flatten() for x in more[:2])
        )
    if "freed-memory" not in side:
        hardware.keep_memory()
    model = model_of(shape)
    if "compiled" in side:
        for block in model.model.layers.values():
            compiled(block)
    optimizer = Optimizer([model], OptimizerSettings(), torch.bfloat16 if "bf16" in side else torch.float32)
    accumulate, health = in_turn(model, batches.next_token_loss), Health(HealthSettings())
    read = functools.partial(batch, shape=shape)
    told = steps(accumulate, optimizer, read, lambda _: 1e-3, health, Position(), WARM + TIMED)
    return [step.seconds for step in told][WARM:]


def apart(side: str, shape: str, threads: int) -> list[float]:
    """The same in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "bench.train",
        "--one",
        side,
        "--shape",
        shape,
        "--threads",
        str(threads),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="19m")
    parser.add_argument("--no-levers", action="store_true", help="only the sides, not what each choice gives")
    parser.add_argument("--one")
    asked = parser.parse_args()
    if asked.one:
        import torch

        os.environ["HF_HUB_OFFLINE"] = "1"
        torch.set_num_threads(asked.threads)
        print(json.dumps(one(asked.one, asked.shape)))
        return
    sides = (*SIDES, *(f"puna-bf16-{lever}" for lever in LEVERS if not asked.no_levers))
    medians: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(asked.rounds):
        for side in sides:
            medians[side].append(statistics.median(apart(side, asked.shape, asked.threads)))
            print(side, round(medians[side][-1], 3), file=sys.stderr, flush=True)
    found = {"machine": facts("torch", "transformers", "accelerate"), "shape": asked.shape} | told(
        medians, asked.shape
    )
    print(json.dumps(found, indent=1))


def told(medians: dict[str, list[float]], shape: str) -> dict:
    """Rates, each side's over both trainers', and ours as a share of what the machine multiplies."""
    from puna.model.config import ModelConfig
    from puna.plan.counts import training_flops
    from puna.train.speed import measured_peak

    (B, T), config = BATCH[shape], ModelConfig(**SHAPES[shape])
    seconds = {side: {"best": min(s), "median": statistics.median(s)} for side, s in medians.items()}
    peak, what = measured_peak("cpu", "bf16")
    cost = dict.fromkeys(seconds, training_flops(config, T) * B * T)
    cost["like-nanochat"] = of_nanochat(shape).flops(T) * B * T
    rate = {kind: cost["like-nanochat"] / s for kind, s in seconds["like-nanochat"].items()}
    over = {
        peer: {
            side: {kind: round(seconds[peer][kind] / s[kind], 3) for kind in s} for side, s in seconds.items()
        }
        for peer in ("trainer-bf16", "trainer-fp32")
    }
    return {
        "tokens_s": {
            side: {kind: round(B * T / value) for kind, value in s.items()} for side, s in seconds.items()
        },
        "over": over,
        "peak_flops": {"value": round(peak), "of": what},
        "share_of_peak": {
            side: round(cost[side] / s["best"] / peak, 3) for side, s in seconds.items() if "bf16" in side
        },
        "flop_s_over_nanochat": {
            side: {kind: round(cost[side] / s[kind] / rate[kind], 3) for kind in s}
            for side, s in seconds.items()
        },
    }


if __name__ == "__main__":
    main()
