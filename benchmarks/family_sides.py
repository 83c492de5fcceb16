"""Both sides of `families.py`: an encoder of Bothways and the class of `transformers` with its weights, at work."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bothways.batch import TokenBatch, make_batch
from bothways.model.build import build_encoder, build_head
from bothways.model.config import EncoderConfig
from bothways.model.counts import parameter_count, work
from bothways.model.families import family
from bothways.run.machine import apply_thread_limit

if TYPE_CHECKING:
    from families import Cell

VOCABULARY, MASK_ID, MASKED = 30_522, 103, 0.15
"""As of BERT's vocabulary, and the share of tokens to guess in training."""
FARTHEST = 1e-3
"""How far apart outputs in float32 may be; what is farther does not do the same work."""

Texts = list[np.ndarray]


@dataclass(frozen=True)
class Work:
    """A batch of texts: in training with masked places and the labels there, -100 elsewhere."""

    texts: Texts
    labels: Texts | None = None

    def with_masks(self, draw: np.random.Generator) -> Work:
        """The same texts to train on."""
        hidden = [draw.random(len(ids)) < MASKED for ids in self.texts]
        hidden[0][len(self.texts[0]) // 2] = True  # at least one in a batch
        pairs = list(zip(self.texts, hidden, strict=True))
        return Work(
            [np.where(chosen, MASK_ID, ids) for ids, chosen in pairs],
            [np.where(chosen, ids, -100) for ids, chosen in pairs],
        )


class Ours:
    """An encoder of Bothways, with a masked-token head in training.

    Args:
        config: The encoder's.
        kinds: Its heads.
    """

    def __init__(self, config: EncoderConfig, kinds: list[str]) -> None:
        heads = {kind: build_head(family(config.family).head(kind), config) for kind in kinds}
        self.config, self.kinds = config, kinds
        self.module = nn.ModuleDict({"encoder": build_encoder(config), **heads})

    def ready(self, work: Work, device: str) -> Work:
        """As it is: batches are packed and moved while the clock runs."""
        return work

    def __call__(self, work: Work) -> Tensor:
        """The mean loss in training, else the hidden states, as they lie in the packed batch."""
        batch = make_batch(work.texts)
        hidden_TD = self.module["encoder"](batch).sequence
        if work.labels is None:
            return hidden_TD
        labels = np.concatenate([work.labels[row] for row in batch.rows])
        places = np.flatnonzero(labels >= 0)
        chosen, wanted = (torch.from_numpy(values).to(hidden_TD.device) for values in (places, labels[places]))
        encoder, head = self.module["encoder"], self.module["mlm"]
        return head.loss(hidden_TD[chosen], encoder.token_table, wanted)[0] / len(places)

    def compared(self, work: Work) -> Tensor:
        """The same in the order of the texts, as a padded batch has them."""
        out = self(work)
        return out if work.labels is not None else in_order(out, make_batch(work.texts))


class Theirs:
    """The class of `transformers` with the same configuration and weights, its attention as it comes.

    Args:
        ours: Whose weights it gets.
    """

    def __init__(self, ours: Ours) -> None:
        transformers.logging.set_verbosity_error()
        self.config = ours.config
        members = family(self.config.family)
        made = getattr(transformers, members.architectures[frozenset(ours.kinds)])
        pools = "add_pooling_layer" in inspect.signature(made.__init__).parameters
        settings = transformers.AutoConfig.for_model(**members.to_hf(self.config))
        self.module = made._from_config(settings, **({"add_pooling_layer": False} if pools else {}))
        table = members.table(ours.kinds)
        places = dict(self.module.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, value in ours.module.state_dict().items():
                places[table.published(name, bare=not ours.kinds)].copy_(value)

    def ready(self, work: Work, device: str) -> tuple[dict[str, Tensor], Tensor]:
        """The padded batch on the device, and which of its places are real: made before the clock runs."""

        def padded(rows: Texts, fill: int) -> Tensor:
            return pad_sequence([torch.from_numpy(row) for row in rows], True, fill).to(device)

        real = padded(work.texts, -1) >= 0
        inputs = {"input_ids": padded(work.texts, self.config.embeddings.pad_id), "attention_mask": real.long()}
        return (inputs if work.labels is None else inputs | {"labels": padded(work.labels, -100)}), real

    def __call__(self, ready: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        """The mean loss in training, else the hidden states of the padded batch."""
        out = self.module(**ready[0])
        return out.loss if "labels" in ready[0] else out.last_hidden_state

    def compared(self, ready: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        """The same at the real tokens."""
        out = self(ready)
        return out if "labels" in ready[0] else out[ready[1]]


def in_order(hidden_TD: Tensor, batch: TokenBatch) -> Tensor:
    """The tokens of the first text, then those of the second ..."""
    parts = hidden_TD.split(batch.lengths.tolist())
    return torch.cat([parts[place] for place in np.argsort(batch.rows)])


def common_size(cell: Cell) -> EncoderConfig:
    """A family's default size in a common width, depth and dropout; what is peculiar to it stays in proportion.

    Narrow embeddings stay as they are, and so do shared blocks, windows, gates and the ratio of the inner width.
    """
    config = family(cell.family).size()
    tables = config.embeddings
    return config.derive(
        layers=cell.layers,
        width=cell.width,
        embeddings__width=cell.width if tables.width == config.width else tables.width,
        attention__heads=max(1, cell.width // 64),
        feed_forward__width=config.feed_forward.width * cell.width // config.width,
        dropout=cell.dropout,
        attention__dropout=cell.dropout,
        embeddings__dropout=cell.dropout,
        pooler=None,
    ).for_vocabulary(VOCABULARY, tables.pad_id if tables.pad_id < 2 else 0)


def measure(cell: Cell, texts: list[list[int]]) -> dict[str, Any]:
    """Seconds of each round of each side, how far apart their outputs are, and what the encoder costs."""
    threads = apply_thread_limit()
    sequences = sorted(map(np.array, texts), key=len) if cell.order == "length" else list(map(np.array, texts))
    batches = [Work(sequences[first : first + cell.batch]) for first in range(0, len(sequences), cell.batch)]
    if cell.mode == "training":
        draw = np.random.default_rng(0)
        batches = [batch.with_masks(draw) for batch in batches]
    config = common_size(cell)
    torch.manual_seed(0)
    ours = Ours(config, ["mlm"] if cell.mode == "training" else [])
    sides: dict[str, Any] = {"bothways": ours}
    if family(cell.family).is_published:  # the others stand alone
        sides["transformers"] = Theirs(ours)
    for side in sides.values():
        side.module.to(cell.device).eval()
    ready = {name: [side.ready(batch, cell.device) for batch in batches] for name, side in sides.items()}
    apart = difference(sides, ready)
    rounds = {name: one_round(side, ready[name], cell) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(cell.rounds + 1):
        for name, once in rounds.items():
            seconds[name].append(once())
    lengths = [len(one) for one in sequences]
    return {
        "tokens": sum(lengths),
        "padded": sum(len(batch.texts) * max(map(len, batch.texts)) for batch in batches),
        "seconds": {name: values[1:] for name, values in seconds.items()},
        "apart": apart,
        "parameters": parameter_count(config),
        "operations": sum(length * work(config, length) for length in lengths) / sum(lengths),
        "threads": threads,
    }


@torch.no_grad()
def difference(sides: dict[str, Any], ready: dict[str, list[Any]]) -> float | None:
    """The largest difference between the outputs for the first batch; of the losses in training."""
    if len(sides) == 1:
        return None
    found, expected = (side.compared(ready[name][0]) for name, side in sides.items())
    apart = float((found - expected).abs().max())
    if not apart < FARTHEST:
        raise SystemExit(f"the sides do not compute the same: they are {apart:.1e} apart")
    return apart


def one_round(side: Any, ready: list[Any], cell: Cell) -> Callable[[], float]:
    """A call that works through all batches and returns the seconds it took."""
    training = cell.mode == "training"
    side.module.train(training)
    optimizer = torch.optim.AdamW(side.module.parameters(), 1e-4, fused=True) if training else None

    def once() -> float:
        began = time.perf_counter()
        for inputs in ready:
            half = torch.autocast(cell.device, torch.bfloat16, enabled=cell.precision == "bf16")
            with torch.set_grad_enabled(training), half:
                out = side(inputs)
            if optimizer is not None:
                out.backward()
                optimizer.step()
                optimizer.zero_grad()
        if cell.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return once
