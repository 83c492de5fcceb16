"""What a run with a teacher begins with: the teacher, a vocabulary that both have, a student."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from bothways.chance import derived_seed
from bothways.errors import BothwaysError
from bothways.learn.objectives.distil.lesson import COMPARING, Lesson, check_teacher, copies_of
from bothways.learn.objectives.distil.student import begin_with_teacher
from bothways.learn.objectives.distil.teacher import check_tokenizers
from bothways.learn.objectives.protocol import EncoderObjective
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.model.config import EncoderConfig
from bothways.progress import say
from bothways.run.model import Model, load
from bothways.run.precision import resolve_precision
from bothways.text.documents import Source
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer


def find_teacher(teacher: str | Path | Model | None, settings: ObjectiveSettings, device: str | None) -> Model | None:
    """The teacher on the run's device, if one is given.

    Raises:
        BothwaysError: It cannot be opened, lacks what is to be learned, or the objectives do not want one, or want one
            and none is given.
    """
    wanting = [name for name in settings.parts if name in COMPARING]
    if teacher is None:
        if wanting:
            raise BothwaysError(f"{wanting[0]} learns from a teacher; say from which model: teacher=, --teacher")
        if settings.teacher_cache is not None:
            raise BothwaysError("teacher_cache keeps what a teacher makes, and no teacher is given; leave it out")
        return None
    if not wanting:
        raise BothwaysError(
            f"a teacher is given, but {settings.objective} does not learn from one; add {', '.join(COMPARING[:-1])} or "
            f"{COMPARING[-1]} to the objective"
        )
    if settings.teacher_cache is not None:
        copies_of(settings)
    opened = teacher.to(device or teacher.device) if isinstance(teacher, Model) else load(teacher, device=device)
    check_teacher(settings, opened)  # before a corpus is prepared for it
    return opened


def common_tokenizer(known: Tokenizer | None, teacher: Model | None, corpus: Source | Corpus) -> Tokenizer | None:
    """The tokenizer of student and teacher: what is known already, which must be the teacher's, else the teacher's.

    Args:
        known: Given, or of the model to continue with.
        teacher: The teacher, if there is one.
        corpus: Raw text, or a prepared corpus with a tokenizer of its own.

    Raises:
        BothwaysError: The vocabularies differ.
    """
    if teacher is None:
        return known
    if known is not None:
        check_tokenizers(teacher, known, "the vocabulary given")
    if Corpus.lies_in(corpus):
        corpus = Corpus.open(corpus)  # type: ignore[arg-type]
    if isinstance(corpus, Corpus):
        check_tokenizers(teacher, corpus.tokenizer, f"that of the corpus in {corpus.folder}")
    return teacher.tokenizer


def lesson_of(teacher: Model | None, student: EncoderConfig, precision: str) -> Lesson | None:
    """Student and teacher, if there is a teacher."""
    if teacher is None:
        return None
    return Lesson(teacher, student, bf16=resolve_precision(precision, teacher.device).name == "bf16")


def begin(student: Model, lesson: Lesson | None, base: Model | None, from_teacher: bool) -> bool:
    """Gives a student its first weights, and says which.

    Args:
        student: With random weights, or with those of `base`.
        lesson: With its teacher, if there is one.
        base: The model that is continued, if there is one; then its weights stay.
        from_teacher: Whether the student is to begin with its teacher's.

    Returns:
        Whether it begins with the teacher's.
    """
    if lesson is None or not from_teacher:
        return False
    if base is not None:
        say(f"The student begins with the weights of {base.name}")
        return False
    done, sentence = begin_with_teacher(student, lesson.teacher)
    say(sentence)
    return done


def beside(objectives: Iterable[EncoderObjective], seed: int, device: torch.device) -> dict[str, nn.Module]:
    """What objectives train beside the encoder and its heads, by name; it is not saved with the model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("beside", seed))
        made = [one.modules() for one in objectives if hasattr(one, "modules")]
    return {name: module.to(device) for modules in made for name, module in modules.items()}
