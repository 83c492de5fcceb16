"""What is learned in a step: the losses over its vectors, in memory that does not grow with the step.

All texts of a step go through the encoder in one packed batch. Where that holds more tokens than one pass may, the
vectors are made part by part without gradients first, the losses' gradients with respect to the vectors are computed
for the whole step, and then each part is run again with the same dropout masks and gets its share of them: Gao et al.
2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache). The gradient is that of one
great pass.

Shapes: S texts in G groups, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch, make_batch
from bothways.chance import derived_seed
from bothways.learn.objectives.protocol import Key, Loss, Targets, sums_of
from bothways.learn.protocol import Item
from bothways.learn.utilisation import TRAINED, batch_work
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.examples import BUDGET
from bothways.learn.vectors.gather import attend, gather, part_of
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
    """

    def __init__(
        self,
        model: Model,
        data: VectorData,
        losses: Sequence[VectorLoss],
        dims: Sequence[int] = (),
        taught: np.ndarray | None = None,
    ) -> None:
        self.losses, self.taught, self._data = tuple(losses), taught, data
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
                torch.manual_seed(derived_seed(f"beside {loss.name}"))
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
        seen = [without_some(examples[at][0][0], self._deletion, *keys[at]) for at in first]
        noisy = make_batch(seen)
        return noisy, targets | {ORDER: np.argsort(noisy.rows), WHOLE: batch, PLACES: batch.rows.argsort().argsort()}

    def counts(self, item: Item) -> dict[str, int]:
        """G, for each loss."""
        return {loss.name: len(item[1][GROUPS]) for loss in self.losses}

    def work(self, model: nn.ModuleDict, item: Item) -> float:
        """Multiplications of an item's products, as `bothways.learn.utilisation` counts them."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        places = places_pooled(self.recipe.pooling, item[0].starts)
        return TRAINED * batch_work(encoder.config, item[0].plan, None if places is None else len(places))

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of an item to the parameters; in parts where it is too large for one pass."""
        batch, targets = item
        parts = list(parts_of(batch, budget_of(item)))
        if len(parts) == 1:
            losses = self._losses(model, self._vectors(model, batch), targets)
            self._total(losses, totals).backward()
            return sums_of(losses)
        device = next(model.parameters()).device
        states, found = [], []
        with torch.no_grad():
            for part in parts:
                states.append(chance_state(device))
                found.append(self._vectors(model, part))
        torch.clear_autocast_cache()  # what was cast without gradients must not be used again with them
        vectors_SE = torch.cat(found).requires_grad_()
        losses = self._losses(model, vectors_SE, targets)
        self._total(losses, totals).backward()
        assert vectors_SE.grad is not None
        after = chance_state(device)
        for part, state, gradient in zip(
            parts, states, vectors_SE.grad.split([part.sequences for part in parts]), strict=True
        ):
            set_chance_state(device, state)
            self._vectors(model, part).backward(gradient)
        set_chance_state(device, after)
        return sums_of(losses)

    def absent(self, device: torch.device) -> None:
        """What is done in a step of which this process has nothing: others may wait for its vectors."""
        if self._meets:
            attend(device)

    def evaluate(self, model: nn.ModuleDict, item: Item) -> dict[str, float]:
        """The same sums without a gradient."""
        with torch.no_grad():
            parts = parts_of(item[0], budget_of(item))
            return sums_of(self._losses(model, torch.cat([self._vectors(model, part) for part in parts]), item[1]))

    def _vectors(self, model: nn.ModuleDict, batch: TokenBatch) -> Tensor:
        """``(S, E)`` float32, in the order of the batch."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        output = encoder(batch, pooled=False, places=places_pooled(self.recipe.pooling, batch.starts))
        with torch.autocast(output.sequence.device.type, enabled=False):
            dense = model["dense"] if "dense" in model.keys() else None  # noqa: SIM118 (no dictionary)
            vectors_SE = sentence_vectors(output, self.recipe.pooling, dense)
            return unit(vectors_SE) if self.recipe.normalize else vectors_SE

    def _losses(self, model: nn.ModuleDict, vectors_SE: Tensor, targets: Targets) -> dict[str, Loss]:
        """Every loss, over all widths, as a sum over the groups."""
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
            count, hits = len(starts) - 1, means[0].right
            total = torch.stack([each.loss.float() for each in means]).mean() * count
            summed = Loss(total, None if hits is None else hits.detach().float() * count)
            found[loss.name] = part_of(summed, len(targets[GROUPS]), count) if loss.meets else summed
        return found

    def _total(self, losses: dict[str, Loss], totals: dict[str, int]) -> Tensor:
        return torch.stack([loss.total / max(totals[name], 1) for name, loss in losses.items()]).sum()


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


def budget_of(item: Item) -> int:
    """The most tokens of one pass."""
    batch, targets = item
    return int(targets[BUDGET]) if BUDGET in targets else batch.tokens


def vector_width(model: Model) -> int:
    """E: how many values a model's vectors have."""
    head = model.head_configs.get("dense")
    return head.outputs if head is not None else model.config.width * (1 + model.sentence.pooling.count("+"))


def parts_of(batch: TokenBatch, budget: int) -> Iterator[TokenBatch]:
    """A batch in parts of at most so many tokens, in its order; a longer text is a part of its own."""
    begin = 0
    while begin < batch.sequences:
        end = int(np.searchsorted(batch.starts, batch.starts[begin] + budget, side="right")) - 1
        end = max(end, begin + 1)
        if begin == 0 and end >= batch.sequences:
            yield batch
            return
        tokens = slice(int(batch.starts[begin]), int(batch.starts[end]))
        yield TokenBatch(
            batch.token_ids[tokens],
            batch.segment_ids[tokens],
            batch.positions[tokens],
            batch.starts[begin : end + 1] - batch.starts[begin],
            np.arange(end - begin),
        )
        begin = end


def chance_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The states of torch's generators, of the host and of a GPU: what makes dropout repeat itself."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_chance_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    """Goes back to what `chance_state` gave."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
