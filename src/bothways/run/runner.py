"""A saved model that runs: its parts, its settings, and token batches through them.

What it is asked stands in `bothways.run.questions`, how it is made and saved in `bothways.run.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import nn

from bothways.batch import TokenBatch, mark_global
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.encoder import Encoder, EncoderOutput
from bothways.run.folder import Saved
from bothways.run.machine import apply_thread_limit
from bothways.run.precision import resolve_precision
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.encoded import Encoded, gather_index
from bothways.text.tokenizer import Tokenizer
from bothways.text.truncation import Truncation

T = TypeVar("T")

_BATCH_TOKENS = 4096
"""Tokens in a batch: enough to keep the processor busy, few enough to stay near its caches."""


class Runner:
    """An encoder with its tokenizer and heads, on a device; token batches go through it.

    `bothways.run.model.Model` describes its attributes.
    """

    def __init__(
        self,
        saved: Saved,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        truncation: str | None = None,
        name: str = "this model",
    ) -> None:
        self._saved = saved
        self.name = name
        self.truncation = truncation or saved.truncation
        self.truncated = Truncation()
        self.encoder: Encoder = saved.encoder
        self.heads: dict[str, nn.Module] = saved.heads
        self.head_configs: dict[str, HeadConfig] = saved.head_configs
        apply_thread_limit()
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = resolve_precision(precision, self.device).name

    @property
    def config(self) -> EncoderConfig:
        """What the encoder is."""
        return self.encoder.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            BothwaysError: The folder came without one.
        """
        if self._saved.tokenizer is None:
            raise BothwaysError(f"{self.name} came without a tokenizer (tokenizer.json or vocab.txt)")
        return self._saved.tokenizer

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; empty without a classifier."""
        head = self.head_configs.get("classify")
        return head.labels if head else ()

    @property
    def max_length(self) -> int | None:
        """The longest sequence in tokens, special tokens included."""
        limits = [limit for limit in (self.config.longest, self._saved.max_length) if limit]
        return min(limits) if limits else None

    @max_length.setter
    def max_length(self, tokens: int | None) -> None:
        if tokens is not None and self.config.longest is not None and tokens > self.config.longest:
            raise BothwaysError(f"max_length is {tokens}, but {self.name} takes at most {self.config.longest} tokens")
        self._saved.max_length = tokens

    @property
    def truncation(self) -> str:
        """What happens to longer texts; saved with the model, so that it is the same in training and in use."""
        return self._saved.truncation

    @truncation.setter
    def truncation(self, policy: str) -> None:
        self._saved.truncation = policy

    @property
    def sentence(self) -> SentenceRecipe:
        """How texts become vectors."""
        return self._saved.sentence

    @property
    def task(self) -> str | None:
        """The task that the model was fine-tuned for, as on the command line; None where nobody said."""
        return self._saved.task

    @task.setter
    def task(self, name: str | None) -> None:
        self._saved.task = name

    @property
    def decoding(self) -> dict[str, dict[str, Any]]:
        """How numbers of heads become answers, by kind of head: thresholds, temperatures. Plain data, saved as JSON."""
        return self._saved.decoding

    @property
    def parameters(self) -> int:
        """How many parameters there are, shared ones counted once."""
        return sum(value.numel() for part in (self.encoder, *self.heads.values()) for value in part.parameters())

    def to(self, device: str | torch.device) -> Self:
        """Moves the model to a device and returns it.

        Raises:
            BothwaysError: There is no such device here.
        """
        try:
            for part in (self.encoder, *self.heads.values()):
                part.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise BothwaysError(f"the device {str(device)!r} cannot be used ({reason}); 'cpu' always can") from None
        return self

    # -- running

    def head(self, kind: str, method: str) -> Any:
        """The head of a kind.

        Args:
            kind: Of the head.
            method: What needs it, for the message.

        Raises:
            BothwaysError: The model has no such head.
        """
        if kind not in self.heads:
            has = f"its heads: {', '.join(self.heads)}" if self.heads else "it has no heads"
            raise BothwaysError(f"{method} needs the head {kind!r}, which {self.name} does not have ({has})")
        return self.heads[kind]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, offsets: bool = False) -> Encoded:
        """Texts, or pairs, as tokens within the model's limits; what is cut is counted in `truncated`."""
        encoded = self.tokenizer.encode(
            texts, pairs, max_length=self.max_length, truncation=self.truncation, offsets=offsets
        )
        self.truncated += encoded.truncation
        return encoded

    def by_token(
        self, encoded: Encoded, answer: Callable[[EncoderOutput], torch.Tensor], shape: tuple[int, ...]
    ) -> np.ndarray:
        """What `answer` makes of each token, ``(T, *shape)`` float32, in the order of `encoded`."""
        out = np.empty((len(encoded.token_ids), *shape), dtype=np.float32)
        for batch, values in self.run(encoded, lambda _, output: answer(output)):
            out[gather_index(encoded.starts[batch.rows], batch.lengths)] = values.float().cpu().numpy()
        return out

    def mark(self, batch: TokenBatch, kind: str) -> TokenBatch:
        """A batch with the tokens marked that are global while a head is at work; most heads want none.

        Args:
            batch: Any.
            kind: Of the head.
        """
        return mark_global(batch, self.head_configs[kind].global_tokens, self.tokenizer.roles.get("sep"))

    def run(
        self,
        encoded: Encoded,
        answer: Callable[[TokenBatch, EncoderOutput], T],
        kind: str | None = None,
        *,
        hidden: bool = False,
    ) -> Iterator[tuple[TokenBatch, T]]:
        """Encodes batch by batch and yields what `answer` makes of it; a batch's `rows` are places in `encoded`.

        A head's `kind` says which tokens are global, and `hidden` whether `answer` reads every layer's output.
        """
        self.encoder.eval()
        for head in self.heads.values():
            head.eval()
        precision = resolve_precision(self.precision, self.device)
        for plain in encoded.batches(_BATCH_TOKENS):
            batch = plain if kind is None else self.mark(plain, kind)
            with torch.inference_mode(), precision.autocast():
                found = answer(batch, self.encoder(batch, hidden=hidden))
            yield batch, found
