"""Which of several texts goes best with a prompt (Devlin et al. 2018, section 4.4).

Shapes: S sequences, one a choice; G prompts; C the most choices of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward, Loss, Targets, class_loss
from bothways.learn.tasks.guessing import NEVER, Guessing, sequences_of_examples
from bothways.learn.tasks.labelled import digest
from bothways.learn.tasks.protocol import Examined, Judged
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.run.answering.choose import check_no_windows, choice_probabilities
from bothways.run.model import Model
from bothways.text.choices import Choosing, read_choices
from bothways.text.encoded import Encoded
from bothways.text.question_files import name_of


@dataclass(frozen=True)
class Choices:
    """Prompts with the texts to choose from.

    Attributes:
        rows: Each with its label.
        name: Where they came from, for messages.
    """

    rows: list[Choosing]
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> Choices:
        """Some of them, in the order given."""
        return Choices([self.rows[place] for place in places], name)

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of all that is read and learned."""
        found = digest((self.inputs(), [str((row.choices, row.label)) for row in self.rows]))
        return {"name": self.name, "examples": len(self), "sha256": found}

    def inputs(self) -> list[str]:
        """Each prompt above its choices, as one text."""
        return ["\n".join((row.prompt, *row.choices)) for row in self.rows]

    def truths(self) -> list[str]:
        """The right choices."""
        return [row.choices[row.label] for row in self.rows if row.label is not None]

    def class_counts(self) -> dict[str, int]:
        """Nothing: choices are no classes."""
        return {}

    def labels(self) -> np.ndarray:
        """``(G,)`` the place of each right choice."""
        return np.array([row.label for row in self.rows], dtype=np.int64)


class ChoiceExamples:
    """Prompts with their choices as sequences that stay together: what a `Stream` reads.

    Args:
        encoded: The choices of all prompts, one after the other.
        counts: ``(G,)`` how many each has.
        labels: ``(G,)`` which is right.
    """

    def __init__(self, encoded: Encoded, counts: Sequence[int], labels: np.ndarray) -> None:
        self.encoded, self.labels = encoded, labels
        self.first = np.concatenate(([0], np.cumsum(counts)))

    def __len__(self) -> int:
        return len(self.labels)

    def sequence(self, epoch: int, number: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], int]:
        """Token ids and segment ids of each choice, and which is right; the same in every epoch."""
        own = range(self.first[number], self.first[number + 1])
        places = [slice(self.encoded.starts[choice], self.encoded.starts[choice + 1]) for choice in own]
        ids = tuple(self.encoded.token_ids[place] for place in places)
        return ids, tuple(self.encoded.segment_ids[place] for place in places), int(self.labels[number])


@dataclass(frozen=True, kw_only=True)
class Choose:
    """Multiple choice, with any number of choices.

    Attributes:
        prompt: The column of prompts; None takes a usual name.
        choices: The column of lists of choices; None takes a usual name, or columns such as ``ending0``.
        label: The column of the right choice; None takes a usual name.
    """

    prompt: str | None = None
    choices: str | None = None
    label: str | None = None
    name = "choose"
    metrics = ("accuracy",)

    def read(self, source: Any) -> Choices:
        """Rows of a prompt, its choices, and which is right."""
        if isinstance(source, Choices):
            return source
        return Choices(list(read_choices(source, self.prompt, self.choices, self.label)), name_of(source))

    def split(self, data: Choices, share: float, seed: int) -> tuple[Choices, Choices]:
        """Rows by chance."""
        held = np.sort(generator("split", seed).permutation(len(data))[: max(1, round(share * len(data)))])
        kept = np.setdiff1d(np.arange(len(data)), held)
        return data.take(kept, data.name), data.take(held, f"the part of {data.name} held out")

    def heads(self, start: Model, train: Choices) -> list[HeadConfig]:
        """One score a choice."""
        return [family(start.config.family).head("choose")]

    def begin(self, model: Model, train: Choices) -> str:
        """Says how many choices there are."""
        check_no_windows(model)
        counts = sorted({len(row.choices) for row in train.rows})
        return f"{counts[0]} choices each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} choices each"

    def examples(self, model: Model, data: Choices, seed: int = 0) -> ChoiceExamples:
        """One a prompt, with all its choices."""
        counts = [len(row.choices) for row in data.rows]
        prompts = [row.prompt for row in data.rows for _ in row.choices]
        encoded = model.encode(prompts, [text for row in data.rows for text in row.choices])
        return ChoiceExamples(encoded, counts, data.labels())

    def numbers(self, examples: ChoiceExamples, seed: int) -> np.ndarray | None:
        """Each prompt once."""
        return None

    def objective(self, model: Model, train: Choices, seed: int = 0) -> LearnChoices:
        """Which choice is right."""
        return LearnChoices(model.mark)

    def finish(self, model: Model, dev: Choices) -> str:
        """Nothing is fitted."""
        return ""

    def examine(self, model: Model, data: Choices) -> Examined:
        """Asks the model."""
        return judge_choices(
            data, choice_probabilities(model, [row.prompt for row in data.rows], [row.choices for row in data.rows])
        )

    def baselines(self, train: Choices, test: Choices) -> dict[str, Examined]:
        """The longest choice, and the one that shares most words with its prompt."""
        longest = [np.array([len(text) for text in row.choices]) for row in test.rows]
        shared = [np.array([word_overlap(row.prompt, text) for text in row.choices]) for row in test.rows]
        return {
            name: judge_choices(test, [np.eye(len(one), dtype=np.float32)[one.argmax()] for one in scores])
            for name, scores in (("longest choice", longest), ("word overlap", shared))
        }


