"""In-batch negatives (multiple negatives ranking): of all second texts of a step, which belongs to the first?

Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4; with the other
direction too, CLIP's symmetric form (Radford et al. 2021). Negatives that a group brings along are candidates for all.
Texts that are equal never meet as negatives, nor do two second texts of one first text. Candidates that a teacher, or
the model itself, finds nearer than the right one can be left out as false negatives (Solatorio 2024, "GISTEmbed").

Shapes: G groups, C candidates, of all processes; E width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.step import Mean, Step, unit

_NEVER = -1e30


@dataclass(frozen=True)
class InBatch:
    """Cross-entropy over the candidates.

    Attributes:
        scale: What similarities are multiplied by; None: 20 for cosines, 1 for products.
        similarity: ``"cosine"`` or ``"dot"``.
        symmetric: Whether the second text also looks for the first.
        false_negatives: Candidates whose cosine with the first text, as the teacher finds it (without one as the model
            itself does), is above that of the right one less this margin are left out; None: none are.
    """

    scale: float | None = None
    similarity: Literal["cosine", "dot"] = "cosine"
    symmetric: bool = False
    false_negatives: float | None = None
    name = "mnrl"
    needs = "pairs of texts that belong together, with or without negatives"
    forms: ClassVar[tuple[str, ...]] = ("pairs", "triplets", "labelled")
    meets = True
    guesses = True

    def right(self, data: VectorData) -> np.ndarray | None:
        """Of labelled pairs which belong together; the others are only candidates."""
        return data.flags().astype(np.float32) if data.form == "labelled" else None

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the groups; right are those whose own text is the nearest."""
        places_N, _ = step.others
        seconds = step.places + 1
        found = [self._rank(step, step.places, seconds, torch.cat([seconds, places_N]))]
        if self.symmetric:
            found.append(self._rank(step, seconds, step.places, step.places))
        losses_G, hits_G = (torch.stack(each).mean(0) for each in zip(*found, strict=True))
        asking_G = torch.ones_like(losses_G) if step.right is None else step.right
        count = asking_G.sum().clamp_min(1.0)
        return Mean((losses_G * asking_G).sum() / count, (hits_G * asking_G).sum() / count)

    def _rank(self, step: Step, asked: Tensor, own: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """``(G,)`` cross-entropies and whether the own candidate is the nearest.

        Args:
            step: Whose texts they are.
            asked: ``(G,)`` the places of the texts that look for theirs.
            own: ``(G,)`` those of what belongs to them.
            candidates: ``(C,)`` those of all candidates; `own` comes first.
        """
        every = torch.arange(len(asked), device=asked.device)
        logits_GC = self._likeness(step.vectors[asked], step.vectors[candidates]) * self._scale
        asked_G, own_G, ids_C = (step.ids[places.cpu().numpy()] for places in (asked, own, candidates))
        belongs_G = None if step.right is None else (step.right > 0.5).cpu().numpy()
        left_out_GC = torch.from_numpy(never(asked_G, ids_C, own_G, belongs_G)).to(logits_GC.device)
        if self.false_negatives is not None:
            with torch.no_grad():
                judged = step.vectors if step.taught is None else step.taught
                told_GC = unit(judged[asked]) @ unit(judged[candidates]).T
                left_out_GC |= told_GC > told_GC.gather(1, every[:, None]) - self.false_negatives
        left_out_GC[every, every] = False
        logits_GC = logits_GC.masked_fill(left_out_GC, _NEVER)
        hits_G = (logits_GC.detach().argmax(1) == every).float()
        return functional.cross_entropy(logits_GC, every, reduction="none"), hits_G

    @property
    def _scale(self) -> float:
        return self.scale if self.scale is not None else {"cosine": 20.0, "dot": 1.0}[self.similarity]

    def _likeness(self, one_GE: Tensor, other_CE: Tensor) -> Tensor:
        return unit(one_GE) @ unit(other_CE).T if self.similarity == "cosine" else one_GE @ other_CE.T


def never(
    asked_G: np.ndarray, candidates_C: np.ndarray, own_G: np.ndarray, belongs_G: np.ndarray | None = None
) -> np.ndarray:
    """``(G, C)`` which candidates are no negatives of a text: itself, what belongs to it, what belongs to its equals.

    Args:
        asked_G: Ids of the texts that look for theirs.
        candidates_C: Ids of the candidates.
        own_G: Ids of what stands beside them.
        belongs_G: Whether it belongs to them; what does not is a negative also where their equals ask. None: it does.
    """
    found = (candidates_C[None, :] == asked_G[:, None]) | (candidates_C[None, :] == own_G[:, None])
    belongs_G = np.ones(len(asked_G), bool) if belongs_G is None else belongs_G
    values, counts = np.unique(asked_G, return_counts=True)
    for twice in values[counts > 1]:
        found[np.ix_(asked_G == twice, np.isin(candidates_C, own_G[(asked_G == twice) & belongs_G]))] = True
    return found
