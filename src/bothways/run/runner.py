"""A saved model that runs: its settings, and token batches through its engine.

What it is asked stands in `bothways.run.questions`, how it is made and saved in `bothways.run.model`. Nothing here
needs torch: an engine may do without.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bothways.batch import TokenBatch, mark_global
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.run.engines.protocol import DENSE, VECTOR, Engine, Output, budget
from bothways.run.errand import current
from bothways.run.forked import renewed
from bothways.run.known import Known
from bothways.run.sentence_folder import SentenceRecipe
from bothways.run.task import TASK_HEADS
from bothways.text.encoded import Encoded, gather_index
from bothways.text.tokenizer import Tokenizer
from bothways.text.truncation import Truncation

if TYPE_CHECKING:
    from bothways.run.waiting import RequestQueue


class Turns:
    """Whose turn it is, where several threads ask one model.

    Attributes:
        compute: Held by the thread whose batches run.
        count: Held for a moment by whoever counts.
        requests: Those that are waited for, once there were any.
    """

    def __init__(self) -> None:
        renewed(self)

    def renew(self) -> None:
        """Nobody's turn, as in a child of this process, where no other thread goes on."""
        self.compute, self.count = threading.RLock(), threading.Lock()
        self.requests: RequestQueue | None = None


class Runner(ABC):
    """A tokenizer, an engine, and what is known of the model.

    Several threads may ask it at once: one of them computes, the others meanwhile make tokens.

    Attributes:
        name: Where it came from.
        truncated: What was cut so far, over all calls.
    """

    def __init__(self, known: Known, *, truncation: str | None = None, name: str = "this model") -> None:
        self._known = known
        self.name = name
        self.truncation = truncation or known.truncation
        self.truncated = Truncation()
        self._turns = Turns()
        self._given: Engine | None = None

    def on(self, engine: Engine) -> Self:
        """The same model, run by an engine that is given."""
        other = copy.copy(self)
        other._given = engine
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_turns"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turns=Turns())

    @property
    @abstractmethod
    def config(self) -> EncoderConfig:
        """What the encoder is."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """What runs it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            BothwaysError: The folder came without one.
        """
        if self._known.tokenizer is None:
            raise BothwaysError(f"{self.name} came without a tokenizer (tokenizer.json or vocab.txt)")
        return self._known.tokenizer

    @property
    def head_configs(self) -> dict[str, HeadConfig]:
        """The heads' configurations by kind: ``"mlm"``, ``"classify"``, ``"tag"``, ..."""
        return self._known.head_configs

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; empty without a classifier."""
        head = self.head_configs.get("classify")
        return head.labels if head else ()

    @property
    def max_length(self) -> int | None:
        """The longest sequence in tokens, special tokens included."""
        limits = [limit for limit in (self.config.longest, self._known.max_length) if limit]
        return min(limits) if limits else None

    @max_length.setter
    def max_length(self, tokens: int | None) -> None:
        if tokens is not None and self.config.longest is not None and tokens > self.config.longest:
            raise BothwaysError(f"max_length is {tokens}, but {self.name} takes at most {self.config.longest} tokens")
        self._known.max_length = tokens

    @property
    def truncation(self) -> str:
        """What happens to longer texts; saved with the model, so that it is the same in training and in use."""
        return self._known.truncation

    @truncation.setter
    def truncation(self, policy: str) -> None:
        self._known.truncation = policy

    @property
    def sentence(self) -> SentenceRecipe:
        """How texts become vectors."""
        return self._known.sentence

    @sentence.setter
    def sentence(self, recipe: SentenceRecipe) -> None:
        self._known.sentence = recipe

    @property
    def task(self) -> str | None:
        """The task that the model was fine-tuned for, as on the command line; None where nobody said."""
        return self._known.task

    @task.setter
    def task(self, name: str | None) -> None:
        self._known.task = name

    @property
    def decoding(self) -> dict[str, dict[str, Any]]:
        """How numbers of heads become answers, by kind of head: thresholds, temperatures. Plain data, saved as JSON."""
        return self._known.decoding

    # -- running

    def warm_up(self) -> Self:
        """Does now what the first question would wait for, and returns the model.

        The engine is made: weights are laid out, kernels compiled where they never were, and lower precision is
        compared with float32, which may take a minute for int8. Then a text, which is not counted, is read for a vector
        and for what the model was trained to decide: runtimes of exported models compile a graph for each.

        Raises:
            BothwaysError: The engine cannot be made, or lower precision is too far from float32.
        """
        text = ["A first text, so that nobody waits."]
        encoded = self.tokenizer.encode(text, max_length=self.max_length, truncation="head")
        outputs = [Output(VECTOR, self.sentence.pooling, dense=DENSE in self.head_configs)]
        outputs += [Output(kind) for kind in TASK_HEADS if kind in self.head_configs]
        for output in outputs:
            for _ in self.run(encoded, output):
                pass
        return self

    def head(self, kind: str, method: str) -> HeadConfig:
        """The configuration of the head of a kind.

        Args:
            kind: Of the head.
            method: What needs it, for the message.

        Raises:
            BothwaysError: The model has no such head.
        """
        heads = self.head_configs
        if kind not in heads:
            has = f"its heads: {', '.join(heads)}" if heads else "it has no heads"
            raise BothwaysError(
                f"{method} needs the head {kind!r}, which {self.name} does not have ({has}); bothways info "
                f"{self.name} says what it is for"
            )
        return heads[kind]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, offsets: bool = False) -> Encoded:
        """Texts, or pairs, as tokens within the model's limits; what is cut is counted in `truncated`."""
        length, policy = self.max_length, self.policy()
        encoded = self.tokenizer.encode(texts, pairs, max_length=length, truncation=policy, offsets=offsets)
        self.note_cut(encoded.truncation)
        return encoded

    def policy(self) -> str:
        """What becomes of long texts now: whoever sent this thread on an errand warns of them himself."""
        return "head" if self.truncation == "warn" and current() else self.truncation

    def note_cut(self, cut: Truncation) -> None:
        """Counts what was cut, here and for the errand that this thread is on."""
        if errand := current():
            errand.truncation += cut
        with self._turns.count:
            self.truncated += cut

    def mark(self, batch: TokenBatch, kind: str) -> TokenBatch:
        """A batch with the tokens marked that are global while a head is at work; most heads want none.

        Args:
            batch: Any.
            kind: Of the head.
        """
        return mark_global(batch, self.head_configs[kind].global_tokens, self.tokenizer.roles.get("sep"))

    def run(self, encoded: Encoded, output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """Batches of encoded sequences with what the engine makes of them; their `rows` are places in `encoded`."""
        errand = current()
        with self._turns.compute:
            engine = self.engine
            batches = encoded.batches(budget(engine, len(encoded.token_ids)))
            if output.kind in self.head_configs:
                batches = (self.mark(batch, output.kind) for batch in batches)
            yield from engine.run(errand.watched(batches) if errand else batches, output)

    def by_sequence(self, encoded: Encoded, output: Output, shape: tuple[int, ...]) -> np.ndarray:
        """An output of one row a sequence: ``(S, *shape)`` float32, in the order of `encoded`."""
        out = np.empty((len(encoded), *shape), dtype=np.float32)
        for batch, values in self.run(encoded, output):
            out[batch.rows] = values
        return out

    def by_token(self, encoded: Encoded, output: Output, shape: tuple[int, ...]) -> np.ndarray:
        """An output of one row a token: ``(T, *shape)`` float32, in the order of `encoded`."""
        out = np.empty((len(encoded.token_ids), *shape), dtype=np.float32)
        for batch, values in self.run(encoded, output):
            out[gather_index(encoded.starts[batch.rows], batch.lengths)] = values
        return out
