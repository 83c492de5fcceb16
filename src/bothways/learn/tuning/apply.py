"""Where fine-tuning's settings take hold: before training, in it, after it."""

from __future__ import annotations

from bothways.learn.objectives.protocol import Together
from bothways.learn.protocol import Objective
from bothways.learn.tuning.settings import TuningSettings
from bothways.run.model import Model


def prepare_model(model: Model, start: Model, settings: TuningSettings, seed: int) -> None:
    """Changes a new model in place before it is trained.

    Args:
        model: With the base's weights and new heads.
        start: The base.
        settings: What is wanted.
        seed: Of random weights.
    """
    model.encoder.requires_grad_(not settings.freeze)


def wrap_objective(together: Together, settings: TuningSettings) -> Objective:
    """What the loop is given: the task's loss, and what regularises it."""
    return together


def finish_model(model: Model, settings: TuningSettings) -> None:
    """Makes an ordinary model again of what was trained."""
    model.encoder.requires_grad_(True)
