"""The settings of fine-tuning that are neither the loop's nor a task's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from bothways.errors import BothwaysError

Adversarial = Literal["sift", "fgm"]


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How an encoder is changed while it is fine-tuned. Contradictions raise a BothwaysError that names them.

    Attributes:
        freeze: Whether only the heads learn.
        unfreeze: Share of the run in which layers begin to learn, from the last to the first (Howard and Ruder 2018,
            ULMFiT, section 3.3); None: all from the beginning.
        reinit_layers: How many of the last layers, and the pooler, begin with random weights (Zhang et al. 2021).
        mixout: Share of weights that are replaced by the pre-trained ones in each step (Lee et al. 2020).
        adversarial: ``"sift"`` (He et al. 2021, DeBERTa, section 4.3) or ``"fgm"`` (Miyato et al. 2017).
        adversarial_size: How large the disturbance is.
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
            object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        self._check("unfreeze", self.unfreeze is None or 0 < self.unfreeze <= 1, "a share above 0, at most 1")
        if self.freeze and self.unfreeze is not None:
            raise BothwaysError("freeze keeps the encoder as it is, unfreeze lets it learn layer by layer: give one")

    def identity(self) -> dict[str, Any]:
        """What a run's numbers depend on, as JSON can hold it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def _check(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise BothwaysError(f"{name} must be {wanted}, not {getattr(self, name)!r}")
