"""Late interaction learns among the texts of a step (Khattab and Zaharia 2020, section 3.4; Santhanam et al. 2022).

Shapes: T tokens of a step, P width of a token's vector, G queries, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.examples import GroupExamples, too_long
from bothways.model.heads.late import maxsim, unseen_states
from bothways.run.late_recipe import LateRecipe
from bothways.run.model import Model
from bothways.text.encoded import gather_index
from bothways.text.kept import Sequences
from bothways.text.tokenizer import warn_of_cut
from bothways.text.truncation import TooLongError, Truncation

_TEXTS = 4096


@dataclass(frozen=True)
class LateMatcher:
    """Sums of best products of tokens.

    Attributes:
        recipe: How texts are read.
        skipped: The ids of the tokens of texts that no query finds.
        mask_id: What queries are filled up with; -1 where they are not.
    """

    recipe: LateRecipe
    skipped: np.ndarray
    mask_id: int
    name = "late"

    def represent(self, model: nn.ModuleDict, batch: TokenBatch) -> Tensor:
        """``(T, P)`` float32."""
        encoder = model["encoder"]
        if self.recipe.expand == "unseen":
            seen = self.recipe.seen(batch.token_ids, self.mask_id, batch.starts)
            found: Tensor = model["late"](unseen_states(encoder, batch, seen))  # type: ignore[arg-type]
            return found
        states: Tensor = model["late"](encoder(batch))
        return states

    def scores(self, states: Tensor, batch: TokenBatch, asked: np.ndarray, candidates: np.ndarray) -> Tensor:
        """``(G, C)`` float32."""
        rows = gather_index(batch.starts[candidates], batch.lengths[candidates])
        kept = ~np.isin(batch.token_ids[rows], self.skipped)
        lengths = np.add.reduceat(
            kept, np.concatenate(([0], np.cumsum(batch.lengths[candidates])[:-1])), dtype=np.int64
        )
        own = gather_index(batch.starts[asked], batch.lengths[asked])
        one, other = (states[torch.from_numpy(places).to(states.device)] for places in (own, rows[kept]))
        return maxsim(one, batch.lengths[asked].tolist(), other, lengths.tolist())

    def beside(self, states: Tensor, asked: np.ndarray, candidates: np.ndarray, progress: float) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class LateExamples(GroupExamples):
    """Groups whose first texts are read as queries, the others as texts.

    Args:
        model: It says how long a text may be.
        data: N groups.
        recipe: How texts are read.
    """

    def __init__(self, model: Model, data: VectorData, recipe: LateRecipe) -> None:
        self.data, self.times = data, 1
        self.encoded, cut = Sequences(), Truncation()
        queries = np.zeros(len(data.texts), dtype=bool)
        queries[data.starts[:-1]] = True
        for begin in range(0, len(data.texts), _TEXTS):
            texts = [data.texts[place] for place in range(begin, min(len(data.texts), begin + _TEXTS))]
            own = queries[begin : begin + len(texts)]
            sides = {}
            for query in (True, False):
                places = np.flatnonzero(own == query)
                try:
                    sides[query] = recipe.encode(
                        model.tokenizer,
                        [texts[place] for place in places],
                        query=query,
                        max_length=model.max_length,
                        truncation=model.truncation,
                    )
                except TooLongError as error:
                    raise too_long(data, begin + int(places[error.place]), error) from None
                cut += sides[query].truncation
            for place, query in enumerate(own.tolist()):
                ids = sides[query].sequence(int((own[:place] == query).sum()))
                edges = np.array([0, len(ids)])
                self.encoded.append(ids, np.zeros(len(ids), np.int8), edges, np.array([begin + place]))
        warn_of_cut(cut, model.truncation, model.max_length)
