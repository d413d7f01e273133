"""Memory of real training steps on this CPU against the plan's formula, as JSON.

    python -m bench.plan_memory [--out bench/results/plan_memory.json]
    python -m bench.plan_memory --one '["19m", "bf16", 4, 512, 1, 1, "adamw"]'

Each configuration is a process of its own. Two are told: what torch's allocator gave out at most during the
second step (exact, by its profiler: weights, masters and states are added as they are), and the growth of the
process's resident memory over what it had before the model was made (coarse: the C library keeps what is
freed, oneDNN has buffers of its own). The plan is held to the first.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from bench.machine import facts

SMALL = {
    "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 1024, "vocab_size": 8192, "max_position_embeddings": 4096,
}  # fmt: skip
SHAPES = {
    "19m": SMALL,
    "19m-32k": SMALL | {"vocab_size": 32_768},
    "135m": {
        "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "intermediate_size": 1536, "vocab_size": 49_152, "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
# shape, dtype, sequences, tokens in each, parts of a batch, texts in a sequence, recompute, optimizer
CASES = (
    ("19m", "fp32", 4, 512, 1, 1, "none", "adamw"),
    ("19m", "bf16", 4, 512, 2, 1, "none", "adamw"),
    ("19m", "bf16", 8, 512, 1, 4, "none", "adamw"),
    ("19m", "bf16", 1, 4096, 1, 1, "none", "adamw"),
    ("19m", "bf16", 8, 512, 1, 1, "full", "adamw"),
    ("19m", "bf16", 1, 4096, 1, 1, "selective", "adamw"),
    ("19m", "bf16", 4, 512, 1, 1, "none", "muon"),
    ("19m-32k", "bf16", 4, 512, 1, 1, "none", "adamw"),
    ("135m", "bf16", 1, 512, 1, 1, "none", "adamw"),
    ("135m", "fp32", 1, 256, 1, 1, "none", "adamw"),
)


def one(case: list) -> dict:
    """Measured and planned bytes of one configuration, in this process."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from puna.model.config import ModelConfig
    from puna.model.init import initialize
    from puna.parallel.apply import build
    from puna.parallel.layout import Layout
    from puna.parallel.world import World
    from puna.plan.memory import Work, memory
    from puna.train.batches import Part, next_token_loss
    from puna.train.optimizer import Optimizer, OptimizerSettings
    from puna.train.step import in_turn

    shape, dtype, B, T, parts, texts, again, kind = case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config, layout = ModelConfig(**SHAPES[shape]), Layout(recompute=again)
    [model] = build(config, World(layout, alone=True), torch.float32)
    initialize(model, config, 0)
    compute = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    optimizer = Optimizer([model.requires_grad_(True)], OptimizerSettings(kind=kind), compute)
    ids = torch.randint(0, config.vocab_size, (B, T), generator=torch.Generator().manual_seed(0))
    owner = torch.arange(T) * texts // T + torch.arange(B)[:, None] * texts
    batch = [Part(ids, ids.roll(-1, 1), torch.arange(T).expand(B, T), owner, torch.ones(B, T))] * parts
    accumulate = in_turn(model, next_token_loss)

    def step() -> None:
        accumulate(batch, float(B * T * parts))
        optimizer.gather()
        optimizer.update(1e-3)

    step()
    resident = sum(tensor.nbytes for tensor in optimizer.state().values())
    resident += 0 if dtype == "fp32" else sum(weight.nbytes for weight in model.parameters())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    now = most = 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    work = Work(
        sequence=T, batch=B * parts, micro=B, dtype=dtype, optimizer=kind, device="cpu", text=T // texts
    )
    planned = memory(config, layout, work)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    measured = resident + most
    return {
        "case": case, "measured_bytes": measured, "planned_bytes": planned.total,
        "ratio": round(planned.total / measured, 4), "moment": planned.moment, "terms": planned.terms,
        "resident_growth_bytes": grown,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(json.loads(asked.one))))
        return
    rows = []
    for case in CASES:
        command = [sys.executable, "-m", "bench.plan_memory", "--one", json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps({"machine": facts("torch"), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
