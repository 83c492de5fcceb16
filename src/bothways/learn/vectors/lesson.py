"""What is learned in a step: the losses over its vectors, in memory that does not grow with the step.

All texts of a step go through the encoder in one packed batch, in parts where that holds more tokens than one pass may
(`bothways.learn.vectors.in_parts`).

Shapes: S texts in G groups, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch, make_batch
from bothways.chance import derived_seed
from bothways.learn.objectives.protocol import Key, Loss, Targets
from bothways.learn.protocol import Item
from bothways.learn.utilisation import TRAINED, batch_work
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.gather import attend, gather, part_of
from bothways.learn.vectors.in_parts import LossesOf, Represent, backward_in_parts, evaluate_in_parts
from bothways.learn.vectors.losses.tsdae import ENCODER, PLACES, WHOLE, without_some
from bothways.learn.vectors.step import Mean, Step, VectorLoss, unit
from bothways.model.encoder import Encoder
from bothways.model.heads.sentence import places_pooled, sentence_vectors
from bothways.run.model import Model

STARTS, ORDER, TEXTS, GROUPS = "embed.starts", "embed.order", "embed.texts", "embed.groups"


class LearnVectors:
    """The losses of a run, as the loop asks for them.

    Args:
        model: With the recipe of its vectors.
        data: N groups.
        losses: At least one.
        dims: Further widths that the first values of a vector are to be good for: Matryoshka (Kusupati et al. 2022,
            "Matryoshka Representation Learning", equation 1, all widths alike).
        taught: ``(S, E)`` the teacher's vectors of all texts, if there is one.
        seed: Of what is trained beside the encoder, and of what it does not see of texts.
    """

    def __init__(
        self,
        model: Model,
        data: VectorData,
        losses: Sequence[VectorLoss],
        dims: Sequence[int] = (),
        taught: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        self.losses, self.taught, self._data, self._seed = tuple(losses), taught, data, seed
        self.recipe, self.width = model.sentence, vector_width(model)
        self.dims = (self.width, *sorted(dims, reverse=True))
        self._right = {loss.name: loss.right(data) for loss in losses}
        self._meets = any(loss.meets for loss in losses)
        self._deletion: float | None = next((each.deletion for each in losses if each.name == "tsdae"), None)  # type: ignore[attr-defined]
        self._config = model.config

    def modules(self) -> dict[str, nn.Module]:
        """What losses train beside the encoder, thrown away afterwards."""
        made: dict[str, nn.Module] = {}
        with torch.random.fork_rng(devices=[]):
            for loss in self.losses:
                torch.manual_seed(derived_seed(f"beside {loss.name}", self._seed))
                if loss.name == "tsdae":
                    from bothways.learn.vectors.losses.tsdae import Decoder

                    made[loss.name] = nn.ModuleList(Decoder(self._config, width) for width in self.dims)
                elif hasattr(loss, "module"):
                    made[loss.name] = nn.ModuleList(loss.module(width) for width in self.dims)
        return made

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Says which texts of a batch form which groups, however they were put in order of length."""
        order = np.argsort(batch.rows)  # the sequences as the groups have them
        starts, texts, groups, place = [0], [], [], 0
        while place < len(order):
            at = order[place]
            texts.append(examples[at][2])
            groups.append(keys[at][1])
            place += len(examples[at][2])
            starts.append(place)
        targets: Targets = {
            STARTS: np.array(starts),
            ORDER: order,
            TEXTS: np.concatenate(texts),
            GROUPS: np.array(groups),
        }
        if self._deletion is not None:
            batch, targets = self._with_parts_deleted(batch, keys, examples, targets)
        return batch, targets

    def _with_parts_deleted(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], targets: Targets
    ) -> tuple[TokenBatch, Targets]:
        """What the encoder sees of single texts, and the whole texts beside it."""
        assert self._deletion is not None
        first = targets[ORDER]
        seen = [without_some(examples[at][0][0], self._deletion, self._seed, *keys[at]) for at in first]
        noisy = make_batch(seen)
        return noisy, targets | {ORDER: np.argsort(noisy.rows), WHOLE: batch, PLACES: batch.rows.argsort().argsort()}

    def counts(self, item: Item) -> dict[str, int]:
        """What each loss is a mean over: G, where it says nothing else."""
        return {loss.name: _count(loss, item[1]) for loss in self.losses}

    def work(self, model: nn.ModuleDict, item: Item) -> float:
        """Multiplications of an item's products, as `bothways.learn.utilisation` counts them."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        places = places_pooled(self.recipe.pooling, item[0].starts)
        return TRAINED * batch_work(encoder.config, item[0].plan, None if places is None else len(places))

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of an item to the parameters; in parts where it is too large for one pass."""
        device = next(model.parameters()).device
        return backward_in_parts(item, totals, *self._halves(model, item), device)

    def absent(self, device: torch.device) -> None:
        """What is done in a step of which this process has nothing: others may wait for its vectors."""
        if self._meets:
            attend(device)

    def evaluate(self, model: nn.ModuleDict, item: Item) -> dict[str, float]:
        """The same sums without a gradient."""
        return evaluate_in_parts(item, *self._halves(model, item))

    def _halves(self, model: nn.ModuleDict, item: Item) -> tuple[Represent, LossesOf]:
        """What a step is: from texts to rows, and from rows to losses."""
        return partial(self._vectors, model), partial(self._losses, model, targets=item[1])

    def _vectors(self, model: nn.ModuleDict, batch: TokenBatch) -> Tensor:
        """``(S, E)`` float32, in the order of the batch."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        output = encoder(batch, pooled=False, places=places_pooled(self.recipe.pooling, batch.starts))
        with torch.autocast(output.sequence.device.type, enabled=False):
            dense = model["dense"] if "dense" in model.keys() else None  # noqa: SIM118 (no dictionary)
            vectors_SE = sentence_vectors(output, self.recipe.pooling, dense)
            return unit(vectors_SE) if self.recipe.normalize else vectors_SE

    def _losses(self, model: nn.ModuleDict, vectors_SE: Tensor, targets: Targets) -> dict[str, Loss]:
        """Every loss, over all widths, as a sum over what it is a mean over."""
        device = vectors_SE.device
        own = vectors_SE[torch.from_numpy(targets[ORDER]).to(device)], targets[STARTS], targets[TEXTS]
        whole = _of_all(*own) if self._meets else own
        also = {ENCODER: model["encoder"], **{name: targets[name] for name in (WHOLE, PLACES) if name in targets}}
        found = {}
        for loss in self.losses:
            vectors, starts, texts = whole if loss.meets else own
            taught = None if self.taught is None else torch.from_numpy(np.array(self.taught[texts])).to(device)
            right = self._right[loss.name]
            groups = np.searchsorted(self._data.starts, texts[starts[:-1]], side="right") - 1
            right_G = None if right is None else torch.from_numpy(right[groups]).to(device)
            step = Step(vectors, starts, self._data.ids[texts], right_G, taught, also)
            means = []
            for place, width in enumerate(self.dims):
                beside = model[loss.name][place] if loss.name in model else None  # type: ignore[index]
                means.append(_asked(loss, step if width == self.width else step.cut(width), beside))
            count, hits = len(starts) - 1 if loss.meets else _count(loss, targets), means[0].right
            total = torch.stack([each.loss.float() for each in means]).mean() * count
            summed = Loss(total, None if hits is None else hits.detach().float() * count)
            found[loss.name] = part_of(summed, len(targets[GROUPS]), count) if loss.meets else summed
        return found


def _count(loss: VectorLoss, targets: Targets) -> int:
    """What the mean of a loss goes over in a batch."""
    return loss.count(targets[STARTS], targets) if hasattr(loss, "count") else len(targets[GROUPS])


def _of_all(vectors: Tensor, starts: np.ndarray, texts: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """``(S, E)`` the vectors of all processes, ``(G + 1,)`` where their groups begin, ``(S,)`` which texts they are."""
    vectors, every = gather(vectors, {"sizes": np.diff(starts), "texts": texts})
    sizes, texts = (np.concatenate([each[name] for each in every]) for name in ("sizes", "texts"))
    return vectors, np.concatenate(([0], np.cumsum(sizes))), texts


def _asked(loss: VectorLoss, step: Step, module: nn.Module | None) -> Mean:
    if loss.name == "tsdae":  # runs the encoder's blocks, in the run's precision
        return loss.loss(step, module)
    with torch.autocast(step.vectors.device.type, enabled=False):
        return loss.loss(step, module)


def vector_width(model: Model) -> int:
    """E: how many values a model's vectors have."""
    head = model.head_configs.get("dense")
    return head.outputs if head is not None else model.config.width * (1 + model.sentence.pooling.count("+"))
