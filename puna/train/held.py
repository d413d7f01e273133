"""Bytes of all tensors that live at once, counted as operations make them and as their last owner lets go.

Exact for tensors without numbers too (fake ones), which have sizes but no memory. FSDP empties and refills
storages in place, so that is watched as well. DTensor first tries an operation on fake tensors of the whole
size, to learn what it gives; those are not counted.
"""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """`now` and `peak` in bytes, within `with Held() as held:`; what was there before is shown to `see`."""

    def __init__(self):
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0
        self.trying = False

    def see(self, tensor: Tensor) -> None:
        tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        storage = tensor.untyped_storage()
        if storage._cdata not in self.sizes:
            self.sizes[storage._cdata] = 0
            weakref.finalize(storage, self._gone, storage._cdata)
            self._resized(storage)

    def _resized(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.now += size - self.sizes[storage._cdata]
        self.sizes[storage._cdata] = size
        self.peak = max(self.peak, self.now)

    def _gone(self, number: int) -> None:
        self.now -= self.sizes.pop(number)

    def __enter__(self) -> "Held":
        self.resize = torch.UntypedStorage.resize_
        self.tries = ShardingPropagator._propagate_tensor_meta_non_cached

        def resize(storage: torch.UntypedStorage, size: int) -> Any:
            done = self.resize(storage, size)
            if storage._cdata in self.sizes:
                self._resized(storage)
            return done

        def tries(*asked: Any) -> Any:
            self.trying = True
            try:
                return self.tries(*asked)
            finally:
                self.trying = False

        self._set(resize, tries)
        super().__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._set(self.resize, self.tries)
        super().__exit__(*problem)

    def _set(self, resize: Any, tries: Any) -> None:
        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
        ShardingPropagator._propagate_tensor_meta_non_cached = tries  # type: ignore[method-assign]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it asks again with the tensors of this rank
        made = operation(*args, **(kwargs or {}))
        for leaf in () if self.trying else tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return made
