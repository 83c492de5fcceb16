"""From the names of objectives to examples, targets and losses.

``OBJECTIVES`` says for each name what makes it and which sequences it wants; a new objective is one file and one line
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError, closest
from bothways.learn.objectives.blocks import Blocks
from bothways.learn.objectives.distil.lesson import DISTIL_WEIGHTS, Lesson, distil, minilm, tinybert
from bothways.learn.objectives.masking import masking_of
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.nsp import NextSentence
from bothways.learn.objectives.pairs import PairKind, Pairs
from bothways.learn.objectives.protocol import EncoderObjective, Key, Rewriter, Targets, Together
from bothways.learn.objectives.rtd import WEIGHT, discriminator_of, generator_of
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
        before: From settings and tokenizer to what changes the batch first and learns something itself.
        weights: Of its losses where they do not count once.
        compare: From settings, student and teacher to objectives, for a name that learns from a teacher.
    """

    make: Callable[[ObjectiveSettings, Tokenizer], Sequence[EncoderObjective]] = lambda settings, tokenizer: ()
    pairs: PairKind | None = None
    before: Callable[[ObjectiveSettings, Tokenizer], Rewriter] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    compare: Callable[[ObjectiveSettings, Lesson], Sequence[EncoderObjective]] | None = None


def _masked_tokens(settings: ObjectiveSettings, tokenizer: Tokenizer) -> list[EncoderObjective]:
    order, decoder = settings.mask_order or "at-once", settings.mask_decoder or "plain"
    return [MaskedTokens(masking_of(settings, tokenizer), decoder, order)]


OBJECTIVES = {
    "mlm": Wanted(_masked_tokens),
    "nsp": Wanted(lambda settings, tokenizer: [NextSentence()], pairs="random"),
    "sop": Wanted(lambda settings, tokenizer: [SentenceOrder()], pairs="swapped"),
    "rtd": Wanted(discriminator_of, before=generator_of, weights={"rtd": WEIGHT}),
    "distil": Wanted(compare=distil, weights=DISTIL_WEIGHTS),
    "minilm": Wanted(compare=minilm),
    "tinybert": Wanted(compare=tinybert),
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


def check_objectives(settings: ObjectiveSettings) -> None:
    """Refuses objectives that do not exist or do not go together, before anything is made for them.

    Raises:
        BothwaysError: The sentence says which.
    """
    for name in settings.parts:
        if name not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise BothwaysError(
                f"there is no objective {name!r}; there are {known}, joined by +{closest(name, OBJECTIVES)}"
            )
    wanted = {name: OBJECTIVES[name] for name in settings.parts}
    pairs = [name for name, each in wanted.items() if each.pairs]
    if len(pairs) > 1:
        raise BothwaysError(f"{settings.objective}: {' and '.join(pairs)} want different pairs; choose one of them")
    if pairs and settings.sequences != "blocks":
        raise BothwaysError(
            f"{settings.objective} learns from pairs of texts, which cannot be {settings.sequences}; choose the "
            "objective mlm, or leave sequences out"
        )
    if "mlm" in wanted and any(each.before for each in wanted.values()):
        raise BothwaysError(f"{settings.objective}: the generator of rtd learns mlm already; leave mlm out")


def recipe(settings: ObjectiveSettings, corpus: Corpus, lesson: Lesson | None = None) -> Recipe:
    """Puts a composition together.

    Args:
        settings: What is to be learned.
        corpus: From what.
        lesson: Student and teacher, where there is a teacher.

    Raises:
        BothwaysError: There is no such objective, they do not go together, or the corpus does not support them.
    """
    check_objectives(settings)
    wanted = [OBJECTIVES[name] for name in settings.parts]
    objectives = [one for each in wanted for one in each.make(settings, corpus.tokenizer)]
    objectives += [one for each in wanted if lesson and each.compare for one in each.compare(settings, lesson)]
    before = next((each.before(settings, corpus.tokenizer) for each in wanted if each.before), None)
    weights = {name: weight for each in wanted for name, weight in each.weights.items()} | dict(settings.loss_weights)
    _check_weights([*(before.names if before else ()), *(objective.name for objective in objectives)], settings)
    examples = _examples(settings, wanted, corpus)
    teacher = lesson.running(settings, objectives, corpus, len(examples)) if lesson else None
    return Recipe(settings, examples, Together(objectives, weights, before, teacher))


def _check_weights(known: Sequence[str], settings: ObjectiveSettings) -> None:
    for name in settings.loss_weights:
        if name not in known:
            raise BothwaysError(
                f"there is no loss {name!r} to weigh; there are {', '.join(known)}{closest(name, known)}"
            )


def _examples(settings: ObjectiveSettings, wanted: Sequence[Wanted], corpus: Corpus) -> Blocks | Pairs | WholeSentences:
    length, tokenizer = settings.max_length, corpus.tokenizer
    kind = next((each.pairs for each in wanted if each.pairs), None)
    if kind:
        return Pairs(corpus, length, tokenizer, kind=kind, seed=settings.seed)
    if settings.sequences == "blocks":
        return Blocks(corpus, length, tokenizer)
    return WholeSentences(corpus, length, tokenizer, across_documents=settings.sequences == "full-sentences")
