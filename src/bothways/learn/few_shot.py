"""Classification from few examples, 8 to 64 a class: the encoder learns from pairs, then a linear classifier is solved.

Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts" (SetFit): vectors of texts of one class are drawn
together, those of two classes apart; from 16 examples hundreds of pairs are made. Logistic regression over the vectors
is the head, so what is saved is an ordinary classifier that reads the mean.

Shapes: S sequences, two a pair; P pairs; D width; C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import TokenBatch, budget_batches, make_batch
from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets
from bothways.learn.stream import Examples
from bothways.learn.tasks.protocol import Data, Task
from bothways.model.config import HeadConfig
from bothways.run.model import Model

_PARTNERS = 20
"""Partners of its class, and as many of others, that each example meets in an epoch (Tunstall et al. 2022, section
4.1)."""
_MOST = 12_800
"""Pairs in an epoch; more would not teach more."""
_BUDGET = 16_384
"""Tokens that are read at once."""
_UNUSED = ("hidden", "class_weights", "focal", "sampler", "label_smoothing", "teacher")


class FewShot:
    """A task of classes, learned from pairs of its examples. Everything else is as the task has it.

    Args:
        task: The task.

    Raises:
        BothwaysError: The task does not have classes, or has settings that pairs know nothing of.
    """

    def __init__(self, task: Task) -> None:
        if task.name != "classify":
            raise BothwaysError(
                f"few_shot learns classes of single texts, so it does not suit {task.name}: use classify"
            )
        for name in _UNUSED:
            if getattr(task, name, None) not in (None, 0, "none"):
                raise BothwaysError(f"few_shot learns from pairs, to which {name} means nothing: leave it away")
        if getattr(task, "reads", None) not in (None, "mean"):
            raise BothwaysError(
                "few_shot compares the means of tokens, so its classifier reads the mean: leave reads away"
            )
        self._task = task
        self._pairs: Pairs | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "_task":  # while it is copied, before it has one
            raise AttributeError(name)
        return getattr(self._task, name)

    def heads(self, start: Model, train: Data) -> list[HeadConfig]:
        """The task's classifier as one linear layer over the mean."""
        heads = [head.derive(reads="mean", hidden="none", hidden_norm=False) for head in self._task.heads(start, train)]
        if heads[0].problem != "one" or getattr(train, "pairs", None) is not None:
            what = "several labels of a text" if heads[0].problem != "one" else "pairs of texts"
            raise BothwaysError(f"{train.name} holds {what}, but few_shot learns one class of each single text")
        return heads

    def begin(self, model: Model, train: Data) -> str:
        """As the task; the classifier does not learn step by step."""
        model.heads["classify"].requires_grad_(False)
        return self._task.begin(model, train)

    def examples(self, model: Model, data: Data, seed: int = 0) -> Pairs:
        """Pairs of the task's examples; the seed decides which."""
        self._pairs = Pairs(self._task.examples(model, data, seed), seed)
        return self._pairs

    def numbers(self, examples: Pairs, seed: int) -> None:
        """Each pair once."""

    def objective(self, model: Model, train: Data, seed: int = 0) -> Contrast:
        """How alike the two texts of a pair are."""
        return Contrast(model)

    def settle(self, model: Model) -> None:
        """Solves the classifier for the encoder as it is now."""
        assert self._pairs is not None
        vectors_SD = _vectors(model, self._pairs.examples)
        weight_CD, bias_C = solved_head(vectors_SD, self._pairs.classes, len(model.labels))
        output: Any = model.heads["classify"].output
        with torch.no_grad():
            output.weight.copy_(torch.from_numpy(weight_CD))
            output.bias.copy_(torch.from_numpy(bias_C))

    def finish(self, model: Model, dev: Data) -> str:
        """Solves the classifier a last time, then as the task."""
        self.settle(model)
        model.heads["classify"].requires_grad_(True)
        return self._task.finish(model, dev)


