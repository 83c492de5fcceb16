"""Probabilities from numbers, in NumPy: safe for large ones, over the last axis."""

from __future__ import annotations

import numpy as np


def softmax(values: np.ndarray) -> np.ndarray:
    """Shares that sum to one."""
    shares = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


def log_softmax(values: np.ndarray) -> np.ndarray:
    """The logarithms of `softmax`."""
    lowered = values - values.max(-1, keepdims=True)
    return np.asarray(lowered - np.log(np.exp(lowered).sum(-1, keepdims=True)))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Each number by itself as a probability."""
    return np.asarray(np.exp(log_sigmoid(values)))


def log_sigmoid(values: np.ndarray) -> np.ndarray:
    """The logarithms of `sigmoid`."""
    return np.asarray(-np.logaddexp(np.zeros((), values.dtype), -values))
