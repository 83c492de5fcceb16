"""A model at work: texts in, answers out.

``load`` opens a folder (ours, or any published BERT) or a hub id; the methods below need no knowledge of tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import nn

from bothways.batch import TokenBatch, mark_global
from bothways.chance import derived_seed
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.encoder import Encoder, EncoderOutput
from bothways.run.adapter import Adapter, with_adapter, write_adapter
from bothways.run.answering import classify, fill, sequences, vectors
from bothways.run.answers import Answer, Choice, Classification, Fill, Tagged, as_list
from bothways.run.folder import Saved, read_folder, write_folder
from bothways.run.hub import find_model
from bothways.run.machine import apply_thread_limit
from bothways.run.precision import resolve_precision
from bothways.run.sentence_folder import SentenceRecipe
from bothways.run.spot import Spot
from bothways.text.encoded import Encoded, gather_index
from bothways.text.tokenizer import Tokenizer
from bothways.text.truncation import Truncation

__all__ = ["Answer", "Choice", "Classification", "Fill", "Model", "Spot", "Tagged", "load"]

T = TypeVar("T")

_BATCH_TOKENS = 4096
"""Tokens in a batch: enough to keep the processor busy, few enough to stay near its caches."""


def load(
    source: str | Path,
    *,
    device: str | None = None,
    precision: str = "float32",
    offline: bool = False,
    truncation: str | None = None,
    adapter: str | Path | None = None,
) -> Model:
    """Opens a saved model.

    Args:
        source: A model folder, the output folder of a run, or a hub id. A path never touches the network.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU if there is one.
        precision: ``"float32"`` (exact), ``"bf16"``, or ``"auto"`` (bf16 where the device multiplies it natively).
        offline: Keeps hub ids to what was downloaded before.
        truncation: What happens to texts that are too long: ``warn``, ``error``, ``head``, ``head_tail`` or ``window``;
            None does as the model was trained.
        adapter: The folder of a LoRA adapter, of `finetune` or of the library `peft`, that is merged into the weights.

    Raises:
        BothwaysError: There is no such model, its family is not supported, or its files do not fit together; or the
            adapter was made for another model.
    """
    folder = find_model(source, offline)
    saved = read_folder(folder)
    if adapter is not None:
        saved = with_adapter(saved, Path(adapter), str(source), folder)
    return Model(saved, device=device, precision=precision, truncation=truncation, name=str(source))


class Model:
    """An encoder with its tokenizer and heads.

    Attributes:
        encoder: The encoder, an ordinary module.
        heads: The heads by kind: ``"mlm"``, ``"classify"``, ``"tag"``, ...
        head_configs: Their configurations by kind.
        name: Where it came from.
        truncated: What was cut so far, over all calls.
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

    @classmethod
    def random(
        cls,
        config: EncoderConfig,
        tokenizer: Tokenizer | None,
        heads: Sequence[HeadConfig] = (),
        *,
        seed: int = 0,
        device: str | None = None,
        keep_pooler: bool = False,
    ) -> Model:
        """A model with random weights.

        Args:
            config: What its encoder is.
            tokenizer: What makes its tokens.
            heads: Its heads; they decide whether the encoder has a pooler. Without heads the configuration does.
            seed: Of the weights.
            device: Where it lies.
            keep_pooler: Whether the configuration decides about the pooler in any case.
        """
        if heads and not keep_pooler:  # a pooler that nothing reads would never learn, and would be saved all the same
            config = config.derive(pooler="tanh" if any(head.needs_pooler for head in heads) else None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed("weights", seed))
            encoder = build_encoder(config)
            made = {str(head.kind): build_head(head, config) for head in heads}
        return cls(Saved(encoder, made, {str(head.kind): head for head in heads}, tokenizer), device=device)

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

    def to(self, device: str | torch.device) -> Model:
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

    def save(self, folder: str | Path, *, overwrite: bool = False) -> str:
        """Writes the model so that `transformers`, `sentence-transformers` and Bothways open it.

        Returns:
            A sentence saying what other libraries will see.

        Raises:
            BothwaysError: The folder exists already, or the disk is full; nothing half-written stays.
        """
        return write_folder(self._saved, Path(folder), overwrite=overwrite)

    def save_adapter(self, adapter: Adapter, folder: str | Path, *, overwrite: bool = False) -> None:
        """Writes what LoRA learned, and the heads beside it, so that `load` and the library `peft` add it to its base.

        Args:
            adapter: As `finetune` returns it with this model.
            folder: Where.
            overwrite: Whether a folder of that name is replaced.

        Raises:
            BothwaysError: The folder exists already, or the disk is full; nothing half-written stays.
        """
        write_adapter(adapter, self._saved, Path(folder), overwrite=overwrite)

    def copy(self) -> Model:
        """An independent copy, such as for training one and keeping the other."""
        return Model(
            copy.deepcopy(self._saved),
            device=self.device,
            precision=self.precision,
            truncation=self.truncation,
            name=self.name,
        )

    def with_encoder(self, encoder: Encoder) -> Model:
        """The same model around another encoder of the same configuration, such as one whose tables were merged."""
        saved = replace(self._saved, encoder=encoder)
        return Model(saved, device=self.device, precision=self.precision, name=self.name)

    # -- answers

    @overload
    def fill_mask(self, text: str, top: int = 5) -> list[Fill] | list[list[Fill]]: ...  # type: ignore[overload-overlap]
    @overload
    def fill_mask(self, text: Sequence[str], top: int = 5) -> list[list[Fill] | list[list[Fill]]]: ...
    def fill_mask(self, text: str | Sequence[str], top: int = 5) -> Any:
        """Fills in the masked places of a text.

        Args:
            text: One text or several, each with the tokenizer's mask token, ``[MASK]`` for BERT, at least once.
            top: How many tokens to give for a place, likeliest first.

        Returns:
            For a text with one mask a list of `top` fills; with several masks a list of such lists; for several texts a
            list of the above.

        Raises:
            BothwaysError: The model has no masked-token head, or a text has no mask or is too long.
        """
        return fill.fill_mask(self, text, top)

    @overload
    def classify(  # type: ignore[overload-overlap]
        self, texts: str, pairs: str | None = None
    ) -> Classification: ...
    @overload
    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Classification]: ...
    def classify(self, texts: Any, pairs: Any = None) -> Any:
        """Says which class each text, or pair of texts, belongs to.

        Args:
            texts: One text or several.
            pairs: The second text of each pair, for models trained on pairs.

        Returns:
            One `Classification` for one text, else a list in the order of the texts.

        Raises:
            BothwaysError: The model has no classifier.
        """
        found = classify.classify(self, as_list(texts), None if pairs is None else as_list(pairs))
        return found[0] if isinstance(texts, str) else found

    def class_probabilities(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """The probability of each class.

        Returns:
            ``(texts, classes)`` float32; windows of one long text are averaged.

        Raises:
            BothwaysError: The model has no classifier.
        """
        return classify.class_probabilities(self, texts, pairs)

    @overload
    def score(self, texts: str, pairs: str | None = None) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def score(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray: ...
    def score(self, texts: Any, pairs: Any = None) -> Any:
        """The number that a regression gives each text, or pair of texts, in the units it was trained on.

        Args:
            texts: One text or several.
            pairs: The second text of each pair, for models trained on pairs.

        Returns:
            A number for one text, ``(texts,)`` float32 for several.

        Raises:
            BothwaysError: The model was not trained to score.
        """
        found = classify.score(self, as_list(texts), None if pairs is None else as_list(pairs))
        return float(found[0]) if isinstance(texts, str) else found

    @overload
    def score_pairs(self, a: str, b: str) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def score_pairs(self, a: Sequence[str], b: Sequence[str]) -> np.ndarray: ...
    def score_pairs(self, a: Any, b: Any) -> Any:
        """How well two texts go together: what a regression over pairs says, or the probability of a class.

        Args:
            a: The first text of each pair.
            b: The second.

        Returns:
            A number for two texts, ``(pairs,)`` float32 for two lists: of a regression its score, of a classifier of
            two classes the probability of the second (``1``, ``yes``, ``duplicate``).

        Raises:
            BothwaysError: The model has no head for it, or more than two classes.
        """
        found = classify.score_pairs(self, as_list(a), as_list(b))
        return float(found[0]) if isinstance(a, str) else found

    def zero_shot(
        self,
        texts: Any,
        labels: Sequence[str],
        *,
        template: str = "This text is about {}.",
        several: bool = False,
        entailment: str | None = None,
    ) -> Any:
        """Classifies into classes that were never trained, by asking which sentence about them follows from a text.

        Yin et al. 2019, "Benchmarking Zero-shot Text Classification".

        Args:
            texts: One text or several.
            labels: The classes in words.
            template: A sentence with ``{}`` where a class goes.
            several: Whether each class is decided by itself, so that a text may have several.
            entailment: The label of the model's class that means "follows"; found by its name when not given.

        Returns:
            One `Classification` for one text, else a list in the order of the texts.

        Raises:
            BothwaysError: The model is no classifier of pairs, or its classes name no entailment.
        """
        from bothways.run.answering.zero_shot import zero_shot

        found = zero_shot(self, as_list(texts), labels, template, several, entailment)
        return found[0] if isinstance(texts, str) else found

    @overload
    def tag(self, texts: str) -> Tagged: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, texts: Sequence[str] | Sequence[Sequence[str]]) -> list[Tagged]: ...
    def tag(self, texts: Any) -> Any:
        """Tags the words of texts, of any length: words in, words out.

        Args:
            texts: One text, several, or several lists of words. A text is split into words as the model was trained
                (white space, punctuation by itself).

        Returns:
            One `Tagged` for one text, else a list in the order of the texts.

        Raises:
            BothwaysError: The model has no tagger.
        """
        from bothways.run.answering.tag import tag

        found = tag(self, [texts] if isinstance(texts, str) else texts)
        return found[0] if isinstance(texts, str) else found

    @overload
    def answer(self, question: str, context: str, *, top: int = 1) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def answer(self, question: Sequence[str], context: Sequence[str], *, top: int = 1) -> list[Answer]: ...
    def answer(self, question: Any, context: Any, *, top: int = 1) -> Any:
        """Finds the answer to a question in a text of any length.

        That there is none is said by models that were fine-tuned here on such questions; another says it once
        ``model.decoding["answer"] = {"threshold": 0.0}``, where "no answer" scores that much above the best part.

        Args:
            question: One question or several.
            context: The text of each question.
            top: How many candidates to list, likeliest first.

        Returns:
            One `Answer` for one question, else a list in the order of the questions.

        Raises:
            BothwaysError: The model has no answering head, or a question is empty or too long.
        """
        from bothways.run.answering.answer import answer

        found = answer(self, as_list(question), as_list(context), top)
        return found[0] if isinstance(question, str) else found

    @overload
    def choose(self, prompt: str, choices: Sequence[str]) -> Choice: ...  # type: ignore[overload-overlap]
    @overload
    def choose(self, prompt: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Choice]: ...
    def choose(self, prompt: Any, choices: Any) -> Any:
        """Says which of several texts goes best with a prompt.

        Args:
            prompt: One prompt (a question, a beginning) or several.
            choices: The texts to choose from; for several prompts a list of such lists.

        Returns:
            One `Choice` for one prompt, else a list in the order of the prompts.

        Raises:
            BothwaysError: The model has no choosing head, or there are fewer than two choices.
        """
        from bothways.run.answering.choose import choose

        alone = isinstance(prompt, str)
        found = choose(self, as_list(prompt), [choices] if alone else choices)
        return found[0] if alone else found

    @overload
    def follows(self, a: str, b: str) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def follows(self, a: Sequence[str], b: Sequence[str]) -> np.ndarray: ...
    def follows(self, a: Any, b: Any) -> Any:
        """How likely it is that text `b` follows text `a` in a document.

        Returns:
            A probability for two texts, ``(texts,)`` float32 for two lists.

        Raises:
            BothwaysError: The model has no next-sentence head.
        """
        found = sequences.follows(self, as_list(a), as_list(b))
        return float(found[0]) if isinstance(a, str) else found

    @overload
    def spot(self, text: str) -> list[Spot]: ...  # type: ignore[overload-overlap]
    @overload
    def spot(self, text: Sequence[str]) -> list[list[Spot]]: ...
    def spot(self, text: Any) -> Any:
        """Says of each word how likely it was put there in place of another (Clark et al. 2020, section 2).

        Args:
            text: One text or several.

        Returns:
            For one text its words in order, each with its place, its probability and whether it looks replaced; for
            several texts a list of such lists.

        Raises:
            BothwaysError: The model has no replaced-token head.
        """
        found = sequences.spot(self, as_list(text))
        return found[0] if isinstance(text, str) else found

    @overload
    def hidden(self, texts: str) -> np.ndarray: ...  # type: ignore[overload-overlap]
    @overload
    def hidden(self, texts: Sequence[str]) -> list[np.ndarray]: ...
    def hidden(self, texts: Any) -> Any:
        """The hidden state of each token, special tokens included.

        Returns:
            ``(L, D)`` float32 for one text, a list of them in the order of the texts for several. Under the policy
            ``window`` a long text gives its windows one after another.
        """
        found = vectors.hidden(self, as_list(texts))
        return found[0] if isinstance(texts, str) else found

    def embed(
        self, texts: str | Sequence[str], pooling: str | None = None, *, normalize_vectors: bool | None = None
    ) -> np.ndarray:
        """One vector a text.

        Args:
            texts: One text or several.
            pooling: ``"mean"``, ``"cls"`` or ``"max"``; None takes what the model was trained with, else the mean.
            normalize_vectors: Whether vectors are scaled to length 1; None takes what the model was trained with.

        Returns:
            ``(D,)`` float32 for one text, ``(texts, D)`` for several. The windows of a long text are averaged, weighted
            by their tokens.

        Raises:
            BothwaysError: There is no such pooling.
        """
        found = vectors.embed(self, as_list(texts), pooling, normalize_vectors)
        return found[0] if isinstance(texts, str) else found

    def attentions(self, text: str, pair: str | None = None) -> tuple[list[str], np.ndarray]:
        """Who looks at whom in a text.

        Returns:
            The L tokens, and the attention weights ``(layers, heads, L, L)`` float32, each row summing to one.
        """
        return vectors.attentions(self, text, pair)

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
