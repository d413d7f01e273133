"""A real session, very small: bytes as tokens, one Llama block, an engine that reads one token at a time.

Three models. "known" always answers ANSWER, "endless" writes the alphabet for ever: in both, attention
and MLP add nothing and the head maps each token to one next token. "random" has random weights and really
attends.
"""

import codecs
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from puna.engine.request import Event, Finish, Request, Sampling, Usage
from puna.errors import RequestError
from puna.messages import Message
from puna.model.attend import Memory
from puna.model.config import ModelConfig
from puna.model.transformer import Llama

BEGIN, END, HEADERS = 256, 257, {"system": 258, "user": 259, "assistant": 260, "tool": 261}
ANSWER = "Hi\x1b[31m é!"  # no byte twice, so each byte tells the next
SHOWN = "Hi[31m é!"  # on a terminal


@dataclass(frozen=True)
class Rendered:
    ids: tuple[int, ...]


class ByteTemplate:
    stop_ids = frozenset({END})

    def render(self, messages: Sequence[Message], tools: Sequence = ()) -> Rendered:
        said = [t for m in messages for t in (HEADERS[m.role], *m.content.encode("utf-8", "replace"), END)]
        return Rendered((BEGIN, *said, HEADERS["assistant"]))


class ByteEngine:
    """Continues one request at a time; `pause_s` before each token."""

    def __init__(self, model: Llama, pause_s: float = 0.0):
        self.model, self.pause_s, self.open = model, pause_s, 0

    def submit(self, request: Request) -> "ByteStream":
        context = self.model.config.max_position_embeddings
        if len(request.ids) >= context:
            raise RequestError(f"{len(request.ids)} tokens do not fit in {context}")
        self.open += 1
        return ByteStream(self, request, context)


class ByteStream(Iterator[Event]):
    """The events of one request. After `close`, which a signal handler may call, only the last one comes."""

    def __init__(self, engine: ByteEngine, request: Request, context: int):
        self.engine, self.request, self.new = engine, request, list(request.ids)
        self.room = min(request.max_tokens or context, context - len(request.ids))
        self.memory, self.text, self.over, self.closed = Memory(engine.model.config), "", False, False
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.draws, self.started, self.first_s, self.count = torch.Generator(), time.perf_counter(), 0.0, 0
        seed = request.sampling.seed
        self.draws.seed() if seed is None else self.draws.manual_seed(seed)

    def close(self) -> None:
        self.closed = True

    def __next__(self) -> Event:
        if self.over:
            raise StopIteration
        until = time.perf_counter() + self.engine.pause_s
        while not self.closed and time.perf_counter() < until:
            time.sleep(0.005)
        event = self._last("cancelled") if self.closed else self._step()
        if event.finish:
            self.over, self.engine.open = True, self.engine.open - 1
        return event

    def _step(self) -> Event:
        token = self._read()
        self.count, self.first_s = self.count + 1, self.first_s or time.perf_counter() - self.started
        fresh = self.decoder.decode(bytes([token]) if token < 256 else b"")
        if token in self.request.stop_ids or any(stop in self.text + fresh for stop in self.request.stop):
            return self._last("stop", (token,))
        self.text += fresh
        return self._last("length", (token,), fresh) if self.count == self.room else Event((token,), fresh)

    @torch.no_grad()
    def _read(self) -> int:
        positions = torch.arange(self.memory.length, self.memory.length + len(self.new))
        logits = self.engine.model(torch.tensor(self.new), positions, self.memory)[-1]  # (V,)
        self.memory.advance(len(self.new))
        self.new = [_drawn(logits, self.request.sampling, self.draws)]
        return self.new[0]

    def _last(self, finish: Finish, ids: tuple[int, ...] = (), text: str = "") -> Event:
        total_s = time.perf_counter() - self.started
        usage = Usage(len(self.request.ids), 0, self.count, self.first_s, total_s)
        return Event(ids, text, finish=finish, usage=usage)


def _drawn(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / sampling.temperature).softmax(-1), 1, generator=generator))


@dataclass
class TinySession:
    """What puna.engine.load.open_chat gives, as far as a chat uses it."""

    engine: ByteEngine
    config: ModelConfig
    name: str
    closed: bool = False
    template = ByteTemplate()
    defaults = Sampling(temperature=0.6, top_p=0.9)

    def close(self) -> None:
        self.closed = True


def open_chat(model: str, *, context: int | None = None, **rest) -> TinySession:
    """A tiny session by name: known, endless (50 tokens a second) or random."""
    config = ModelConfig(
        hidden_size=264,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=8,
        vocab_size=264,
        max_position_embeddings=context or 512,
    )
    torch.manual_seed(0)
    llama = Llama(config)
    if model == "random":
        torch.nn.init.normal_(llama.model.embed_tokens.weight, std=3)
        llama.lm_head.weight.data.mul_(12)
    elif model == "known":
        _speak(llama, [HEADERS["assistant"], *ANSWER.encode(), END])
    else:
        _speak(llama, [HEADERS["assistant"], *range(ord("a"), ord("z") + 1), ord("\n"), ord("a")])
    return TinySession(ByteEngine(llama, 0.02 if model == "endless" else 0.0), config, model)


@torch.no_grad()
def _speak(llama: Llama, chain: list[int]) -> None:
    """Set the weights so that each token of the chain is followed by the next one."""
    llama.model.embed_tokens.weight.copy_(torch.eye(264))
    llama.model.layers["0"].self_attn.o_proj.weight.zero_()
    llama.model.layers["0"].mlp.down_proj.weight.zero_()
    llama.lm_head.weight.zero_()
    for token, following in itertools.pairwise(chain):
        llama.lm_head.weight[following, token] = 4.0
