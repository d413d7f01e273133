"""Text from the weights of a run, so that a person sees what the loss says. Off unless it is asked for.

It is the model's own definition with a memory, a token at a time: an engine is for those who serve.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from puna.errors import ConfigError, DataError, need
from puna.model.attend import Memory
from puna.model.transformer import Llama
from puna.tokenizer.tokenizer import Tokenizer
from puna.train.checkpoint import read
from puna.train.run import Run
from puna.train.step import Step

TOKENS = 48  # of a sample


def sampled(run: Run, steps: Iterator[Step]) -> Iterator[Step]:
    """The same steps; every `sample_every` of them, and after the last, the recipe's samples are told."""
    recipe = run.recipe
    alone = not (dist.is_initialized() and dist.get_world_size() > 1)
    problem = "samples while it trains need one process: weights lie on several ranks"
    need(alone or not recipe.samples, problem, "puna train sample RUN TEXT, beside it", ConfigError)
    for step in steps:
        done = run.position.step
        if done % recipe.sample_every == 0 or done == recipe.steps:
            for prompt in recipe.samples:
                text = go_on(run.model, run.tokenizer, prompt)
                run.record.note({"event": "sample", "step": done, "prompt": prompt, "text": text})
        yield step


@torch.no_grad()
def go_on(
    model: Llama,
    tokenizer: Tokenizer,
    prompt: str,
    tokens: int = TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """What follows a text: the best token each time, or one drawn by `temperature` and the seed."""
    begin = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    ids = [*([] if begin is None else [begin]), *tokenizer.encode(prompt)]
    most, where = model.config.max_position_embeddings, model.model.embed_tokens.weight.device
    problem = f"a text of {len(ids):,} tokens leaves no room in {most:,} positions"
    need(len(ids) < most, problem, "a shorter one", DataError)
    need(ids, "an empty text, and the vocabulary has no token that begins one", "a text", DataError)
    dice, memory, found = torch.Generator().manual_seed(seed), Memory(model.config), []
    new = torch.tensor(ids, device=where)  # (T,)
    for _ in range(min(tokens, most - len(ids))):
        positions = torch.arange(memory.length, memory.length + len(new), device=where)  # (T,)
        logits = model(new, positions, memory)[-1].cpu()  # (V,)
        memory.advance(len(new))
        token = _drawn(logits[: tokenizer.size], temperature, dice)
        if token in tokenizer.stop_ids or token == tokenizer.eos_id:
            break
        found.append(token)
        new = torch.tensor([token], device=where)  # (1,)
    return tokenizer.decode(found)


def _drawn(logits: torch.Tensor, temperature: float, dice: torch.Generator) -> int:
    if not temperature:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(0), 1, generator=dice))


def load_newest(run: Run) -> int:
    """The weights of the newest whole checkpoint into the run's model; after how many steps that was."""
    newest: Path | None = run.checkpoints.newest()
    need(
        newest, f"{run.folder}: no checkpoint yet", "wait for one: checkpoint_every in the recipe", DataError
    )
    weights = {name: tensor for name, tensor in run.optimizer.state().items() if name.startswith("weights.")}
    facts = read(newest, weights)
    run.optimizer.publish()
    run.model.model.config = run.recipe.shape(run.config, max(0, facts["step"] - 1))  # a stage may turn RoPE
    return facts["step"]
