"""What the models of a server can be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, closest
from bothways.run.answering.zero_shot import ENTAILS
from bothways.run.task import TASK_HEADS

if TYPE_CHECKING:
    from bothways.run.questions import Questions

QUESTIONS = ("embed", "classify", "zero_shot", "score", "rerank", "tag", "answer", "choose", "fill", "sparse")


@dataclass(frozen=True)
class Offered:
    """A model of a server.

    Attributes:
        name: How requests call it.
        model: What answers.
        questions: What it can be asked, of `QUESTIONS`.
    """

    name: str
    model: Questions
    questions: tuple[str, ...]

    @classmethod
    def of(cls, name: str, model: Questions) -> Offered:
        """A model with all that it can be asked."""
        return cls(name, model, tuple(each for each in QUESTIONS if each in _asked(model)))


def _asked(model: Questions) -> set[str]:
    heads = model.head_configs
    found = {"embed"} | {kind for kind in ("tag", "answer", "choose") if kind in heads}
    if "mlm" in heads:
        found.add("fill")
    if "sparse" in model.decoding:
        found |= {"sparse", "rerank"}
    if "late" in heads:
        found.add("rerank")
    if (head := heads.get("classify")) is not None:
        if head.problem == "scores":
            found |= {"score", "rerank"}
        else:
            found |= {"classify"} | ({"rerank"} if len(head.labels) == 2 and model.task == "pairs" else set())
            if any(label.lower() in ENTAILS for label in head.labels):
                found.add("zero_shot")
    return found


class Offer:
    """All models of a server.

    Args:
        models: By name.

    Raises:
        BothwaysError: There is none.
    """

    def __init__(self, models: Mapping[str, Questions]) -> None:
        if not models:
            raise BothwaysError("there is no model to serve")
        self.models = {name: Offered.of(name, model) for name, model in models.items()}

    @property
    def questions(self) -> tuple[str, ...]:
        """What some model can be asked."""
        return tuple(each for each in QUESTIONS if self._who(each))

    def find(self, question: str, name: str | None) -> Offered:
        """The model that answers.

        Args:
            question: Of `QUESTIONS`.
            name: Which is asked for; None where the question decides.

        Raises:
            BothwaysError: There is no such model, it cannot be asked that, or several can.
        """
        able = self._who(question)
        if name is None:
            if len(able) == 1:
                return able[0]
            names = ", ".join(one.name for one in able)
            raise BothwaysError(f'several models here answer {path_of(question)}: say which as "model": one of {names}')
        if name not in self.models:
            raise BothwaysError(f"there is no model {name!r} here{closest(name, self.models)}; there are {self._all()}")
        if question not in self.models[name].questions:
            can = ", ".join(map(path_of, self.models[name].questions))
            raise BothwaysError(f"{name} does not answer {path_of(question)}; it answers {can}")
        return self.models[name]

    def _who(self, question: str) -> list[Offered]:
        able = [one for one in self.models.values() if question in one.questions]
        if question == "embed":
            return _without_tasks(able) or able
        return able

    def _all(self) -> str:
        return ", ".join(self.models)


def _without_tasks(models: Iterable[Offered]) -> list[Offered]:
    return [one for one in models if not set(TASK_HEADS) & set(one.model.head_configs)]


def path_of(question: str) -> str:
    """Where a question is asked: ``/zero-shot``."""
    return "/" + question.replace("_", "-")
