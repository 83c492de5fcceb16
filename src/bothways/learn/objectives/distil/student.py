"""A student made from its teacher: half of its layers, their weights (Sanh et al. 2019, section 3).

Shapes: none; layers are counted from 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig
from bothways.model.encoder import Encoder
from bothways.run.model import Model


def spread_layers(teacher: int, student: int) -> list[int]:
    """Which layers of a teacher a student begins with: evenly spread, the first and the last among them.

    12 to 6 are 0, 2, 4, 7, 9 and 11, as DistilBERT was begun.
    """
    return [int(layer) for layer in np.round(np.linspace(0, teacher - 1, student))]


def student_of(teacher: EncoderConfig, size: str) -> EncoderConfig | None:
    """The teacher with fewer layers, evenly spread.

    Args:
        teacher: What it is.
        size: ``"half"`` of its layers, or how many.

    Returns:
        None for other sizes.

    Raises:
        BothwaysError: The teacher does not have so many layers.
    """
    if size != "half" and not size.isdecimal():
        return None
    layers = (teacher.layers + 1) // 2 if size == "half" else int(size)
    if not 1 <= layers <= teacher.layers:
        raise BothwaysError(f"a student cannot have {size} layers of a teacher with {teacher.layers}")
    # its own deviation of random weights may be that of another width
    changes: dict[str, object] = {"layers": layers, "init_std": 0.02}
    if teacher.blocks is not None:
        changes["blocks"] = min(teacher.blocks, layers)
    if windows := getattr(teacher.attention, "windows", ()):
        chosen = spread_layers(teacher.layers, layers)
        changes["attention__windows"] = tuple(windows[layer % len(windows)] for layer in chosen)
    return teacher.derive(**changes)


def begin_with_teacher(student: Model, teacher: Model) -> tuple[bool, str]:
    """Copies a teacher's embeddings, evenly spread layers and masked-token head into its student.

    Args:
        student: With random weights; keeps them where nothing of the teacher fits.
        teacher: Is left as it is.

    Returns:
        Whether that was possible, and what was done, in one sentence.
    """
    apart = "The student begins with random weights:"
    if student.config.width != teacher.config.width:
        return False, f"{apart} it is {student.config.width} wide, its teacher {teacher.config.width}"
    if student.config.layers > teacher.config.layers:
        return False, f"{apart} it has {student.config.layers} layers, its teacher {teacher.config.layers}"
    tensors = _renamed(teacher.encoder, student.encoder)
    blocks = [name for name in student.encoder.state_dict() if name.startswith("stack.blocks.")]
    if any(_fitting(tensors.get(name), student.encoder.state_dict()[name]) is None for name in blocks):
        return False, f"{apart} its layers are made otherwise than its teacher's"
    with torch.no_grad():
        _fill(student.encoder, tensors)
        if "mlm" in student.heads and "mlm" in teacher.heads:
            _fill(student.heads["mlm"], teacher.heads["mlm"].state_dict())
    chosen = ", ".join(str(layer) for layer in spread_layers(teacher.config.layers, student.config.layers))
    last = teacher.config.layers - 1
    return True, f"The student begins with its teacher's embeddings and layers {chosen} of 0 to {last}"


def _renamed(teacher: Encoder, student: Encoder) -> dict[str, Tensor]:
    """The teacher's tensors by the student's names."""
    chosen = spread_layers(teacher.config.layers, student.config.layers)
    schedule = student.stack.schedule
    first = {block: schedule.index(block) for block in set(schedule)}  # the layer that a shared block is taken from
    tensors = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith("stack.blocks.")}
    for block, layer in first.items():
        source = teacher.stack.blocks[teacher.stack.schedule[chosen[layer]]]
        tensors |= {f"stack.blocks.{block}.{name}": tensor for name, tensor in source.state_dict().items()}
    return tensors


def _fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, place in module.state_dict().items():
        fitting = _fitting(tensors.get(name), place)
        if fitting is not None:
            place.copy_(fitting)


def _fitting(tensor: Tensor | None, place: Tensor) -> Tensor | None:
    """A tensor for a place: of its shape, or with more rows, as tables may have; else None."""
    if tensor is None or tensor.shape[1:] != place.shape[1:] or len(tensor) < len(place):
        return None
    return tensor[: len(place)]
