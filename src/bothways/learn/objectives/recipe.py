"""From the names of objectives to examples, targets and losses.

``OBJECTIVES`` says for each name what makes it and which sequences it wants; a new objective is one file and one line
there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError, closest
from bothways.learn.objectives.blocks import Blocks
from bothways.learn.objectives.masking import masking_of
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.nsp import NextSentence
from bothways.learn.objectives.pairs import PairKind, Pairs
from bothways.learn.objectives.protocol import EncoderObjective, Key, Targets, Together
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.objectives.sop import SentenceOrder
from bothways.learn.objectives.whole_sentences import WholeSentences
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Wanted:
    """What a name on the command line stands for.

    Attributes:
        make: From settings and tokenizer to objectives.
        pairs: The pairs that it needs, if it needs any.
    """

    make: Callable[[ObjectiveSettings, Tokenizer], Sequence[EncoderObjective]]
    pairs: PairKind | None = None


def _masked_tokens(settings: ObjectiveSettings, tokenizer: Tokenizer) -> list[EncoderObjective]:
    return [MaskedTokens(masking_of(settings, tokenizer))]


OBJECTIVES = {
    "mlm": Wanted(_masked_tokens),
    "nsp": Wanted(lambda settings, tokenizer: [NextSentence()], pairs="random"),
    "sop": Wanted(lambda settings, tokenizer: [SentenceOrder()], pairs="swapped"),
}


@dataclass(frozen=True)
class Recipe:
    """A composition of objectives over a corpus.

    Attributes:
        settings: What it was made from.
        examples: The sequences, numbered.
        together: The losses.
    """

    settings: ObjectiveSettings
    examples: Blocks | Pairs | WholeSentences
    together: Together

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of the encoder that are trained."""
        return tuple(dict.fromkeys(head for objective in self.together.objectives for head in objective.heads))

    def finish(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """The batch as the encoder is to see it, with the targets of all objectives."""
        targets: Targets = {}
        for objective in self.together.objectives:
            batch, own = objective.prepare(batch, keys, examples, progress)
            targets |= own
        return batch, targets


def recipe(settings: ObjectiveSettings, corpus: Corpus) -> Recipe:
    """Puts a composition together.

    Raises:
        BothwaysError: There is no such objective, they do not go together, or the corpus does not support them.
    """
    wanted = [_wanted(name) for name in settings.parts]
    objectives = [one for each in wanted for one in each.make(settings, corpus.tokenizer)]
    known = [objective.name for objective in objectives]
    for name in settings.loss_weights:
        if name not in known:
            raise BothwaysError(
                f"there is no loss {name!r} to weigh{closest(name, known)}; there are {', '.join(known)}"
            )
    return Recipe(settings, _examples(settings, wanted, corpus), Together(objectives, settings.loss_weights))


def _wanted(name: str) -> Wanted:
    if name not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise BothwaysError(
            f"there is no objective {name!r}{closest(name, OBJECTIVES)}; there are {known}, joined by +"
        )
    return OBJECTIVES[name]


def _examples(settings: ObjectiveSettings, wanted: Sequence[Wanted], corpus: Corpus) -> Blocks | Pairs | WholeSentences:
    length, tokenizer = settings.max_length, corpus.tokenizer
    kinds = {each.pairs for each in wanted if each.pairs}
    if len(kinds) > 1:
        raise BothwaysError(f"{settings.objective}: nsp and sop want different pairs; choose one of them")
    if kinds and settings.sequences != "blocks":
        raise BothwaysError(
            f"{settings.objective} learns from pairs of texts, which cannot be {settings.sequences}; choose the "
            "objective mlm, or leave sequences out"
        )
    if kinds:
        return Pairs(corpus, length, tokenizer, kind=kinds.pop(), seed=settings.seed)
    if settings.sequences == "blocks":
        return Blocks(corpus, length, tokenizer)
    return WholeSentences(corpus, length, tokenizer, across_documents=settings.sequences == "full-sentences")
