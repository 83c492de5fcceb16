"""A model at work: texts in, answers out.

``load`` opens a folder (ours, or any published BERT) or a hub id. What a `Model` is asked stands in
`bothways.run.questions`, how it runs in `bothways.run.runner`; here is how one is made, opened, copied and saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bothways.chance import derived_seed
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.encoder import Encoder
from bothways.model.neighbours import AttentionStart, begin_attention
from bothways.run.adapter import Adapter, with_adapter, write_adapter
from bothways.run.answers import Answer, Choice, Classification, Fill, Tagged
from bothways.run.bound import Bound, asked_bound, asked_metric
from bothways.run.chosen import packed_for, precision_for
from bothways.run.engines.choice import Kept, check_engine, usual_device
from bothways.run.engines.outputs import Parts
from bothways.run.engines.protocol import Engine, Manner
from bothways.run.folder import Saved, read_folder, write_folder
from bothways.run.hub import find_model
from bothways.run.machine import apply_thread_limit
from bothways.run.questions import Questions
from bothways.run.spot import Spot
from bothways.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from bothways.run.exporting.export import ExportReport
    from bothways.run.lower import Quantized

__all__ = ["Answer", "Choice", "Classification", "Fill", "Model", "Spot", "Tagged", "load"]


def load(
    source: str | Path,
    *,
    device: str | None = None,
    precision: str = "float32",
    engine: str = "auto",
    offline: bool = False,
    truncation: str | None = None,
    adapter: str | Path | None = None,
    bound: Bound | None = None,
    manner: Manner | None = None,
    name: str | None = None,
) -> Model:
    """Opens a folder with weights, or a hub id; as `bothways.run.opening.load` says, which opens exported ones too."""
    folder, name = find_model(source, offline), name or str(source)
    with torch.inference_mode(False):  # what is opened within such a block may be trained outside of it
        saved = read_folder(folder)
    if adapter is not None:
        saved = with_adapter(saved, Path(adapter), name, folder)
    return Model(
        saved,
        device=device,
        precision=precision,
        engine=engine,
        truncation=truncation,
        bound=bound,
        manner=manner,
        name=name,
    )


class Model(Questions):
    """An encoder with its tokenizer and heads.

    Attributes:
        encoder: The encoder, an ordinary module.
        heads: The heads by kind: ``"mlm"``, ``"classify"``, ``"tag"``, ...
        precision: What matrix products are computed in.
        name: Where it came from.
        truncated: What was cut so far, over all calls.
    """

    def __init__(
        self,
        saved: Saved,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        engine: str = "reference",
        truncation: str | None = None,
        bound: Bound | None = None,
        manner: Manner | None = None,
        name: str = "this model",
    ) -> None:
        super().__init__(saved, truncation=truncation, name=name)
        self._saved, self._bound, self._manner = saved, bound, manner or Manner()
        self._asked, self._kept = check_engine(engine), Kept()
        self.encoder: Encoder = saved.encoder
        self.heads: dict[str, nn.Module] = saved.heads
        apply_thread_limit()
        self.to(device or usual_device(engine, precision))
        self._auto = precision == "auto"
        self.precision = precision_for(self, precision)

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
        attention_start: AttentionStart | None = "random",
    ) -> Model:
        """A model with random weights.

        Args:
            config: What its encoder is.
            tokenizer: What makes its tokens.
            heads: Its heads; they decide whether the encoder has a pooler. Without heads the configuration does.
            seed: Of the weights.
            device: Where it lies.
            keep_pooler: Whether the configuration decides about the pooler in any case.
            attention_start: As of `bothways.pretrain`.

        Raises:
            BothwaysError: Attention cannot begin so.
        """
        if heads and not keep_pooler:  # a pooler that nothing reads would never learn, and would be saved all the same
            config = config.derive(pooler="tanh" if any(head.needs_pooler for head in heads) else None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed("weights", seed))
            encoder = build_encoder(config)
            begin_attention(encoder, attention_start)
            made = {str(head.kind): build_head(head, config) for head in heads}
        configs = {str(head.kind): head for head in heads}
        saved = Saved(encoder=encoder, heads=made, head_configs=configs, tokenizer=tokenizer)
        return cls(saved, device=device)

    @property
    def config(self) -> EncoderConfig:
        """What the encoder is."""
        return self.encoder.config

    @property
    def parts(self) -> Parts:
        """Its modules."""
        return Parts(self.encoder, self.heads, self.head_configs)

    @property
    def engine(self) -> Engine:
        """What runs it: made at the first question, and again when the weights have changed.

        A model that was not opened but made or trained runs in plain torch, unless it was told otherwise.
        """
        if self._given is not None:
            return self._given
        parts = self.parts
        return self._kept.engine(parts, self._asked, self.precision, lambda: packed_for(self), self._manner)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device

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

    def attentions(self, text: str, pair: str | None = None) -> tuple[list[str], np.ndarray]:
        """Who looks at whom in a text.

        Returns:
            The L tokens, and the attention weights ``(layers, heads, L, L)`` float32, each row summing to one.
        """
        encoded = self.encode([text], None if pair is None else [pair])
        batch = encoded.batch(np.arange(1))
        with torch.inference_mode():
            output = self.encoder(batch, attentions=True)
        weights = np.stack([layer[0].float().cpu().numpy() for layer in output.attentions or []])
        return [self.tokenizer.tokens[token] for token in batch.token_ids[: weights.shape[-1]]], weights

    def save(self, folder: str | Path, *, overwrite: bool = False) -> str:
        """Writes the model so that `transformers`, `sentence-transformers` and Bothways open it.

        Returns:
            A sentence saying what other libraries will see.

        Raises:
            BothwaysError: The folder exists already, or the disk is full; nothing half-written stays.
        """
        return write_folder(self._saved, Path(folder), overwrite=overwrite)

    def export(
        self,
        folder: str | Path,
        *,
        to: str = "onnx",
        precision: str = "float32",
        texts: Sequence[str] | None = None,
        metric: Callable[[Any], float] | None = None,
        allowed_loss: float | None = None,
        worst_cosine: float | None = None,
        equal_decisions: float | None = None,
        overwrite: bool = False,
    ) -> ExportReport:
        """Writes the whole model as a graph that runs without torch: `bothways.load` opens it for the same questions.

        Token ids go in; hidden states, vectors and the numbers of all heads come out. What comes out is compared with
        what this model computes, on real texts of many lengths, before the folder is there.

        Args:
            folder: Where.
            to: ``"onnx"`` for ONNX Runtime, or ``"openvino"``.
            precision: ``"float32"``, or for onnx ``"int8"``: 8-bit weights, a quarter of the size.
            texts: What it is compared on; None takes English texts of 1 word to as many as the model takes.
            metric: As for `quantize`; then it alone decides about int8.
            allowed_loss: How much of it may be lost, 0.005 when not given.
            worst_cosine: What int8 must keep of every vector, where the model has no heads, 0.999 when not given.
                Layers that lose most stay float32 until it does.
            equal_decisions: The share of equal decisions that int8 must keep, of each head, 0.995 when not given.
            overwrite: Whether an exported folder of that name is replaced.

        Raises:
            BothwaysError: The attention of the family cannot be exported, a library is missing, the folder exists
                already, the disk is full, or int8 cannot keep what it must; nothing half-written stays.
        """
        from bothways.run.exporting.export import export

        return export(
            self,
            folder,
            to=to,
            precision=precision,
            texts=texts,
            bound=asked_bound(worst_cosine, equal_decisions),
            metric=asked_metric(metric, allowed_loss),
            overwrite=overwrite,
        )

    def quantize(
        self,
        precision: str = "int8",
        *,
        texts: Sequence[str] | None = None,
        metric: Callable[[Any], float] | None = None,
        allowed_loss: float | None = None,
        worst_cosine: float | None = None,
        equal_decisions: float | None = None,
    ) -> Quantized:
        """Finds out how this model computes in lower precision within a bound, takes it, and keeps it when saved.

        Layers that hurt most stay in higher precision until the bound holds. A saved model opens in the precision
        without looking for it again; ``precision="auto"`` takes it where it was found fastest.

        Args:
            precision: ``"int8"``, ``"int16"`` or ``"bf16"``.
            texts: Real texts of many lengths; int8 rounds weights by every second of them. None: English texts of
                several kinds.
            metric: A function that gives a number for a model, more being better, such as its accuracy on labelled
                rows (`bothways.learn.evaluate.labelled_metric`). Then it decides, instead of cosines and decisions.
            allowed_loss: How much of the metric may be lost, 0.005 when not given.
            worst_cosine: What every vector must keep, 0.999 when not given.
            equal_decisions: The share of equal decisions of each head, 0.995 when not given.

        Returns:
            What was found.

        Raises:
            BothwaysError: The processor lacks the precision, or the bound cannot be held; the layer that hurts most is
                named.
        """
        from bothways.run.lower import quantize

        bound, asked = asked_bound(worst_cosine, equal_decisions), asked_metric(metric, allowed_loss)
        found = quantize(self, precision, None if texts is None else list(texts), bound, asked)
        self.precision, self._bound, self._kept = precision, None, Kept()
        return found

    def save_adapter(self, adapter: Adapter, folder: str | Path, *, overwrite: bool = False) -> None:
        """Writes what LoRA learned, and the heads beside it, so that `load` and the library `peft` add it to its base.

        Args:
            adapter: As `finetune` returns it with this model.
            folder: Where.
            overwrite: Whether a folder of that name is replaced.

        Raises:
            BothwaysError: The folder exists already or holds something else, or the disk is full; nothing half-written
                stays.
        """
        write_adapter(adapter, self._saved, Path(folder), overwrite=overwrite)

    def copy(self) -> Model:
        """An independent copy, such as for training one and keeping the other."""
        return Model(
            copy.deepcopy(self._saved),
            device=self.device,
            precision=self.precision,
            engine=self._asked,
            truncation=self.truncation,
            bound=self._bound,
            manner=self._manner,
            name=self.name,
        )

    def with_encoder(self, encoder: Encoder) -> Model:
        """The same model around another encoder of the same configuration, such as one whose tables were merged."""
        saved = replace(self._saved, encoder=encoder)
        return Model(saved, device=self.device, precision=self.precision, engine=self._asked, name=self.name)

    def remade(self, encoder: Encoder, heads: dict[str, nn.Module], tokenizer: Tokenizer | None) -> Model:
        """What is known of this model around other modules; what was known of their lower precision is forgotten."""
        saved = replace(
            copy.deepcopy(self._saved), encoder=encoder, heads=heads, tokenizer=tokenizer, rounded={}, lower={}
        )
        return Model(saved, device=self.device, engine=self._asked, name=self.name)