class Pairs:
    """Pairs of examples, every other one of the same class: what a `Stream` reads.

    Each example is the first of equally many pairs. Its partner is a pure function of seed, epoch and number; where an
    example is alone in its class, its partner of that class is itself under other dropout.

    Args:
        examples: The task's, each one sequence.
        seed: Of the partners.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples, self.seed = examples, seed
        self.classes = np.array([int(examples.sequence(0, number)[2]) for number in range(len(examples))])
        every = np.arange(len(examples))
        self._same = {label: every[self.classes == label] for label in np.unique(self.classes).tolist()}
        self._other = {label: every[self.classes != label] for label in self._same}
        self._order = generator("few-shot-order", seed).permutation(len(examples))
        if len(self._same) < 2:
            raise BothwaysError("few_shot needs examples of two classes at least")

    def __len__(self) -> int:
        return min(2 * _PARTNERS * len(self.classes), _MOST)

    def pair(self, epoch: int, number: int) -> tuple[int, int, bool]:
        """The numbers of two examples, and whether they are of one class."""
        place = (epoch * len(self) + number) // 2  # where an epoch has no pair for some, the next one begins with them
        first, same = int(self._order[place % len(self._order)]), number % 2 == 0
        label = int(self.classes[first])
        partners = self._same[label] if same else self._other[label]
        if same and len(partners) > 1:
            partners = partners[partners != first]
        draw = generator("few-shot", self.seed, epoch, number)
        return first, int(partners[draw.integers(len(partners))]), same

    def sequence(self, epoch: int, number: int) -> tuple[tuple[Any, Any], tuple[Any, Any], float]:
        """Token ids and segment ids of both texts, and 1 if they are of one class, else 0."""
        *places, same = self.pair(epoch, number)
        (a, a_segments, *_), (b, b_segments, *_) = (self.examples.sequence(epoch, place) for place in places)
        return (a, b), (a_segments, b_segments), float(same)


class Contrast:
    """The squared distance between the cosine of two vectors and 1 (one class) or 0 (two classes).

    Reimers and Gurevych 2019 ("Sentence-BERT", section 3) learn from it so. Targets: ``contrast.same`` ``(P,)`` and
    ``contrast.sequences`` ``(P, 2)``, the places in the batch of each pair's texts.

    Args:
        model: It marks the tokens of a batch that are global while a head is at work.
    """

    name = "contrast"
    heads = ()
    hidden = False
    guesses = True

    def __init__(self, model: Model) -> None:
        self._mark = model.mark

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Says which sequences of a batch are pairs, however they were put in order of length."""
        places_P2 = np.argsort(batch.rows).reshape(-1, 2)
        same = np.array([examples[place][2] for place in places_P2[:, 0]], dtype=np.float32)
        return self._mark(batch, "classify"), {"contrast.same": same, "contrast.sequences": places_P2}

    def count(self, targets: Targets) -> int:
        """P, the number of pairs."""
        return len(targets["contrast.same"])

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(P, 1)`` cosines."""
        vectors_SD = forward.output.vectors("mean").float()
        first, second = torch.from_numpy(targets["contrast.sequences"]).to(vectors_SD.device).unbind(1)
        return functional.cosine_similarity(vectors_SD[first], vectors_SD[second])[:, None]

    def distance(self, one: Tensor, other: Tensor, targets: Targets) -> Tensor:
        """The squared difference of cosines."""
        return (one - other).square().sum()

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the squared distances, float32; ``hits`` counts the pairs on the right side of one half."""
        cosines_P = self.logits(model, forward, targets)[:, 0]
        same_P = torch.from_numpy(targets["contrast.same"]).to(cosines_P.device)
        hits = ((cosines_P.detach() > 0.5) == (same_P > 0.5)).sum(dtype=torch.float32)
        return Loss((cosines_P - same_P).square().sum(), hits)


def solved_head(vectors_SD: np.ndarray, classes_S: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression as the linear layer of a head.

    The vectors are scaled to a mean length of 1 first, where a penalty of 1 suits, and the layer is scaled back.

    Args:
        vectors_SD: ``(S, D)`` vectors.
        classes_S: ``(S,)`` their classes.
        count: C; a class that does not occur gets a weight of zero and a bias so low that it is never chosen.

    Returns:
        ``(C, D)`` and ``(C,)`` float32.
    """
    from sklearn.linear_model import LogisticRegression

    scale = max(float(np.linalg.norm(vectors_SD, axis=1).mean()), 1e-12)
    solved = LogisticRegression(C=1.0, max_iter=1000).fit(vectors_SD.astype(np.float64) / scale, classes_S)
    weight, bias = solved.coef_ / scale, solved.intercept_
    if len(solved.classes_) == 2:  # one score tells two classes apart: half of it for one, half against the other
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight_CD = np.zeros((count, vectors_SD.shape[1]), dtype=np.float32)
    bias_C = np.full(count, -1e4, dtype=np.float32)
    weight_CD[solved.classes_], bias_C[solved.classes_] = weight, bias
    return weight_CD, bias_C


def _vectors(model: Model, examples: Examples) -> np.ndarray:
    """``(S, D)`` the mean of the tokens of each example, without gradient or dropout."""
    found = [examples.sequence(0, number) for number in range(len(examples))]
    vectors_SD = np.zeros((len(found), model.config.width), dtype=np.float32)
    training = model.encoder.training
    model.encoder.eval()
    with torch.no_grad():
        for places in budget_batches([len(example[0]) for example in found], _BUDGET):
            batch = make_batch([found[p][0] for p in places], [found[p][1] for p in places], places)
            output = model.encoder(model.mark(batch, "classify"))
            vectors_SD[batch.rows] = output.vectors("mean").float().cpu().numpy()
    model.encoder.train(training)
    return vectors_SD
