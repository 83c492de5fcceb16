"""What the tags of a text say of their neighbours: a linear-chain conditional random field beside a tag head.

Lafferty, McCallum and Pereira 2001, "Conditional Random Fields"; over a network's scores Lample et al. 2016, "Neural
Architectures for Named Entity Recognition", section 2.2. The score of a path is the sum of its tags' scores, of what
each tag says of the next, and of what the first and last tag of a text get. The sum over all paths is computed by the
forward algorithm, its gradient by going backward through it. `bothways.run.viterbi` finds the best path.

Shapes: S chains, L the longest, N words of all chains, C tags.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

_FORBIDDEN = -1e4
"""The score of what is forbidden: its share of any sum is 0 in float32, and unlike an infinity it has gradients."""


class Chains(NamedTuple):
    """How N words make S chains.

    Attributes:
        lengths: ``(S,)`` words of each, at least one.
        begins: ``(S,)`` whether its first word is the first of the text, not of a window within it.
        ends: ``(S,)`` whether its last word is the text's last.
    """

    lengths: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def whole(cls, lengths: np.ndarray) -> Chains:
        """Whole texts."""
        every = np.ones(len(lengths), dtype=bool)
        return cls(np.asarray(lengths), every, every)


class Scores(NamedTuple):
    """``(C, C)`` of a tag (column) behind another (row), ``(C,)`` of a text's first and ``(C,)`` of its last tag."""

    follows: Tensor
    begins: Tensor
    ends: Tensor


class TagChain(nn.Module):
    """Scores of neighbouring tags, some of them forbidden.

    What is allowed lies beside the scores, and is saved with them: everything, unless `constrain` was told.

    Args:
        tags: C.
    """

    allowed_follows: Tensor
    allowed_begins: Tensor
    allowed_ends: Tensor

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.follows = nn.Parameter(torch.zeros(tags, tags))
        self.begins = nn.Parameter(torch.zeros(tags))
        self.ends = nn.Parameter(torch.zeros(tags))
        for name, shape in (("follows", (tags, tags)), ("begins", (tags,)), ("ends", (tags,))):
            self.register_buffer(f"allowed_{name}", torch.ones(shape, dtype=torch.bool))

    def constrain(self, follows: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        """Says what is allowed, in the shapes of `Scores`."""
        places = (self.allowed_follows, self.allowed_begins, self.allowed_ends)
        for place, values in zip(places, (follows, begins, ends), strict=True):
            place.copy_(torch.from_numpy(values))

    @torch.no_grad()
    def start_from(self, follows: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        """Sets the scores, in the shapes of `Scores`."""
        for place, values in zip((self.follows, self.begins, self.ends), (follows, begins, ends), strict=True):
            place.copy_(torch.from_numpy(values))

    def scores(self) -> Scores:
        """The scores, those of what is forbidden far below all others."""
        return Scores(
            self.follows.float().masked_fill(~self.allowed_follows, _FORBIDDEN),
            self.begins.float().masked_fill(~self.allowed_begins, _FORBIDDEN),
            self.ends.float().masked_fill(~self.allowed_ends, _FORBIDDEN),
        )

    def forward(self, emissions_NC: Tensor, tags_N: Tensor, chains: Chains) -> Tensor:
        """The negative logarithm of the right paths' probabilities.

        Args:
            emissions_NC: ``(N, C)`` the scores of each word's tags, float32; the words of a chain in a row.
            tags_N: ``(N,)`` the right tags.
            chains: Which words make a chain.

        Returns:
            ``(S,)`` float32.
        """
        return self.all_paths(emissions_NC, chains) - self.one_path(emissions_NC, tags_N, chains)

    def one_path(self, emissions_NC: Tensor, tags_N: Tensor, chains: Chains) -> Tensor:
        """``(S,)`` the score of one path through each chain."""
        follows_CC, begins_C, ends_C = self.scores()
        device = emissions_NC.device
        ends = np.cumsum(chains.lengths)
        chain_N = np.repeat(np.arange(len(ends)), chains.lengths)
        inner = torch.from_numpy(np.flatnonzero(chain_N[1:] == chain_N[:-1])).to(device)
        first, last = (torch.from_numpy(places).to(device) for places in (ends - chains.lengths, ends - 1))
        begun, ended = (torch.from_numpy(flags).to(device) for flags in (chains.begins, chains.ends))
        scores_N = emissions_NC.gather(1, tags_N[:, None]).squeeze(1)
        scores_N = scores_N.index_add(0, inner + 1, follows_CC[tags_N[inner], tags_N[inner + 1]])
        total_S = scores_N.new_zeros(len(ends)).index_add(0, torch.from_numpy(chain_N).to(device), scores_N)
        return total_S + torch.where(begun, begins_C[tags_N[first]], 0) + torch.where(ended, ends_C[tags_N[last]], 0)

    def all_paths(self, emissions_NC: Tensor, chains: Chains) -> Tensor:
        """``(S,)`` the logarithm of the sum over all paths of their exponential scores: the forward algorithm."""
        follows_CC, begins_C, ends_C = self.scores()
        device = emissions_NC.device
        begun, ended = (torch.from_numpy(flags[:, None]).to(device) for flags in (chains.begins, chains.ends))
        chain_N = np.repeat(np.arange(len(chains.lengths)), chains.lengths)
        column_N = np.arange(len(chain_N)) - np.repeat(np.cumsum(chains.lengths) - chains.lengths, chains.lengths)
        longest, tags = int(chains.lengths.max(initial=0)), emissions_NC.shape[1]
        places = tuple(torch.from_numpy(place).to(device) for place in (column_N, chain_N))
        emissions_LSC = emissions_NC.new_zeros(longest, len(chains.lengths), tags).index_put(places, emissions_NC)
        goes_on_LS1 = torch.from_numpy(np.arange(longest)[:, None] < chains.lengths).to(device)[:, :, None]
        sums_SC = emissions_LSC[0] + torch.where(begun, begins_C, 0)
        for emission_SC, goes_on_S1 in zip(emissions_LSC[1:], goes_on_LS1[1:], strict=True):
            further_SC = torch.logsumexp(sums_SC[:, :, None] + follows_CC, dim=1) + emission_SC
            sums_SC = torch.where(goes_on_S1, further_SC, sums_SC)
        return torch.logsumexp(sums_SC + torch.where(ended, ends_C, 0), dim=1)
