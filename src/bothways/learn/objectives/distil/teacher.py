"""The teacher at work: a trained model, run without gradient on what the student sees.

It is no part of what is trained or saved. Where its outputs are kept (`cache`), it is only run on sequences that it has
not seen.

Shapes: T tokens, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.learn.objectives.distil.cache import TeacherCache
from bothways.learn.objectives.distil.shared import KEYS
from bothways.learn.objectives.protocol import Forward, Targets
from bothways.learn.protocol import Item
from bothways.learn.utilisation import batch_work
from bothways.model.encoder import EncoderOutput
from bothways.run.model import Model
from bothways.text.tokenizer import Tokenizer


class RunningTeacher:
    """A teacher as `Together` asks it.

    Args:
        model: The teacher, on the student's device.
        reads: The hidden states that objectives need, counted from the embeddings.
        cache: Where those states are kept, if they are.
    """

    def __init__(self, model: Model, reads: Iterable[int], cache: TeacherCache | None = None) -> None:
        self.model, self.cache = model, cache
        self.reads = tuple(sorted(set(reads)))

    def forward(self, batch: TokenBatch, targets: Targets, *, hidden: bool) -> Forward:
        """Runs it without gradient on the batch that the student sees, or looks its outputs up.

        Args:
            batch: Of NumPy arrays.
            targets: With the sequences' keys.
            hidden: Whether hidden states are needed beside the last.

        Returns:
            With `cache`, hidden states that no objective reads, the last among them, are empty tensors.
        """
        encoder = self.model.encoder.eval()
        with torch.no_grad():
            if self.cache is None:
                return Forward(encoder, batch, encoder(batch, hidden=hidden))
            return Forward(encoder, batch, self._kept(self.cache, batch, targets))

    def work(self, model: object, item: Item) -> float:
        """Multiplications of its forward pass; none where its outputs are kept."""
        batch, targets = item
        if self.cache is not None and self.cache.holds(targets[KEYS]):
            return 0.0
        return batch_work(self.model.config, batch.plan)

    def _kept(self, cache: TeacherCache, batch: TokenBatch, targets: Targets) -> EncoderOutput:
        """The output with the states that are read, which always went through the cache.

        So a batch gives the same bits when it comes again after an interruption.
        """
        states = cache.find(targets[KEYS], batch)
        if states is None:
            layers = self.model.encoder(batch, hidden=True).hidden
            cache.keep(targets[KEYS], batch, torch.stack([layers[place] for place in self.reads]))
            states = cache.find(targets[KEYS], batch)
            assert states is not None  # it has just been written
        nothing = torch.empty(0)
        hidden: list[Tensor] = [nothing] * (self.model.config.layers + 1)
        for place, state in zip(self.reads, states, strict=True):
            hidden[place] = state.to(self.model.device)
        return EncoderOutput(hidden[-1], batch.starts, None, hidden)


def identity_of(model: Model) -> str:
    """A hash (hex) of a model's weights: two with the same one compute alike."""
    digest = hashlib.blake2b(digest_size=16)
    parts = {"encoder": model.encoder, **model.heads}
    for part, module in sorted(parts.items()):
        for name, tensor in module.state_dict().items():
            digest.update(f"{part}.{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_tokenizers(teacher: Model, tokenizer: Tokenizer, whose: str) -> None:
    """Makes sure that student and teacher read the same tokens.

    Args:
        teacher: The teacher.
        tokenizer: Which makes the student's tokens.
        whose: Where that comes from, for the sentence.

    Raises:
        BothwaysError: They do not.
    """
    if tokenizer.fingerprint == teacher.tokenizer.fingerprint:
        return
    counts = f"{tokenizer.size:,} tokens, the teacher's {teacher.tokenizer.size:,}"
    raise BothwaysError(
        f"student and teacher must have one vocabulary, but {whose} is not that of {teacher.name} ({counts}); prepare "
        "the corpus with the teacher's tokenizer, or give raw text and no tokenizer"
    )
