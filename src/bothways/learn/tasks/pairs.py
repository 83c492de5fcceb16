"""Classification of pairs of texts: entailment, paraphrase, duplicates (Devlin et al. 2018, section 4.1).

A pair is read as ``[CLS] A [SEP] B [SEP]`` with a segment each where the family has segments; what is too long is cut
at its longer text first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bothways.errors import BothwaysError
from bothways.learn.tasks.classify import Classify
from bothways.learn.tasks.labelled import LabelledTexts, read_labelled


@dataclass(frozen=True, kw_only=True)
class Pairs(Classify):
    """Pairs of texts into classes, with a setting beside those of `Classify`.

    Attributes:
        symmetric: Whether the order of a pair is to mean nothing, as for paraphrases: both orders are learned, and the
            answer is the mean of both.
    """

    symmetric: bool = False
    name = "pairs"
    metrics = ("accuracy", "macro_f1", "mcc")

    def read(self, source: Any) -> LabelledTexts:
        """Rows of two texts and labels.

        Raises:
            BothwaysError: There is only one column of texts, or a row does not do.
        """
        return need_pairs(read_labelled(source, self.reading()), "finetune classify")


def need_pairs(data: LabelledTexts, instead: str) -> LabelledTexts:
    """The data, if they are pairs.

    Raises:
        BothwaysError: They are single texts.
    """
    if data.pairs is None:
        raise BothwaysError(
            f"{data.name} has one column that looks like a text, and pairs need two: name both with --text and "
            f"--text-pair (in Python text=..., text_pair=...), or use {instead} for single texts"
        )
    return data
