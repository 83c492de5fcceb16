"""What a pre-training run learns from its corpus: one frozen value that refuses what makes no sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from bothways.errors import BothwaysError, closest
from bothways.learn.objectives.choices import GeneratorTables, MaskDecoder, MaskOrder, MaskUnit, Sequences, SoftTargets


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The settings. Values that make no sense raise a BothwaysError that names them.

    Attributes:
        objective: Names joined by ``+``, such as ``mlm+nsp``.
        loss_weights: Of the losses in their sum, by name, where they are not to count as they usually do.
        max_length: The most tokens in a sequence.
        sequences: How sequences are cut where no objective wants pairs: ``"blocks"`` of running text;
            ``"full-sentences"`` or ``"doc-sentences"``, whole sentences across or within documents (Liu et al. 2019,
            "RoBERTa", section 4.2).
        mask_rate: Share of the tokens that are to be guessed; None for what the objective's paper takes.
        mask_rate_end: Its value at the end of the run, reached evenly; None keeps it.
        mask_unit: What is masked as a whole: ``"token"``, ``"word"`` or ``"span"``.
        static_masks: Copies of the corpus with masks (and pairs) of their own that the epochs go round, as BERT's ten;
            None makes new ones in every epoch.
        mask_order: ``"at-once"``, each masked token is guessed without the others; ``"permuted"``, one after the other
            in random order (Song et al. 2020, "MPNet"); None does as the family's paper.
        mask_decoder: ``"enhanced"`` for DeBERTa's, ``"plain"``; None does as the family's paper.
        generator_size: Width of ELECTRA's generator as a share of its discriminator's; None for a quarter.
        generator_tables: What it shares with the discriminator: ``"shared"`` tables, ``"disentangled"`` ones
            (DeBERTaV3), or each has its ``"own"``; None does as the family's paper.
        temperature: Of soft targets.
        soft_targets: Of ``"all"`` tokens or of the ``"masked"`` ones.
        relation_heads: Into how many MiniLM cuts queries, keys and values; None for what suits both widths.
        teacher_layer: The teacher's layer that MiniLM learns from, counted from 1; None for the last.
        teacher_cache: A folder in which the teacher's outputs are kept.
        seed: Of all random choices.
    """

    objective: str = "mlm+nsp"
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    max_length: int = 128
    sequences: Sequences = "blocks"
    mask_rate: float | None = None
    mask_rate_end: float | None = None
    mask_unit: MaskUnit = "token"
    static_masks: int | None = None
    mask_order: MaskOrder | None = None
    mask_decoder: MaskDecoder | None = None
    generator_size: float | None = None
    generator_tables: GeneratorTables | None = None
    temperature: float = 2.0
    soft_targets: SoftTargets = "all"
    relation_heads: int | None = None
    teacher_layer: int | None = None
    teacher_cache: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in (known := get_args(choices)):
                raise BothwaysError(f"{name} must be {' or '.join(known)}, not {value!r}{closest(str(value), known)}")
        for name in ("mask_rate", "mask_rate_end"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise BothwaysError(f"the masking rate must be between 0 and 1, not {rate}")
        if self.static_masks is not None and self.mask_rate_end is not None:
            raise BothwaysError(
                "static masks are made once, so their rate cannot change in the course of a run; leave out "
                "mask_rate_end or static_masks"
            )
        self._check("static_masks", self.static_masks is None or self.static_masks >= 1, "1 or more")
        self._check("generator_size", self.generator_size is None or 0 < self.generator_size <= 1, "above 0, at most 1")
        self._check("temperature", self.temperature > 0, "above 0")
        for name in ("relation_heads", "teacher_layer"):
            self._check(name, getattr(self, name) is None or getattr(self, name) >= 1, "1 or more")
        for name, weight in self.loss_weights.items():
            if not weight >= 0:
                raise BothwaysError(f"the weight of a loss must be 0 or more, not {weight} ({name})")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names in the objective, in alphabetical order."""
        return tuple(sorted({part.strip() for part in self.objective.split("+")}))

    def identity(self) -> dict[str, Any]:
        """What a run's numbers depend on, as JSON can hold it."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "teacher_cache"}
        if self.mask_order != "permuted":
            del values["mask_order"]  # as of runs that had no choice
        return values | {"objective": "+".join(self.parts), "loss_weights": dict(self.loss_weights)}

    def _check(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise BothwaysError(f"{name} must be {wanted}, not {getattr(self, name)!r}")


def as_weights(given: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    """Weights by name, from a mapping or from texts such as ``"rtd=50"``.

    Raises:
        BothwaysError: A text is not of that form.
    """
    if isinstance(given, Mapping):
        return dict(given)
    weights = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise BothwaysError(
                f"the weight of a loss is written as NAME=NUMBER, such as rtd=50, not {text!r}"
            ) from None
    return weights


def as_texts(weights: Mapping[str, float]) -> list[str]:
    """Weights as they are typed."""
    return [f"{name}={weight:g}" for name, weight in weights.items()]


_CHOICES = {
    "sequences": Sequences,
    "mask_unit": MaskUnit,
    "mask_order": MaskOrder,
    "mask_decoder": MaskDecoder,
    "generator_tables": GeneratorTables,
    "soft_targets": SoftTargets,
}
