"""How a run's examples are divided: those it trains on, those held out; and how many steps they make."""

from __future__ import annotations

import math
import warnings

import numpy as np

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.learn.stream import Examples, readable

HELD_OUT = 512
"""Examples that are never trained on, at most; of a small corpus one in twenty."""
_ONE_IN = 20
_SAMPLE = 256  # examples whose lengths stand for those of all


def divide(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the examples to train on and of those held out, which are spread evenly.

    Args:
        count: How many examples there are.
    """
    held = np.unique(np.linspace(0, count - 1, min(HELD_OUT, count // _ONE_IN) + 1).astype(np.int64)[1:])
    return np.setdiff1d(np.arange(count), held), held


def check_enough(examples: Examples, numbers: np.ndarray, batch_tokens: int) -> None:
    """Refuses a corpus that does not fill a batch, and tells, with a warning, one too small to hold anything out.

    Args:
        examples: All of them.
        numbers: Those to train on.
        batch_tokens: Tokens in an optimizer step.

    Raises:
        BothwaysError: There are fewer tokens than a step takes.
    """
    count, tokens = len(examples), tokens_in(examples, numbers)
    if tokens < batch_tokens:
        raise BothwaysError(
            f"the corpus makes {count:,} sequences with {tokens:,.0f} tokens to train on, fewer than the "
            f"{batch_tokens:,} of one batch; give more text, or a batch_tokens of at most {tokens:,.0f}"
        )
    if count < _ONE_IN:
        warnings.warn(
            f"the corpus makes {count:,} sequences, fewer than the {_ONE_IN} of which one would be held out, so "
            "nothing will be measured; give more text, or a smaller max_length",
            BothwaysWarning,
            stacklevel=3,
        )


def steps_of(epochs: float, examples: Examples, numbers: np.ndarray, batch_tokens: int) -> int:
    """About how many steps so many passes over some of the examples take."""
    return max(1, math.ceil(epochs * tokens_in(examples, numbers) / batch_tokens))


def tokens_in(examples: Examples, numbers: np.ndarray) -> float:
    """About how many tokens some of the examples have, from the mean length of a sample of them."""
    sample = numbers[:: max(1, len(numbers) // _SAMPLE)]
    found = [example for number in sample if (example := readable(examples, (0, int(number)))) is not None]
    return float(sum(len(example[0]) for example in found)) * len(numbers) / max(len(sample), 1)
