"""R-Drop: two passes with different dropout are to say the same.

Wu et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", section 2.
"""

from __future__ import annotations

from torch import nn

from bothways.learn.protocol import Item
from bothways.learn.tuning.passes import Regularised


class RDrop(Regularised):
    """A task's objective over two passes: the mean of their losses, and the divergence of their guesses."""

    name = "r_drop"
    passes = 2

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of both passes."""
        (one, loss), (other, second) = self.guesses(model, item), self.guesses(model, item)
        apart = self.task.distance(one, other, item[1])
        both = loss._replace(total=(loss.total + second.total) / 2)
        if loss.hits is not None and second.hits is not None:
            both = both._replace(hits=(loss.hits + second.hits) / 2)
        (self.share(both.total, self.task.name, totals) + self.share(apart, self.name, totals)).backward()
        return self.told(both, apart)
