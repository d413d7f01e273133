"""Training on one GPU against transformers' Trainer, in turns: tokens a second, MFU, memory, and what each
lever gives.

    python -m bench.train_gpu --out RESULTS.json   # everything, 20 to 30 minutes on an H100 or H200
    python -m bench.train_gpu --device cpu --tiny  # the same path on a toy shape: its numbers mean nothing

Each measurement is a process of its own: WARM steps, then TIMED, of which the median counts. MFU is printed
by the causal count of attention (the full one beside it) over the rate that the card's data sheet gives for
dense bf16, for fp8 too. Texts are made-up ids; no network is used. torch 2.11 to 2.13.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.machine import facts
from puna.model.config import HERD, ModelConfig

WARM, TIMED = 4, 8  # the first steps compile
PEAK = {"H100 PCIe": 756e12, "H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}  # dense bf16, by data sheets
SHAPES = {  # name: (model, sequences at once, tokens in each)
    "1b": (HERD["3.2-1b"], 1, 8192),
    "8b-slice": (HERD["3-8b"].model_copy(update={"num_hidden_layers": 4}), 1, 8192),
    "tiny": (ModelConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                         intermediate_size=128, vocab_size=512, max_position_embeddings=128), 2, 128),
}  # fmt: skip


@dataclass(frozen=True)
class Levers:
    compile: bool = True
    loss: str = "fused"  # or the chunked definition, or naive: all logits at once
    attention: str = "auto"  # torch's choice; or cudnn, flash
    recompute: str = "none"
    dtype: str = "bf16"  # or fp8
    text: int = 0  # tokens of a text on average; 0: one fills the sequence


PEERS = {"trainer": False, "trainer-compiled": True}  # transformers' Trainer, its torch_compile
SIDES = {
    "puna": Levers(),
    "puna-eager": Levers(compile=False),
    "puna-definition-loss": Levers(loss="definition"),
    "puna-naive-loss": Levers(loss="naive"),
    "puna-flash": Levers(attention="flash"),
    "puna-cudnn": Levers(attention="cudnn"),
    "puna-selective": Levers(recompute="selective"),
    "puna-full": Levers(recompute="full"),
    "puna-texts-of-1000": Levers(text=1000),
    "puna-fp8": Levers(dtype="fp8"),
}


def measure(side: str, shape: str, device: str, trace: Path | None = None) -> dict:
    """Seconds of each timed step, its loss, and the most memory, of one side in this process."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if side in PEERS:
        seconds, losses = trainer(PEERS[side], shape, device)
    else:
        seconds, losses = ours(SIDES[side], shape, device, trace)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {"seconds": seconds[WARM:], "losses": losses, "peak_bytes": peak, "device": name}


def ids(number: int, shape: str):
    """(B, T) the tokens of step `number`, learnable: each follows from the one before, but for a few."""
    import torch

    config, B, T = SHAPES[shape]
    dice = torch.Generator().manual_seed(number)
    row = torch.randint(0, config.vocab_size, (B, 1), generator=dice) + 7 * torch.arange(T)
    noise = torch.rand(B, T, generator=dice) < 0.1
    drawn = torch.randint(0, config.vocab_size, (B, T), generator=dice)
    return torch.where(noise, drawn, row % config.vocab_size)


def trainer(compiled: bool, shape: str, device: str) -> tuple[list[float], list[float]]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    c, rows, _ = SHAPES[shape]
    same = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
            "intermediate_size", "vocab_size", "max_position_embeddings", "tie_word_embeddings")  # fmt: skip
    config = LlamaConfig(
        **{name: getattr(c, name) for name in same},
        rope_parameters={"rope_theta": c.rope_theta, "rope_type": "default"},
        attn_implementation="sdpa",
        use_cache=False,
    )

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return rows * (WARM + TIMED)

        def __getitem__(self, index: int) -> dict:
            row = ids(index // rows, shape)[index % rows]
            return {"input_ids": row, "labels": row}

    marks, losses = [], []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kept):
            wait(device)
            marks.append(time.perf_counter())

        def on_train_end(self, *args, **kept):
            wait(device)
            marks.append(time.perf_counter())

        def on_log(self, arguments, state, control, logs=None, **kept):
            losses.extend([logs["loss"]] if "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=rows, max_steps=WARM + TIMED, learning_rate=1e-4,
            bf16=True, use_cpu=device == "cpu", report_to=[], save_strategy="no", disable_tqdm=True,
            logging_steps=WARM + TIMED, weight_decay=0.1, adam_beta2=0.95, lr_scheduler_type="constant",
            optim="adamw_torch_fused", torch_compile=compiled, dataloader_pin_memory=device == "cuda",
        )  # fmt: skip
        with torch.device(device):
            model = LlamaForCausalLM(config)
        Trainer(model, arguments, train_dataset=Data(), callbacks=[Clock()]).train()
    return [b - a for a, b in itertools.pairwise(marks)], losses


