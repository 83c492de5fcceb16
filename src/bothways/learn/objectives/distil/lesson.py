"""Who teaches whom, and what: from the names of objectives to losses that compare, and to a teacher at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from bothways.errors import BothwaysError
from bothways.learn.objectives.distil.cache import Shape, TeacherCache
from bothways.learn.objectives.distil.layers import layer_to_layer
from bothways.learn.objectives.distil.relations import Relations, relation_heads
from bothways.learn.objectives.distil.soft import Cosine, SoftTargets
from bothways.learn.objectives.distil.teacher import RunningTeacher, identity_of
from bothways.learn.objectives.protocol import EncoderObjective
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.processes import here
from bothways.model.config import EncoderConfig
from bothways.progress import say
from bothways.run.model import Model
from bothways.text.shards import Corpus

DISTIL_WEIGHTS = {"soft": 5.0, "cosine": 1.0, "mlm": 2.0}
"""Of DistilBERT's three losses in its published training; its paper does not state them."""
COMPARING = ("distil", "minilm", "tinybert")
"""Names of objectives that neither mask nor pair: with these alone an example is the same in every epoch."""


@dataclass(frozen=True)
class Lesson:
    """A student and its teacher.

    Attributes:
        teacher: Where the student lies.
        student: What it is.
        bf16: Whether the run computes in bf16.
    """

    teacher: Model
    student: EncoderConfig
    bf16: bool = False

    @cached_property
    def identity(self) -> str:
        """A hash of the teacher's weights."""
        return identity_of(self.teacher)

    def running(
        self, settings: ObjectiveSettings, objectives: Sequence[EncoderObjective], corpus: Corpus, examples: int
    ) -> RunningTeacher:
        """The teacher at work, with its cache if one is asked for.

        Args:
            settings: Of the run.
            objectives: All; those that compare say which hidden states they read.
            corpus: Which the examples are cut from.
            examples: How many there are.

        Raises:
            BothwaysError: The student's inputs never come again, or the cache cannot be used.
        """
        layers = self.teacher.config.layers
        if settings.max_length > (self.teacher.config.longest or settings.max_length):
            raise BothwaysError(
                f"max_length is {settings.max_length}, but the teacher takes at most {self.teacher.config.longest} "
                "tokens; cut sequences to that"
            )
        reads = {place % (layers + 1) for one in objectives for place in getattr(one, "reads", ())}
        if settings.teacher_cache is None:
            return RunningTeacher(self.teacher, reads)
        shape = Shape(copies_of(settings), examples, settings.max_length, len(reads), self.teacher.config.width)
        depends = _inputs(settings) | {
            "teacher": self.identity,
            "corpus": corpus.fingerprint,
            "hidden states": sorted(reads),
        }
        opened = partial(TeacherCache, settings.teacher_cache, shape, depends, bf16=self.bf16)
        return RunningTeacher(self.teacher, reads, here().in_turn(opened, opened))  # who makes its files does so alone


def check_teacher(settings: ObjectiveSettings, teacher: Model) -> None:
    """Makes sure that a teacher has what its student is to learn.

    Raises:
        BothwaysError: It has no masked-token head, or places are to be compared that nothing masks.
    """
    if "distil" not in settings.parts:
        return
    if "mlm" not in teacher.heads:
        raise BothwaysError(
            f"distil compares guesses of tokens, and {teacher.name} has no head for them; learn from it by minilm"
        )
    if settings.soft_targets == "masked" and "mlm" not in settings.parts:
        raise BothwaysError("soft targets of masked tokens need masked tokens: take the objective mlm+distil")


def distil(settings: ObjectiveSettings, lesson: Lesson) -> list[EncoderObjective]:
    """DistilBERT's soft targets and cosine; its masked tokens are ``mlm``.

    Raises:
        BothwaysError: As `check_teacher` says.
    """
    teacher, student = lesson.teacher, lesson.student
    check_teacher(settings, teacher)
    soft = SoftTargets(
        teacher.heads["mlm"],  # type: ignore[arg-type]
        teacher.tokenizer.size,
        settings.temperature,
        settings.soft_targets,
        decoders=(settings.mask_decoder or "plain", teacher.head_configs["mlm"].decoder),
    )
    if student.width == teacher.config.width:
        return [soft, Cosine()]
    widths = f"the student is {student.width} wide, its teacher {teacher.config.width}"
    if settings.loss_weights.get("cosine"):
        raise BothwaysError(f"cosine compares hidden states of one width, but {widths}; leave its weight out")
    say(f"The cosine of hidden states is left out: {widths}")
    return [soft]


def minilm(settings: ObjectiveSettings, lesson: Lesson) -> list[EncoderObjective]:
    """MiniLM's relations.

    Raises:
        BothwaysError: There is no such layer, or the relation heads do not divide both widths.
    """
    teacher = lesson.teacher.config
    layer = teacher.layers if settings.teacher_layer is None else settings.teacher_layer
    if not 1 <= layer <= teacher.layers:
        raise BothwaysError(f"there is no layer {layer} in a teacher with {teacher.layers}, which count from 1")
    heads = relation_heads(settings.relation_heads, lesson.student.width, teacher.width)
    return [Relations(layer - 1, heads)]


def tinybert(settings: ObjectiveSettings, lesson: Lesson) -> list[EncoderObjective]:
    """TinyBERT's layers.

    Raises:
        BothwaysError: The layers or heads of student and teacher do not go together.
    """
    return [*layer_to_layer(lesson.student, lesson.teacher.config)]


def copies_of(settings: ObjectiveSettings) -> int:
    """In how many ways an example comes, where what a teacher makes of it is to be kept.

    Raises:
        BothwaysError: It comes in another way every time.
    """
    others = [name for name in settings.parts if name not in COMPARING]
    if "rtd" in others:
        raise BothwaysError("teacher_cache keeps what comes again, and a generator never writes the same; leave it out")
    if settings.static_masks is None and others:
        raise BothwaysError(
            f"teacher_cache keeps what comes again, but {' and '.join(others)} makes each epoch's examples anew; give "
            "static_masks, in how many ways they are made, or leave teacher_cache out"
        )
    return (settings.static_masks or 1) if others else 1


def _inputs(settings: ObjectiveSettings) -> dict[str, Any]:
    """The settings that decide what the teacher sees."""
    known = settings.identity()
    names = ["max_length", "sequences"]
    changed = [name for name in settings.parts if name not in COMPARING]
    names += ["mask_rate", "mask_unit", "static_masks", "seed"] if changed else []
    # pairs made before held-out texts were kept apart are others: a cache of them is not taken for today's
    kept_apart = {"held out": "apart"} if "nsp" in changed else {}
    return {name: known[name] for name in names} | {"made by": changed} | kept_apart
