"""From token vectors to one vector a text. NumPy only, so that it works where torch is not installed.

Shapes: T tokens in the packed batch, S sequences, D width, P width of the pooled vectors.
"""

from __future__ import annotations

import numpy as np

from bothways.errors import BothwaysError, closest

POOLINGS = ("mean", "cls", "max", "mean_sqrt", "last", "weighted_mean", "attention")
"""``mean`` of all tokens, ``cls`` (the first token), ``max`` of each value, ``mean_sqrt`` (the sum divided by the root
of the length), ``last`` token, ``weighted_mean`` (a token weighs its place, counted from 1) and ``attention`` (a token
weighs what the first token's attention gives it)."""


def check_pooling(pooling: str) -> str:
    """Returns the name if there is such a pooling, or such poolings joined by ``+``.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    ways = pooling.split("+")
    for way in ways:
        if way not in POOLINGS:
            raise BothwaysError(
                f"there is no pooling {way!r}; there are {', '.join(POOLINGS)}, or several of them joined by +"
                f"{closest(way, POOLINGS)}"
            )
    if len(set(ways)) < len(ways):
        raise BothwaysError(f"the pooling {pooling!r} takes the same vectors twice; name each way once")
    return pooling


def pool(hidden_TD: np.ndarray, starts: np.ndarray, pooling: str) -> np.ndarray:
    """Pools the tokens of each sequence, ``[CLS]`` and ``[SEP]`` included, as Reimers and Gurevych 2019 (section 3) do.

    The weighted mean by place is that of Muennighoff 2022, "SGPT"; attention is the scaled dot product
    of Vaswani et al. 2017 (section 3.2.1), with the first token's hidden state as the query.

    Args:
        hidden_TD: ``(T, D)`` hidden states.
        starts: ``(S + 1,)`` where each sequence begins.
        pooling: A name of `POOLINGS`, or several joined by ``+``: their vectors side by side.

    Returns:
        ``(S, P)`` float32: P is D for each way.
    """
    hidden_TD = np.asarray(hidden_TD, dtype=np.float32)
    ways = check_pooling(pooling).split("+")
    return np.concatenate([_pooled(hidden_TD, np.asarray(starts), way) for way in ways], axis=1)


def _pooled(hidden_TD: np.ndarray, starts: np.ndarray, way: str) -> np.ndarray:
    first, lengths = starts[:-1], np.diff(starts)
    match way:
        case "cls":
            return hidden_TD[first]
        case "last":
            return hidden_TD[starts[1:] - 1]
        case "max":
            return np.maximum.reduceat(hidden_TD, first, axis=0)
        case "mean":
            weights = np.repeat(1 / lengths, lengths)
        case "mean_sqrt":
            weights = np.repeat(lengths**-0.5, lengths)
        case "weighted_mean":
            places = np.arange(len(hidden_TD)) - np.repeat(first, lengths) + 1
            weights = places / np.repeat(np.add.reduceat(places, first), lengths)
        case _:
            queries = np.repeat(hidden_TD[first], lengths, axis=0)
            scores = (hidden_TD * queries).sum(1) / hidden_TD.shape[1] ** 0.5
            raised = np.exp(scores - np.repeat(np.maximum.reduceat(scores, first), lengths))
            weights = raised / np.repeat(np.add.reduceat(raised, first), lengths)
    summed: np.ndarray = np.add.reduceat(hidden_TD * weights[:, None].astype(np.float32), first, axis=0)
    return summed


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales each row of ``(S, D)`` to length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
