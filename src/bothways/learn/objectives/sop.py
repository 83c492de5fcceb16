"""Sentence order prediction (Lan et al. 2019, "ALBERT", section 3.1): are two neighbouring texts in their order?

Topic, which mostly decides whether one text follows another, does not tell it: both texts are from the same place. The
pairs are formed with the examples (`pairs`), and learned from as those of next sentences are.

Shapes: S sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

from bothways.learn.objectives.nsp import NextSentence


@dataclass(frozen=True)
class SentenceOrder(NextSentence):
    """The objective; its target ``sop.labels`` ``(S,)`` is 0 where the texts stand in order, 1 where not."""

    name = "sop"
    heads = ("sop",)
