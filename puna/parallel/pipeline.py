"""Several ranks, each with some of the layers, work on the parts of a batch like stations of an assembly line
(PyTorch's schedules).

Only hidden states travel, and their gradients back. What else a part is (positions, documents, targets)
every rank has already, as it reads the same share of a batch; so through the schedule goes just a part's
number. The loss is any that returns what the model's own call returns: each stage calls it, the last one
makes its sums, where no logits of a whole part need be held.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import pipelining
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, PipelineScheduleSingle

from puna.model.transformer import Llama, Read
from puna.parallel.fsdp import let_go
from puna.parallel.layout import SINGLE, VSHAPED
from puna.parallel.stages import owner
from puna.parallel.world import World

SCHEDULES = {
    "gpipe": pipelining.ScheduleGPipe,
    "1f1b": pipelining.Schedule1F1B,
    "interleaved": pipelining.ScheduleInterleaved1F1B,
    "looped_bfs": pipelining.ScheduleLoopedBFS,
    "interleaved_zero_bubble": pipelining.ScheduleInterleavedZeroBubble,
    "zbv": pipelining.ScheduleZBVZeroBubble,
    "dualpipev": pipelining.ScheduleDualPipeV,
}
# model, part of a batch -> (2,) sums over tokens
Loss = Callable[[Any, Any], Tensor]


class Stage(pipelining.PipelineStage):
    """One stage as the schedules see it: number of a part -> hidden states, or in the last one its loss."""

    parts: Sequence[Any]
    count: float
    loss: Loss

    def begin(self, parts: Sequence[Any], count: float, loss: Loss) -> None:
        self.parts, self.count, self.loss = parts, count, loss
        self.sums: list[Tensor] = []

    def forward_maybe_with_nosync(self, hidden: Tensor, number: Tensor) -> Tensor:
        """Called by the schedules. hidden: of the stage before; in the first stage the number once more."""
        part = self.parts[int(number)]
        model = _from(self.submod, None if self.is_first else hidden)
        found = self.loss(model, part)  # (B, T, D), at the end (2,)
        if not self.is_last:
            return found
        self.sums.append(found.detach())
        return found[:1] / self.count  # (1,)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        """Called by the schedules that make gradients of weights apart: those of all parts add up in fp32.

        FSDP sees to that in whole backward passes only, and has no public call for it.
        """
        super().backward_weight_one_chunk(bwd_chunk_id, last_backward)
        for module in self.submod.modules():
            if isinstance(module, FSDPModule) and (group := module._get_fsdp_state()._fsdp_param_group):
                for weight in group.fsdp_params:
                    weight.accumulate_unsharded_grad_if_needed()
                    weight.to_accumulated_grad_if_needed()


class Pipeline:
    """The stages of this rank; called as `accumulate(parts, count)`, the parts all of one shape."""

    def __init__(self, models: Sequence[Llama], loss: Loss, world: World, compute: torch.dtype):
        """models: the stages of this rank, as `build` makes them; they compute in `compute`."""
        self.models, self.loss, self.world, self.compute = models, loss, world, compute
        assert world.mesh is not None
        self.group = world.mesh["pipeline"].get_group()
        self.ready: tuple[tuple[int, torch.Size], Any, list[Stage]] | None = None

    def __call__(self, parts: Sequence[Any], count: float) -> Tensor:
        """Leaves the gradient of (sum / count) in the weights; (2,) sums, zero without the last stage."""
        key = (len(parts), parts[0].tokens.shape)
        assert all(part.tokens.shape == key[1] for part in parts), "parts in a pipeline are of one shape"
        if self.ready is None or self.ready[0] != key:
            self.ready = (key, *self._schedule(*key))
        _, schedule, stages = self.ready
        for stage in stages:
            stage.begin(parts, count, self.loss)
        numbers = torch.arange(len(parts))  # (parts)
        first = (numbers,) if stages[0].is_first else ()
        schedule.step(*first, number=numbers, target=numbers, return_outputs=False)
        found = stages[-1].sums
        return torch.stack(found).double().sum(0).cpu() if found else torch.zeros(2, dtype=torch.float64)

    @torch.no_grad()
    def judge(self, parts: Sequence[Any]) -> Tensor:
        """The sums without gradients, of any number of parts of any shapes."""
        sums, sent = torch.zeros(2, dtype=torch.float64), []
        for part in parts:
            hidden = None
            for number, model in zip(self.world.stages, self.models, strict=True):
                source, target = self._owner(number - 1), self._owner(number + 1)
                if number and source != self.world.place("pipeline"):
                    hidden = self._hidden(part.tokens.shape, self.world.device)  # (B, T, D)
                    dist.recv(hidden, group=self.group, group_src=source)
                hidden = self.loss(_from(model, hidden), part)  # (B, T, D), at the end (2,)
                if number == self.world.layout.all_stages - 1:
                    sums += hidden.double().cpu()
                elif target != self.world.place("pipeline"):
                    sent.append(dist.isend(hidden, group=self.group, group_dst=target))
        for message in filter(None, sent):
            message.wait()
        let_go(self.models)
        return sums

    def _schedule(self, count: int, rows: torch.Size) -> tuple[Any, list[Stage]]:
        """PyTorch's, for so many parts of this shape (B, T)."""
        layout, device = self.world.layout, torch.device(self.world.device)
        hidden = self._hidden(rows, "meta").requires_grad_()  # (B, T, D)
        wide = torch.promote_types(self.compute, torch.float32)
        stages = []
        for number, model in zip(self.world.stages, self.models, strict=True):
            last = number == layout.all_stages - 1
            taken = torch.empty(1, dtype=torch.long, device="meta") if number == 0 else hidden
            given = torch.empty(1, dtype=wide, device="meta").requires_grad_() if last else hidden
            # apart, gradients of weights would make a block again for each of its matrices
            whole = None if layout.recompute == "none" else lambda: lambda: None
            stages.append(
                Stage(
                    model, number, layout.all_stages, device, taken, given, group=self.group, dw_builder=whole
                )
            )
        held = stages[0] if layout.schedule in SINGLE else stages
        # the loss is divided by the tokens of all parts already
        schedule: PipelineScheduleSingle | PipelineScheduleMulti = SCHEDULES[layout.schedule](
            held, count, loss_fn=lambda loss, number: loss.sum(), scale_grads=False
        )
        return schedule, stages

    def _hidden(self, rows: torch.Size, device: str) -> Tensor:
        """What travels, with room for its numbers; of a sequence a rank has its tensor dimension's piece."""
        B, T = rows
        T, D = T // self.world.layout.tensor, self.models[0].config.hidden_size
        return torch.empty(B, T, D, dtype=self.compute, device=device)  # (B, T, D)

    def _owner(self, stage: int) -> int:
        layout = self.world.layout
        return owner(stage, layout.pipeline, layout.schedule in VSHAPED)


def _from(model: Callable[..., Tensor], hidden: Tensor | None) -> Callable[..., Tensor]:
    """A stage to be called like the whole model: it reads hidden states, if there are any, and not tokens."""

    def called(tokens: Tensor, positions: Tensor, attend: Any, read: Read | None = None) -> Tensor:
        return model(tokens if hidden is None else hidden, positions, attend, read)

    return called
