"""A model's tensors on disk, read one at a time: what every layout offers, how a model is filled."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from puna import log
from puna.errors import WeightsError, need
from puna.model.config import ModelConfig
from puna.model.names import shapes

if TYPE_CHECKING:
    import torch  # brought by who fills a model: what a file holds can be told without it

    from puna.model.transformer import Llama


class Weights(Protocol):
    """The tensors of one model by Hugging Face name, in Hugging Face layout (half-split RoPE), never all in
    memory.
    """

    config: ModelConfig
    where: str  # for messages

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def kind(self, name: str) -> str:
        """How the file stores it: F32, F16, BF16, Q4_K, ..."""

    def read(self, name: str) -> "torch.Tensor":
        """One tensor, dense: as stored for F32, F16 and BF16, dequantised to fp32 otherwise."""

    def rows(self, name: str, first: int, last: int) -> "torch.Tensor":
        """Rows first .. last - 1 of the same; where the file allows it, no others are read."""


def check(weights: Weights) -> None:
    """WeightsError unless every tensor that the config asks for is there, in its shape. Reads no tensor."""
    held = set(weights.names())
    for name, shape in shapes(weights.config):
        need(name in held, f"{weights.where}: tensor {name} is missing", error=WeightsError)
        found = tuple(weights.shape(name))
        need(
            found == shape,
            f"{weights.where}: {name} is {found}, the config makes it {shape}",
            error=WeightsError,
        )


def load(weights: Weights, dtype: "torch.dtype", device: str = "cpu", threads: int = 2) -> "Llama":
    """The model in memory, every tensor cast to dtype; tells `load` events. Peak memory: the model and a few
    tensors.
    """
    import torch

    from puna.model.transformer import Llama

    check(weights)
    with torch.device("meta"):
        model = Llama(weights.config)
    model.requires_grad_(False)
    wanted = [name for name, _ in shapes(weights.config)]
    with ThreadPoolExecutor(threads) as pool:
        ready = _ahead(pool, lambda name: weights.read(name).to(device, dtype), wanted, threads + 1)
        for done, (name, tensor) in enumerate(zip(wanted, ready, strict=True), 1):
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(tensor, requires_grad=False))
            log.event("load", done=done, of=len(wanted), tensor=name)
    if weights.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval()


def _ahead(pool: ThreadPoolExecutor, read, names: list[str], depth: int) -> "Iterator[torch.Tensor]":
    """read(name) of each name in order, at most `depth` of them under way."""
    running = [pool.submit(read, name) for name in names[:depth]]
    for following in [*names[depth:], *[None] * len(running)]:
        yield running.pop(0).result()
        if following is not None:
            running.append(pool.submit(read, following))
