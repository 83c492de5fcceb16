"""The settings of fine-tuning that are neither the loop's nor a task's."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from bothways.errors import BothwaysError, closest
from bothways.learn.settings import check_whole

Adversarial = Literal["sift", "fgm"]

_CONTRADICTIONS = (
    ("freeze", "unfreeze", "freeze keeps the encoder as it is, unfreeze lets it learn layer by layer"),
    ("freeze", "reinit_layers", "freeze keeps the encoder as it is, and layers that begin anew have to learn"),
    ("freeze", "mixout", "freeze keeps the encoder as it is, so mixout has nothing to mix"),
    ("freeze", "lora", "freeze lets the heads alone learn, lora lets updates of the encoder learn too"),
    ("lora", "reinit_layers", "lora keeps the encoder's matrices, and layers that begin anew have to learn them"),
    ("lora", "mixout", "lora keeps the encoder's matrices, so mixout has nothing to mix"),
    ("adversarial", "r_drop", "both compare guesses, each in passes of its own"),
)


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How an encoder is changed while it is fine-tuned. Contradictions raise a BothwaysError that names them.

    Attributes:
        freeze: Whether only the heads learn.
        unfreeze: Share of the run in which layers begin to learn, from the last to the first (Howard and Ruder 2018,
            ULMFiT, section 3.3); None: all from the beginning.
        reinit_layers: How many of the last layers, and the pooler, begin with random weights (Zhang et al. 2021).
        mixout: Share of weights that are replaced by the pre-trained ones in each step (Lee et al. 2020).
        adversarial: ``"sift"`` (He et al. 2021, DeBERTa, section 4) or ``"fgm"`` (Miyato et al. 2017).
        adversarial_size: The length of a sequence's disturbance, over all its tokens; None: 5 for ``sift``, 0.5
            for ``fgm``.
        adversarial_weight: What the loss of the disturbed texts counts.
        r_drop: What the divergence of two passes with different dropout counts (Wu et al. 2021); 0: one pass.
        lora: Rank of low-rank updates that learn in place of the encoder's matrices (Hu et al. 2022); None: none.
        lora_alpha: Their scale times the rank; None: twice the rank.
        lora_targets: The matrices that get them, by the last part of their names; None: queries and values.
        lora_dropout: Share of the values dropped before them.
    """

    freeze: bool = False
    unfreeze: float | None = None
    reinit_layers: int = 0
    mixout: float = 0.0
    adversarial: Adversarial | None = None
    adversarial_size: float | None = None
    adversarial_weight: float = 1.0
    r_drop: float = 0.0
    lora: int | None = None
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] | None = None
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.lora_targets is not None:
            object.__setattr__(self, "lora_targets", tuple(self.lora_targets) or None)
        kinds = get_args(Adversarial)
        if self.adversarial not in (None, *kinds):
            near = closest(str(self.adversarial), kinds)
            raise BothwaysError(f"adversarial must be {' or '.join(kinds)}, not {self.adversarial!r}{near}")
        self._check("unfreeze", self.unfreeze is None or 0 < self.unfreeze <= 1, "a share above 0, at most 1")
        check_whole(reinit_layers=self.reinit_layers, lora=self.lora)
        self._check("reinit_layers", self.reinit_layers >= 0, "0 or more")
        self._check("mixout", 0 <= self.mixout < 1, "a share from 0 to below 1")
        for name in ("adversarial_size", "lora_alpha"):
            value = getattr(self, name)
            self._check(name, value is None or 0 < value < math.inf, "above 0")
        for name in ("adversarial_weight", "r_drop"):
            self._check(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        self._check("lora", self.lora is None or self.lora >= 1, "a rank of 1 or more")
        self._check("lora_dropout", 0 <= self.lora_dropout < 1, "a share from 0 to below 1")
        for first, second, why in _CONTRADICTIONS:
            if getattr(self, first) and getattr(self, second):
                raise BothwaysError(f"{first} and {second} do not go together: {why}; give one")
        wanting = [("lora", name) for name in ("lora_alpha", "lora_targets", "lora_dropout")]
        for needed, name in [*wanting, ("adversarial", "adversarial_size")]:
            if getattr(self, name) and getattr(self, needed) is None:
                raise BothwaysError(f"{name} says how {needed} is done, and {needed} is not given; give it too")

    @property
    def alpha(self) -> float:
        """The scale of LoRA's updates times their rank."""
        return self.lora_alpha or 2.0 * (self.lora or 0)

    def told(self) -> list[str]:
        """What is done beside plain training, in words."""
        last = "last layer" if self.reinit_layers == 1 else f"last {self.reinit_layers} layers"
        by = f" by {self.adversarial_size:g}" if self.adversarial_size else ""
        told = {
            "the encoder frozen": self.freeze,
            f"layers unfrozen over {self.unfreeze or 0:.0%} of the run": self.unfreeze,
            f"the {last} begun anew": self.reinit_layers,
            f"mixout {self.mixout:g}": self.mixout,
            f"embeddings disturbed{by} ({self.adversarial})": self.adversarial,
            f"R-Drop {self.r_drop:g}": self.r_drop,
            f"LoRA of rank {self.lora} on {', '.join(self.lora_targets or ('queries', 'values'))}": self.lora,
        }
        return [words for words, done in told.items() if done]

    def identity(self) -> dict[str, Any]:
        """What a run's numbers depend on, as JSON can hold it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def _check(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise BothwaysError(f"{name} must be {wanted}, not {getattr(self, name)!r}")