def judge_choices(data: Choices, probabilities: Sequence[np.ndarray]) -> Examined:
    """Choices beside the right ones.

    Args:
        data: G prompts.
        probabilities: For each those of its choices.

    Raises:
        BothwaysError: There is nothing to judge.
    """
    if not len(data):
        raise BothwaysError("there is nothing to score: the data hold no prompt")
    right = data.labels()
    guessed = np.array([int(shares.argmax()) for shares in probabilities])
    hits = (guessed == right).astype(np.float64)
    rows = [
        Judged(text, row.choices[wanted], row.choices[guess], hit, float(shares[guess]), float(shares[wanted]))
        for text, row, wanted, guess, hit, shares in zip(
            data.inputs(), data.rows, right, guessed, hits.tolist(), probabilities, strict=True
        )
    ]
    chance = float(np.mean([1 / len(row.choices) for row in data.rows]))
    scores = {"accuracy": float(hits.mean()), "chance": chance, "examples": len(data)}
    return Examined(scores, rows, lambda places: {"accuracy": float(hits[places].mean())})


def word_overlap(prompt: str, choice: str) -> float:
    """Share of a choice's words that stand in its prompt."""
    words = choice.lower().split()
    return len(set(words) & set(prompt.lower().split())) / max(1, len(set(words)))


@dataclass(frozen=True)
class LearnChoices(Guessing):
    """Cross-entropy over the choices of each prompt.

    Targets: ``choose.labels`` ``(G,)``, and ``choose.sequences`` ``(G, C)``, the place in the batch of each choice, -1
    where a prompt has fewer.
    """

    name = "choose"
    heads = ("choose",)

    def targets(self, batch: TokenBatch, examples: list[Sequence[Any]]) -> Targets:
        """Which sequences of a batch are choices of one prompt, however they were put in order of length."""
        table, found = sequences_of_examples(batch, examples)
        labels = [example[2] for example in found]
        return {"choose.labels": np.array(labels, dtype=np.int64), "choose.sequences": table}

    def count(self, targets: Targets) -> int:
        """G, the number of prompts."""
        return len(targets["choose.labels"])

    def looks_at(self, model: nn.ModuleDict, batch: TokenBatch, targets: Targets) -> np.ndarray | None:
        """Those that its head looks at."""
        return model["choose"].places(batch.starts)  # type: ignore[operator]

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(G, C)``."""
        scores_S: Tensor = model["choose"](forward.output)
        table = torch.from_numpy(targets["choose.sequences"]).to(scores_S.device)
        return scores_S[table.clamp(min=0)].masked_fill(table < 0, NEVER)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies, float32; ``hits`` counts right choices."""
        return class_loss(self.logits(model, forward, targets), targets["choose.labels"])
