"""The module that is exported: the model's own blocks and heads over one padded rectangle.

Shapes: N texts of L tokens, padding counted; T = N · L; D width, E of sentence vectors, C classes, V vocabulary, M
places.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig
from bothways.model.encoder import EncoderOutput
from bothways.model.heads.enhanced_mask_decoder import look_again
from bothways.model.parts.context import Context
from bothways.model.parts.padded import HIDDEN, Padded
from bothways.run.engines.outputs import Parts
from bothways.run.engines.protocol import DENSE, VECTOR
from bothways.run.engines.protocol import HIDDEN as STATES
from bothways.run.exporting.schemes import exportable
from bothways.run.pooling import POOLINGS
from bothways.run.sentence_folder import SentenceRecipe

_UNABLE = {
    "windows": "attention within windows with global tokens (Longformer)",
    "sparse": "block-sparse attention (BigBird)",
}
PLACES = "places"
"""The input that says at which tokens masked words are asked, counted over the whole rectangle, row by row."""


def refuse_unable(config: EncoderConfig, name: str) -> None:
    """Refuses what no graph of full attention computes.

    Raises:
        BothwaysError: The encoder's attention is of such a kind.
    """
    if what := _UNABLE.get(config.attention.kind):
        raise BothwaysError(f"{name} has {what}, which cannot be exported; run it as it is: bw.load, bothways embed")


@dataclass(frozen=True)
class PaddedOutput(EncoderOutput):
    """What the encoder gives for a rectangle, in which sequences begin at equal distances and are filled up.

    Attributes:
        plan: The rectangle.
    """

    plan: Padded = field(default_factory=Padded)

    def vectors(self, reads: str) -> Tensor:
        """``(N, D)`` one vector a sequence, as `EncoderOutput.vectors` says; real tokens alone count for the mean."""
        if reads == "pooled":
            assert self.pooled is not None
            return self.pooled
        return self.pool({"first": "cls"}.get(reads, reads))

    def pool(self, pooling: str) -> Tensor:
        """``(N, D)`` for one way of pooling: as `bothways.run.pooling.pool` computes it."""
        x_NLD, real_NL = self.plan.rectangle(self.sequence), self.plan.real
        if pooling == "cls":
            return x_NLD[:, 0]
        if pooling == "max":
            return (x_NLD + (1 - real_NL)[:, :, None] * HIDDEN).amax(1)
        return (x_NLD * self._weights(pooling, x_NLD, real_NL)[:, :, None]).sum(1)

    def _weights(self, pooling: str, x_NLD: Tensor, real_NL: Tensor) -> Tensor:
        """``(N, L)`` what each token weighs; padding weighs nothing."""
        if pooling == "attention":
            scores_NL = (x_NLD * x_NLD[:, :1]).sum(2) / x_NLD.shape[2] ** 0.5
            return torch.softmax(scores_NL + (1 - real_NL) * HIDDEN, dim=1)
        places_NL = real_NL.cumsum(1) * real_NL
        lengths_N1 = real_NL.sum(1, keepdim=True)
        match pooling:
            case "mean":
                return real_NL / lengths_N1
            case "mean_sqrt":
                return real_NL / lengths_N1.sqrt()
            case "last":
                return (places_NL == lengths_N1).to(real_NL.dtype)
            case _:
                return places_NL / places_NL.sum(1, keepdim=True)

    def at_each_token(self, x_SD: Tensor) -> Tensor:
        """As `EncoderOutput.at_each_token`."""
        return x_SD[:, None].expand(-1, self.plan[0].length, -1).flatten(0, 1)


class Graph(nn.Module):
    """A model from token ids to everything that an engine can be asked for.

    Args:
        parts: The model's modules; they are shared, not copied.
        recipe: How texts become vectors.

    Attributes:
        inputs: The names of its inputs, in order.
        outputs: The names of its outputs, in order.
    """

    def __init__(self, parts: Parts, recipe: SentenceRecipe) -> None:
        super().__init__()
        encoder = copy.copy(parts.encoder)
        encoder._modules = dict(parts.encoder._modules)  # the scheme is another one here
        encoder.scheme = exportable(parts.encoder.scheme)
        self.encoder, self.recipe = encoder, recipe
        self.heads = nn.ModuleDict({kind: head for kind, head in parts.heads.items() if kind not in ("crf", DENSE)})
        self.dense = parts.heads.get(DENSE)
        self.enhanced = "mlm" in parts.heads and parts.head_configs["mlm"].decoder == "enhanced"
        segments = ["token_type_ids"] if parts.encoder.config.embeddings.segments > 1 else []
        places = [PLACES] if "mlm" in parts.heads else []
        self.inputs = ["input_ids", "attention_mask", *segments, *places]
        self.outputs = [STATES, VECTOR, *POOLINGS, *([DENSE] if self.dense else []), *self.heads]
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order.

        ``hidden`` ``(N, L, D)``; ``vector`` ``(N, E)`` as the model makes vectors, normalised where it does; each way
        of pooling ``(N, D)`` and ``dense`` ``(N, E)``, where the model has such a layer, not normalised; then the
        heads: of sequences ``(N, C)`` or ``(N,)``, of tokens ``(N, L, C)`` or ``(N, L)``, of masked tokens ``(M, V)``
        at the places asked for.
        """
        given = dict(zip(self.inputs, inputs, strict=True))
        output, context = self._encode(given)
        pooled = {way: output.pool(way).float() for way in POOLINGS}
        vector = torch.cat([pooled[way] for way in self.recipe.pooling.split("+")], dim=1)
        dense = []
        if self.dense is not None:
            dense = [vector := self.dense(vector)]
        if self.recipe.normalize:
            vector = vector / vector.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
        hidden = context.plan.rectangle(output.sequence).float()  # type: ignore[attr-defined]
        heads = (self._head(kind, output, context, given) for kind in self.heads)
        return (hidden, vector, *pooled.values(), *dense, *heads)

    def _encode(self, given: dict[str, Tensor]) -> tuple[PaddedOutput, Context]:
        ids_NL, mask_NL = given["input_ids"], given["attention_mask"]
        encoder, plan = self.encoder, Padded.of(mask_NL)
        _, sequences, length = plan[0]
        positions_T = torch.arange(length).expand(sequences, length).flatten()
        segments_NL = given.get("token_type_ids", ids_NL)  # a family without segments does not look at them
        context = Context(plan=plan, starts=np.zeros(1, dtype=np.int64), positions=positions_T)
        if encoder.scheme is not None:
            context = replace(context, prepared=encoder.scheme.prepare(context))  # type: ignore[operator]
        x_TD = encoder.embeddings(ids_NL.flatten(), positions_T, segments_NL.flatten())
        layers: list[Tensor] | None = [x_TD] if self.enhanced else None
        x_TD = encoder.stack(x_TD, context, layers)
        pooled = None if encoder.pooler is None else encoder.pooler(plan.rectangle(x_TD)[:, 0])
        return PaddedOutput(x_TD, context.starts, pooled, layers, plan=plan), context

    def _head(self, kind: str, output: PaddedOutput, context: Context, given: dict[str, Tensor]) -> Tensor:
        head = self.heads[kind]
        if kind == "mlm":
            places_M = given[PLACES]
            if self.enhanced:
                assert output.hidden is not None
                states_MD = look_again(self.encoder, output.hidden[-2], context, places_M)
            else:
                states_MD = output.sequence.index_select(0, places_M)
            return head(states_MD, self.encoder.token_table)
        found: Tensor = head.scores(output.sequence) if kind == "tag" else head(output)  # type: ignore[operator]
        return output.plan.rectangle(found) if kind in ("tag", "answer", "rtd", "late") else found
