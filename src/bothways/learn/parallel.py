"""One model trained by several processes: each holds the whole of it, or a part of every tensor.

A step's examples are dealt out to the processes, whatever the step holds, so a run learns the same from the same
examples however many work on it. Gradients are sums over the whole step, as in one process.

- `Alone`: one process.
- `Summed`: every process holds the model; gradients are added up after a step's last pass, whatever passes it takes.
- `Replicas`: every process holds the model; gradients are added up while they arise. PyTorch's DistributedDataParallel
  (Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training").
- `Shards`: every process holds its part of each tensor, of its gradient and of the optimizer's averages; a layer is put
  together while it computes. PyTorch's FSDP2, after Rajbhandari et al. 2020, "ZeRO", stage 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from bothways.errors import BothwaysError, closest
from bothways.learn.checkpoint import own_tensors, put_tensors
from bothways.learn.objectives.choices import Parallel
from bothways.learn.objectives.protocol import sums_of
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.processes import explained, here
from bothways.learn.protocol import Item, Objective
from bothways.model.parts.stack import Stack

_BYTES = 16
"""Of a parameter in training: its value, its gradient and AdamW's two averages, in float32."""
_TOGETHER = 32 << 20
"""Bytes of gradients that are sent at once."""
_SHARE = 0.5
"""Of a GPU's memory that these may take before they are spread; the rest is for what layers keep."""


class Passes(Protocol):
    """Runs a model forward and backward.

    Attributes:
        model: What is trained: the model, or the part of it that this process holds.
        told: How several processes share the work, the end of a sentence.
    """

    model: nn.Module
    told: str

    def backward(self, objective: Objective, items: Sequence[Item], totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of a step's items to the parameters; returns their sums, added up over this process."""
        ...

    def whole(self) -> AbstractContextManager[Any]:
        """While the block runs, `model` can be asked by each process on its own, without gradient."""
        ...

    def finish(self) -> None:
        """Gives the weights back to the model that was to be trained."""
        ...


class Alone:
    """One process, which computes each item on its own."""

    told = ""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def backward(self, objective: Objective, items: Sequence[Item], totals: dict[str, int]) -> dict[str, float]:
        """As `Passes.backward` says."""
        return _added(objective.backward(self.model, item, totals) for item in items)

    def whole(self) -> AbstractContextManager[Any]:
        """The model is whole."""
        return nullcontext()

    def finish(self) -> None:
        """The weights are where they belong."""


class Summed:
    """The whole model in every process, for objectives that make passes of their own, as fine-tuning has them."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.told = model, f"; {here().count} processes"

    def backward(self, objective: Objective, items: Sequence[Item], totals: dict[str, int]) -> dict[str, float]:
        """As `Passes.backward` says; then the gradients are those of all processes."""
        with explained():
            if not items and hasattr(objective, "absent"):
                objective.absent(next(self.model.parameters()).device)
            found = _added(objective.backward(self.model, item, totals) for item in items)
            self._add_gradients()
        return found

    def whole(self) -> AbstractContextManager[Any]:
        """The model is whole."""
        return nullcontext()

    def finish(self) -> None:
        """The weights are where they belong."""

    def _add_gradients(self) -> None:
        """What none has a gradient for stays without, so that the optimizer leaves it alone."""
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        flags = here().gathered("".join("01"[parameter.grad is not None] for parameter in learning))
        used = [parameter for parameter, each in zip(learning, zip(*flags, strict=True), strict=True) if "1" in each]
        while used:
            some, size = [used.pop()], 0
            while used and (size := size + some[-1].nbytes) < _TOGETHER:
                some.append(used.pop())
            for parameter in some:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in some if parameter.grad is not None]
            total = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(total)
            for gradient, part in zip(gradients, total.split([each.numel() for each in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))


class Replicas:
    """The whole model in every process."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.told = model, f"; {here().count} processes (ddp)"
        device = next(model.parameters()).device
        self._root = nn.parallel.DistributedDataParallel(
            _Root(model),
            device_ids=[device.index] if device.type == "cuda" else None,
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )
        self._spare: Item | None = None

    def backward(self, objective: Objective, items: Sequence[Item], totals: dict[str, int]) -> dict[str, float]:
        """As `Passes.backward` says; the last item's pass adds the gradients of all processes."""
        self._spare = items[-1] if items else self._spare
        return _passes(self._root, objective, items, self._spare, totals, self._synchronise)

    def whole(self) -> AbstractContextManager[Any]:
        """The model is whole."""
        return nullcontext()

    def finish(self) -> None:
        """The weights are where they belong."""

    def _synchronise(self, last: bool) -> None:
        self._root.require_backward_grad_sync = last


class Shards:
    """A part of every tensor in every process.

    Args:
        model: Stays as it is, on the host, until `finish`.
        device: Where the parts go.
        apart: Whether layers are put together one at a time, as none is read but by its own pass.
    """

    def __init__(self, model: nn.Module, device: torch.device, apart: bool) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._given, self.model, self.told = model, copy.deepcopy(model), f"; {here().count} processes (fsdp)"
        mesh = init_device_mesh(device.type, (here().count,))
        for stack in [part for part in self.model.modules() if apart and isinstance(part, Stack)]:
            if len(set(stack.schedule)) == len(stack.schedule):  # a block that several layers share is whole meanwhile
                for block in stack.blocks:
                    fully_shard(block, mesh=mesh)
        self._root: Any = fully_shard(_Root(self.model), mesh=mesh)
        self._spare: Item | None = None

    def backward(self, objective: Objective, items: Sequence[Item], totals: dict[str, int]) -> dict[str, float]:
        """As `Passes.backward` says; the last item's pass adds and deals out the gradients."""
        self._spare = items[-1] if items else self._spare
        return _passes(self._root, objective, items, self._spare, totals, self._root.set_requires_gradient_sync)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Puts all layers together, once for the block."""
        from torch.distributed.fsdp import FSDPModule

        parts = [part for part in self._root.modules() if isinstance(part, FSDPModule)]
        self._root.set_reshard_after_forward(False)
        for part in parts:
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.set_reshard_after_forward(part is not self._root, recurse=False)
                part.reshard()

    def finish(self) -> None:
        """Puts the weights together in the model that was given."""
        put_tensors(self._given, own_tensors(self.model))


class _Root(nn.Module):
    """What DDP and FSDP need: a module whose forward is a whole pass, from an item to its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: Any, item: Item, totals: dict[str, int]) -> tuple[Tensor, Any]:
        return objective.loss(self.model, item, totals)


