"""How vectors lie: in a narrow cone or all around, near what they belong to or not.

Shapes: N vectors of width E, P pairs of vectors that belong together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.run.pooling import normalize

MOST = 2000
"""Vectors among which all pairs are looked at; of more so many are drawn."""
BINS = 20
"""Of the picture of cosines, from -1 to 1."""


def geometry(vectors_NE: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How N vectors of different texts lie.

    Args:
        vectors_NE: ``(N, E)`` as a model gives them, at least two.
        seed: Of the draw, where there are more than `MOST`.

    Returns:
        ``mean_cosine`` of random pairs, the anisotropy of Ethayarajh 2019 (section 4.1): 0 where vectors point
        everywhere, 1 where all point the same way. ``cosines``, the share of pairs in each of `BINS` equal parts from
        -1 to 1. ``uniformity`` (Wang and Isola 2020, section 4.1.2): the logarithm of the mean of exp(-2 d²) over pairs
        at distance d on the sphere; lower is more even, 0 is a single point. Of the spectrum, the eigenvalues of the
        covariance as shares of their sum: ``spectrum`` (falling), ``first`` of them, ``directions`` that hold 90 % of
        the variance, and ``effective_rank``, the exponential of its entropy (Roy and Vetterli 2007).
    """
    drawn = _some(np.asarray(vectors_NE, dtype=np.float64), seed)
    unit = normalize(drawn)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    shares = np.histogram(np.clip(cosines, -1, 1), BINS, (-1, 1))[0] / len(cosines)
    variances = np.linalg.svd(drawn - drawn.mean(0), compute_uv=False) ** 2
    spectrum = variances / max(variances.sum(), 1e-30)
    told = spectrum[spectrum > 1e-12]
    return {
        "mean_cosine": float(cosines.mean()),
        "uniformity": float(np.log(np.exp(-2 * (2 - 2 * cosines)).mean())),
        "first": float(spectrum[0]),
        "directions": int(np.searchsorted(np.cumsum(spectrum), 0.9) + 1),
        "effective_rank": float(np.exp(-(told * np.log(told)).sum())),
        "spectrum": spectrum.tolist(),
        "cosines": shares.tolist(),
    }


def alignment(a_PE: np.ndarray, b_PE: np.ndarray) -> dict[str, float]:
    """How near vectors lie that belong together.

    Args:
        a_PE: ``(P, E)`` vectors.
        b_PE: ``(P, E)`` those that belong to them.

    Returns:
        ``alignment`` (Wang and Isola 2020, section 4.1.1), the mean of the squared distance on the sphere, lower is
        nearer; and ``pair_cosine``, the mean cosine.
    """
    cosines = (normalize(np.asarray(a_PE, dtype=np.float64)) * normalize(np.asarray(b_PE, dtype=np.float64))).sum(1)
    return {"alignment": float((2 - 2 * cosines).mean()), "pair_cosine": float(cosines.mean())}


def whitening(vectors_NE: np.ndarray, dims: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What turns vectors so that their values have no mean, the same variance and no correlation.

    Su et al. 2021, "Whitening Sentence Representations for Better Semantics and Faster Retrieval" (section 3).

    Args:
        vectors_NE: ``(N, E)`` of texts like those to come.
        dims: How many of the strongest directions are kept; None for all that hold any variance.

    Returns:
        ``(E, K)`` weights and ``(K,)`` bias: vectors times weights, plus bias, are white.
    """
    mean = vectors_NE.mean(0, dtype=np.float64)
    _, spread, directions = np.linalg.svd(vectors_NE - mean, full_matrices=False)
    held = int((spread > 1e-6 * spread[0]).sum())
    kept = min(dims or held, held)
    weights_EK = directions[:kept].T * (np.sqrt(len(vectors_NE)) / spread[:kept])
    return weights_EK.astype(np.float32), (-mean @ weights_EK).astype(np.float32)


def _some(vectors_NE: np.ndarray, seed: int) -> np.ndarray:
    if len(vectors_NE) <= MOST:
        return vectors_NE
    return vectors_NE[generator("geometry", seed).permutation(len(vectors_NE))[:MOST]]
