"""The line beside the progress bar: how well and how fast it goes, as means over the last steps."""

from __future__ import annotations

from collections import deque

from bothways.learn.state import Taken
from bothways.learn.tally import Tally
from bothways.learn.utilisation import utilisation

_RECENT = 20
"""Steps that the line looks back on."""


class Live:
    """The line: loss, accuracy of each kind of guess, tokens a second, utilisation, waiting.

    Args:
        roof: Operations a second that the machine can do; None if nobody counts operations.
    """

    def __init__(self, roof: float | None) -> None:
        self._roof = roof
        self._steps: deque[Taken] = deque(maxlen=_RECENT)

    def after(self, taken: Taken) -> str:
        """The line after one more step."""
        self._steps.append(taken)
        seconds = max(1e-9, sum(step.seconds for step in self._steps))
        parts = self._losses()
        parts.append(f"{sum(step.tokens for step in self._steps) / seconds:,.0f} tokens/s")
        if self._roof is not None:
            used = utilisation(sum(step.work for step in self._steps), seconds, self._roof)
            parts.append(f"utilisation {used:.0%}")
        parts.append(f"waiting {sum(step.waiting for step in self._steps) / seconds:.0%}")
        return ", ".join(parts)

    def _losses(self) -> list[str]:
        tally = Tally(weights=self._steps[-1].tally.weights)
        for step in self._steps:
            tally.add(step.tally.sums, step.tally.counts)
        means = tally.means()
        parts = [f"loss {means['loss']:.3f}"]
        guessed = {name.partition(".")[2]: value for name, value in means.items() if name.startswith("accuracy.")}
        return parts + [f"{_NAMES.get(kind, kind)} accuracy {value:.1%}" for kind, value in guessed.items()]


_NAMES = {"mlm": "masked"}
"""What a kind of guess is called where its name says little."""