def passes_of(model: nn.Module, parallel: Parallel, device: str | None, *, apart: bool = True) -> Passes:
    """How a model is trained here.

    Args:
        model: What is to be trained.
        parallel: ``"ddp"``, ``"fsdp"``, or ``"auto"``: the second only for models that a GPU has no room for.
        device: Where it is to be trained; None takes a GPU if there is one.
        apart: Whether nothing reads a layer but its own pass, so that layers can be put together one at a time.
    """
    if here().alone:
        return Alone(model)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cuda":  # whichever was named: each process has one of its own
        place = torch.device("cuda", torch.cuda.current_device())
    return Shards(model, place, apart) if _is_sharded(model, parallel, place) else Replicas(model.to(place))


def check_processes(parallel: str, batch_tokens: int, max_length: int) -> None:
    """Refuses what several processes cannot share out.

    Raises:
        BothwaysError: There is no such way to train in parallel, or a step does not divide among the processes.
    """
    ways, count = ("auto", "ddp", "fsdp"), here().count
    if parallel not in ways:
        raise BothwaysError(f"parallel must be auto, ddp or fsdp, not {parallel!r}{closest(parallel, ways)}")
    if batch_tokens % count:
        near = batch_tokens // count * count or count
        raise BothwaysError(
            f"a step of {batch_tokens:,} tokens (batch_tokens) does not divide among {count} processes: take "
            f"{near:,}, or another number of processes"
        )
    if count > 1 and batch_tokens < count * max_length:
        raise BothwaysError(
            f"a step of {batch_tokens:,} tokens (batch_tokens) has not a sequence of {max_length} tokens for each of "
            f"{count} processes: take {count * max_length:,} or more, or fewer processes"
        )


def reads_layers(settings: ObjectiveSettings) -> bool:
    """Whether an objective computes with a layer beside the encoder's own pass."""
    return settings.mask_decoder == "enhanced" or bool({"minilm", "tinybert"} & set(settings.parts))


def _is_sharded(model: nn.Module, parallel: Parallel, device: torch.device) -> bool:
    """Whether every process gets a part of each tensor only."""
    if parallel != "auto" or device.type != "cuda":
        return parallel == "fsdp"
    needed = _BYTES * sum(parameter.numel() for parameter in model.parameters())
    return needed > _SHARE * torch.cuda.get_device_properties(device).total_memory


def _passes(
    root: Any, objective: Any, items: Sequence[Item], spare: Item | None, totals: dict[str, int], synchronise: Any
) -> dict[str, float]:
    """The passes of a step.

    All processes make equally many: who has fewer items makes the last again, for nothing. Gradients are added up in
    the last pass; what adds them also divides them by the number of processes, so the losses are multiplied by it.
    """
    passes = max(here().gathered(len(items)))
    found = []
    with explained():
        for number in range(passes):
            own = number < len(items)
            item = items[number] if own else spare
            if item is None:
                raise BothwaysError("a process has no readable example in its first step: take a larger batch_tokens")
            synchronise(number == passes - 1)
            loss, losses = root(objective, item, totals)
            (loss * (here().count if own else 0)).backward()
            if own:
                found.append(sums_of(losses))
    return _added(found)


def _added(parts: Any) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total
