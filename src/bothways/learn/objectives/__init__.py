"""What an encoder can learn from raw text; each objective is one small file.

``mlm`` and ``mlm+nsp`` are names of compositions: `recipe` turns such a name into examples, targets and losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError, closest
from bothways.learn.objectives.examples import Blocks, Pairs
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.nsp import NextSentence
from bothways.learn.objectives.protocol import EncoderObjective, Key, Targets, Together
from bothways.text.shards import Corpus

OBJECTIVES = ("mlm", "mlm+nsp")


@dataclass(frozen=True)
class Recipe:
    """A composition of objectives over a corpus.

    Attributes:
        name: As it was asked for.
        examples: The sequences, numbered.
        masking: What masks them.
        together: The losses.
        heads: The heads that are trained.
    """

    name: str
    examples: Blocks | Pairs
    masking: MaskedTokens
    together: Together
    heads: tuple[str, ...]

    def finish(self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]]) -> tuple[TokenBatch, Targets]:
        """Masks a batch and puts all targets beside it."""
        batch, targets = self.masking.prepare(batch, keys)
        if "nsp" in self.heads:
            targets["nsp.labels"] = np.array([example[2] for example in examples], dtype=np.int64)
        return batch, targets


def recipe(name: str, corpus: Corpus, length: int, *, mask_rate: float = 0.15, seed: int = 0) -> Recipe:
    """Puts a composition together.

    Args:
        name: One of `OBJECTIVES`; the order of its parts does not matter.
        corpus: What is learned from.
        length: The most tokens in a sequence.
        mask_rate: Share of the tokens that are to be guessed.
        seed: Of masks and pairs.

    Raises:
        BothwaysError: There is no such composition, or the corpus does not support it.
    """
    parts = sorted(name.replace(" ", "").split("+"))
    if "+".join(parts) not in OBJECTIVES:
        raise BothwaysError(
            f"there is no objective {name!r}{closest(name, OBJECTIVES)}; there are {', '.join(OBJECTIVES)}"
        )
    if not 0 < mask_rate < 1:
        raise BothwaysError(f"the masking rate must be between 0 and 1, not {mask_rate}")
    masking = MaskedTokens.of(corpus.tokenizer, mask_rate, seed)
    objectives: list[EncoderObjective] = [masking]
    examples: Blocks | Pairs
    if "nsp" in parts:
        objectives.append(NextSentence())
        examples = Pairs(corpus, length, corpus.tokenizer, seed=seed)
    else:
        examples = Blocks(corpus, length, corpus.tokenizer)
    return Recipe(name, examples, masking, Together(objectives), tuple(objective.head for objective in objectives))