def ours(levers: Levers, shape: str, device: str, trace: Path | None) -> tuple[list[float], list[float]]:
    import torch

    from puna.parallel.apply import build
    from puna.parallel.fp8 import eight_bits
    from puna.parallel.layout import Layout
    from puna.parallel.world import World
    from puna.train.batches import next_token_loss
    from puna.train.health import Health, HealthSettings
    from puna.train.optimizer import Optimizer, OptimizerSettings
    from puna.train.step import Position, in_turn, steps

    config = SHAPES[shape][0]
    world = World(Layout(compile=levers.compile and device == "cuda", recompute=levers.recompute), device)
    model = build(config, world, torch.bfloat16)[0].requires_grad_(True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.02) if weight.ndim > 1 else weight.fill_(1)
    if levers.dtype == "fp8":
        eight_bits(model, world=world)
    optimizer = Optimizer([model], OptimizerSettings(), torch.bfloat16)
    told = steps(
        in_turn(model, next_token_loss), optimizer, lambda number: parts(number, shape, levers.text, device),
        lambda _: 1e-4, Health(HealthSettings()), Position(), WARM + TIMED,
    )  # fmt: skip
    seconds, losses = [], []
    with pulled(levers), traced(trace) if trace else nullcontext():
        wait(device)
        start = time.perf_counter()
        for step in told:
            wait(device)
            now = time.perf_counter()
            seconds.append(now - start)
            losses.append(step.loss)
            start = now
    return seconds, losses


def parts(number: int, shape: str, text: int, device: str) -> list:
    """Batch `number` as the loop reads it; with `text` each row packs texts of lengths around that."""
    import torch

    from puna.train.batches import Part

    tokens = ids(number, shape)
    B, T = tokens.shape
    dice, place = torch.Generator().manual_seed(number), torch.arange(T).expand(B, T)
    begins = torch.rand(B, T, generator=dice) < (1 / text if text else 0)
    begins[:, 0] = True
    owner, start = (
        begins.long().flatten().cumsum(0).view(B, T),
        torch.where(begins, place, 0).cummax(1).values,
    )
    weights = torch.ones(B, T)
    weights[:, :-1] = (owner[:, 1:] == owner[:, :-1]).float()
    weights[:, -1] = 0
    columns = (tokens, tokens.roll(-1, 1), place - start, owner, weights)
    return [Part(*(column.to(device) for column in columns))]


@contextmanager
def pulled(levers: Levers) -> Iterator[None]:
    """The levers that are not arguments of anything: the loss, and what of torch's attentions is used."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from puna.kernels.gpu.cross_entropy import definition
    from puna.train import batches, loss

    kept = batches.chunked_cross_entropy, loss.choose
    if levers.loss == "naive":
        batches.chunked_cross_entropy = loss.cross_entropy
    if levers.loss == "definition":
        loss.choose = lambda device: (definition, "asked for")
    backend = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}.get(levers.attention)
    try:
        with sdpa_kernel(backend) if backend else nullcontext():
            yield
    finally:
        batches.chunked_cross_entropy, loss.choose = kept


@contextmanager
def traced(folder: Path) -> Iterator[None]:
    """A trace for Chrome, and a table of what took longest."""
    from torch.profiler import profile

    with profile() as watch:
        yield
    folder.mkdir(parents=True, exist_ok=True)
    watch.export_chrome_trace(str(folder / "trace.json"))
    (folder / "table.txt").write_text(watch.key_averages().table(row_limit=40, max_name_column_width=60))


def wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def flops(config: ModelConfig, sequence: int, count: str) -> float:
    """Of a token, forward and back: 6 for each weight it is multiplied with, and attention's."""
    heads = config.head_dim * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    layer = config.hidden_size * (heads + 3 * config.intermediate_size)
    matrices = config.num_hidden_layers * layer + config.vocab_size * config.hidden_size
    attention = {"causal": 6, "full": 12}[count] * config.num_hidden_layers * sequence
    return 6 * matrices + attention * config.num_attention_heads * config.head_dim


