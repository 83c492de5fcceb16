"""Where fine-tuning's settings take hold: before training, in it, after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Together
from bothways.learn.protocol import Objective
from bothways.learn.tuning import lora, mixout
from bothways.learn.tuning.adversarial import USUAL_SIZE, Fgm, Sift
from bothways.learn.tuning.r_drop import RDrop
from bothways.learn.tuning.reinit import reinitialise
from bothways.learn.tuning.settings import TuningSettings
from bothways.learn.tuning.unfreeze import thaw
from bothways.run.adapter import Adapter, fingerprint
from bothways.run.model import Model


def prepare_model(model: Model, start: Model, settings: TuningSettings, seed: int) -> None:
    """Changes a new model in place before it is trained.

    Args:
        model: With the base's weights and new heads.
        start: The base.
        settings: What is wanted.
        seed: Of random weights.

    Raises:
        BothwaysError: The encoder cannot do what is wanted.
    """
    encoder = model.encoder
    reinitialise(encoder, settings.reinit_layers, seed)
    encoder.requires_grad_(not settings.freeze)
    if settings.lora is not None:
        how = (settings.lora, settings.alpha, settings.lora_targets, settings.lora_dropout)
        lora.insert(encoder, *how, seed)
    mixout.mix(encoder, start.encoder, settings.mixout)
    if encoder.pooler is not None and start.encoder.pooler is None:  # a new one is a part of the head
        encoder.pooler.requires_grad_(True)


def before_step(
    model: Model, settings: TuningSettings, trained: Iterable[nn.Parameter]
) -> Callable[[float], None] | None:
    """What is called before each step with the share of the run's steps taken; `trained` is all that may learn."""
    if settings.unfreeze is None:
        return None
    own = {id(parameter) for parameter in model.encoder.parameters()}
    others = any(parameter.requires_grad and id(parameter) not in own for parameter in trained)
    return thaw(model.encoder, settings.unfreeze, alone=not others)


def wrap_objective(together: Objective, settings: TuningSettings) -> Objective:
    """What the loop is given: the task's loss, and what regularises it.

    Raises:
        BothwaysError: The task's guesses cannot be compared, as a regulariser wants.
    """
    if not isinstance(together, Together):
        if settings.adversarial or settings.r_drop:
            asked = "adversarial" if settings.adversarial else "r_drop"
            raise BothwaysError(f"{asked} compares guesses about single examples, which this task does not make")
        return together
    if settings.adversarial is not None:
        kind = {"fgm": Fgm, "sift": Sift}[settings.adversarial]
        return kind(
            together, settings.adversarial_weight, settings.adversarial_size or USUAL_SIZE[settings.adversarial]
        )
    return RDrop(together, settings.r_drop) if settings.r_drop else together


def finish_model(model: Model, start: Model, settings: TuningSettings) -> Adapter | None:
    """Makes an ordinary model again of what was trained; returns what LoRA learned, which is in its weights now."""
    mixout.unmix(model.encoder)
    adapter = None
    if settings.lora is not None:
        new_pooler = model.encoder.pooler is not None and start.encoder.pooler is None
        adapter = Adapter(
            updates=lora.merge(model.encoder),
            rank=settings.lora,
            alpha=settings.alpha,
            dropout=settings.lora_dropout,
            base=start.name,
            fingerprint=fingerprint(start.encoder),
            pooler=new_pooler,
        )
    model.encoder.requires_grad_(True)
    return adapter
