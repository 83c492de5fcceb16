"""The best path through a chain of tags, and how likely each tag is in all paths. NumPy only.

Viterbi 1967; forward-backward: Rabiner 1989, "A Tutorial on Hidden Markov Models", section III. Many chains go side by
side, in float64, so that a text of any length adds up exactly enough. Minus infinity forbids.

Shapes: S chains, N words of all chains, C tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_CELLS = 1 << 22
"""Numbers of a rectangle of chains at a time."""


class Chain(NamedTuple):
    """``(C, C)`` scores of a tag (column) behind another (row), ``(C,)`` of the first and ``(C,)`` of the last tag."""

    follows: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def best_paths(emissions_NC: np.ndarray, lengths_S: np.ndarray, chain: Chain) -> np.ndarray:
    """The path with the highest score through each chain.

    Args:
        emissions_NC: ``(N, C)`` the scores of each word's tags; the words of a chain in a row.
        lengths_S: ``(S,)`` words of each chain.
        chain: What neighbours add; at least one path must be allowed.

    Returns:
        ``(N,)`` tags; of equally good ones the lower.
    """
    out = np.empty(len(emissions_NC), dtype=np.int64)
    for block in _blocks(emissions_NC, lengths_S):
        out[block.places] = _best(block, chain)[block.real]
    return out


def marginals(emissions_NC: np.ndarray, lengths_S: np.ndarray, chain: Chain) -> np.ndarray:
    """How likely each tag of each word is: the share of the paths through it.

    Args:
        emissions_NC: ``(N, C)`` the scores of each word's tags; the words of a chain in a row.
        lengths_S: ``(S,)`` words of each chain.
        chain: What neighbours add.

    Returns:
        ``(N, C)`` float32, each row summing to one.
    """
    out = np.empty(emissions_NC.shape, dtype=np.float32)
    for block in _blocks(emissions_NC, lengths_S):
        out[block.places] = _shares(block, chain)[block.real]
    return out


class _Block(NamedTuple):
    """Chains side by side, longest first.

    Attributes:
        emissions: ``(L, S, C)`` float64.
        alive: ``(L,)`` how many chains have that many words; they are the first ones.
        real: ``(L, S)`` where words are.
        places: The words' places, in the order of `real`.
    """

    emissions: np.ndarray
    alive: np.ndarray
    real: np.ndarray
    places: np.ndarray


def _blocks(emissions_NC: np.ndarray, lengths_S: np.ndarray) -> Iterator[_Block]:
    begins = np.cumsum(lengths_S) - lengths_S
    order = np.argsort(-lengths_S, kind="stable")
    order = order[lengths_S[order] > 0]
    at = 0
    while at < len(order):
        longest = int(lengths_S[order[at]])
        tags = emissions_NC.shape[1]
        part = order[at : at + max(1, _CELLS // (tags * max(longest, tags)))]  # a step makes all pairs of tags
        at += len(part)
        steps = np.arange(longest)[:, None]
        real = steps < lengths_S[part]
        places = (begins[part] + steps)[real]
        emissions = np.zeros((longest, len(part), emissions_NC.shape[1]))
        emissions[real] = emissions_NC[places]
        yield _Block(emissions, real.sum(1), real, places)


def _best(block: _Block, chain: Chain) -> np.ndarray:
    """``(L, S)`` the best tags; anything where no word is."""
    came_from = np.zeros(block.emissions.shape, dtype=np.int32)
    scores = block.emissions[0] + chain.begins
    for step in range(1, len(block.alive)):
        alive = block.alive[step]
        ways = scores[:alive, :, None] + chain.follows
        came_from[step, :alive] = ways.argmax(1)
        scores[:alive] = ways.max(1) + block.emissions[step, :alive]
    tags = np.empty(block.real.shape, dtype=np.int64)
    tags[-1] = (scores + chain.ends).argmax(1)  # of shorter chains too: their scores stayed at their last word
    for step in range(len(block.alive) - 1, 0, -1):
        earlier = np.take_along_axis(came_from[step], tags[step][:, None], 1)[:, 0]
        tags[step - 1] = np.where(block.real[step], earlier, tags[step])
    return tags


def _shares(block: _Block, chain: Chain) -> np.ndarray:
    """``(L, S, C)`` the share of each tag."""
    steps = len(block.alive)
    forward, backward = block.emissions.copy(), np.zeros_like(block.emissions)
    forward[0] += chain.begins
    for step in range(1, steps):
        alive = block.alive[step]
        forward[step, :alive] += _logsumexp(forward[step - 1, :alive, :, None] + chain.follows, 1)
    for step in range(steps - 1, -1, -1):
        further = block.alive[step + 1] if step + 1 < steps else 0
        backward[step, further:] = chain.ends
        if further:
            behind = block.emissions[step + 1, :further] + backward[step + 1, :further]
            backward[step, :further] = _logsumexp(chain.follows + behind[:, None, :], 2)
    both = forward + backward
    shares = np.exp(both - both.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _logsumexp(values: np.ndarray, axis: int) -> np.ndarray:
    highest = values.max(axis, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - highest).sum(axis)) + highest.squeeze(axis)