def summed(side: str, shape: str, found: list[dict]) -> dict:
    """What several measurements of one side say."""
    config, B, T = SHAPES[shape]
    medians = [statistics.median(one["seconds"]) for one in found]
    rate = B * T / statistics.median(medians)
    peak = next((rate for name, rate in PEAK.items() if name in found[0]["device"]), None)
    mfu = {
        count: round(rate * flops(config, T, count) / peak, 4) if peak else None
        for count in ("causal", "full")
    }
    held, plan = found[0]["peak_bytes"], planned(side, shape)
    return {"shape": shape, "side": side, "tokens_s": round(rate), "step_s": [round(m, 4) for m in medians],
            "mfu": mfu, "of_flops": peak, "device": found[0]["device"],
            "loss": round(found[0]["losses"][-1], 3), "peak_gib": held and round(held / 2**30, 2),
            "planned_gib": plan and round(plan / 2**30, 2)}  # fmt: skip


def planned(side: str, shape: str) -> int | None:
    """The bytes that `puna plan` foretells; it knows our side only."""
    try:
        from puna.parallel.layout import Layout
        from puna.plan.memory import Work, memory
    except ImportError:
        return None
    levers = SIDES.get(side)
    if levers is None or levers.loss != "fused":
        return None
    config, B, T = SHAPES[shape]
    layout = Layout(recompute=levers.recompute, compile=levers.compile)
    work = Work(sequence=T, batch=B, micro=B, dtype=levers.dtype, text=levers.text or None)
    return memory(config, layout, work).total


def apart(side: str, shape: str, device: str, trace: Path | None = None) -> dict | None:
    """A measurement in a process of its own; None, and the reason on stderr, where it could not be made."""
    command = [sys.executable, "-m", "bench.train_gpu", "--one", side, "--shape", shape, "--device", device]
    command += ["--trace", str(trace)] if trace else []
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{shape} {side} failed: {done.stderr.strip()[-600:]}", file=sys.stderr, flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: 1b and 8b-slice")
    parser.add_argument("--side", choices=[*PEERS, *SIDES], action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=2, help="of the peers and puna; each lever has one")
    parser.add_argument("--tiny", action="store_true", help="a toy shape")
    parser.add_argument("--trace", type=Path, help="a folder for a profiler's trace of puna")
    parser.add_argument("--out", type=Path, help="a file for the results")
    parser.add_argument("--one", choices=[*PEERS, *SIDES], help="this side alone, in this process")
    asked = parser.parse_args()
    shapes = asked.shape or (["tiny"] if asked.tiny else ["1b", "8b-slice"])
    if asked.one:
        print(json.dumps(measure(asked.one, shapes[0], asked.device, asked.trace)))
        return
    results = []
    for shape in shapes:
        sides = asked.side or [*PEERS, *SIDES]
        turns = [side for _ in range(asked.rounds) for side in sides if side in (*PEERS, "puna")]
        found: dict[str, list[dict]] = {side: [] for side in sides}
        for side in turns + [side for side in sides if side not in turns]:
            found[side] += filter(None, [apart(side, shape, asked.device)])
            if found[side]:
                print(json.dumps(summed(side, shape, found[side][-1:])), file=sys.stderr, flush=True)
        results += [summed(side, shape, made) for side, made in found.items() if made]
        if asked.trace:
            apart("puna", shape, asked.device, asked.trace / shape)
    levers = {name: asdict(side) for name, side in SIDES.items()}
    told = {"facts": facts("torch", "triton", "transformers"), "levers": levers, "results": results}
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
