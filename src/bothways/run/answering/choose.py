"""Which of several texts goes best with a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answers import Choice
from bothways.run.engines.protocol import Output
from bothways.run.numbers import softmax

if TYPE_CHECKING:
    from bothways.run.runner import Runner


def choose(model: Runner, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Choice]:
    """The choice for each prompt; as `Model.choose` says."""
    found = []
    for own, shares in zip(choices, choice_probabilities(model, prompts, choices), strict=True):
        best = int(shares.argmax())
        found.append(Choice(best, own[best], float(shares[best]), tuple(shares.tolist())))
    return found


def choice_probabilities(model: Runner, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """For each prompt ``(choices,)`` float32: a softmax over the scores of its own choices.

    Raises:
        BothwaysError: The model has no choosing head, reads long texts in windows, or there are fewer than two choices.
    """
    model.head("choose", "choose")
    if len(prompts) != len(choices):
        raise BothwaysError(f"{len(prompts):,} prompts and {len(choices):,} lists of choices do not go together")
    for place, own in enumerate(choices):
        if isinstance(own, str) or len(own) < 2:
            raise BothwaysError(f"prompt {place} has fewer than two choices; give a list of at least two texts")
    check_no_windows(model)
    counts = [len(own) for own in choices]
    firsts = [prompt for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
    encoded = model.encode(firsts, [text for own in choices for text in own])
    scores = model.by_sequence(encoded, Output("choose"), ())
    return [softmax(own) for own in np.split(scores, np.cumsum(counts)[:-1])] if counts else []


def check_no_windows(model: Runner) -> None:
    """Raises a BothwaysError where long texts would be read in windows: each choice is one sequence."""
    if model.truncation == "window":
        raise BothwaysError("choices are not read in windows; choose truncation 'warn', 'head', 'head_tail' or 'error'")
