"""Integrated gradients: the gradient of a number on the way from masked words to the words that are there.

Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks", section 3. The way is straight, between the
rows of the token table; along it the integral is taken at Gauss and Legendre's points, of which smooth functions need
few. The weights of all words add up to the difference between both ends; by how much they do not tells whether there
were enough points, and there are more until they do.

Shapes: N points, L tokens, E width of the token table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bothways.use.explain.subject import Subject
from bothways.use.explain.targets import Target

if TYPE_CHECKING:
    import torch

    from bothways.run.model import Model

_POINTS = (8, 16, 32, 64, 128, 256)
_ENOUGH = 0.01
"""The share of the difference that the sum of the weights may miss."""
_TOKENS = 4096
"""At once."""


def integrated_gradients(subject: Subject, target: Target) -> tuple[np.ndarray, float]:
    """What each word adds.

    Args:
        subject: Of a model with weights, not of an exported one.
        target: The number.

    Returns:
        ``(W,)`` float64, and the share of the difference between both ends that their sum misses.
    """
    first, last = (_along(subject, target, np.array([share]), gradients=False)[0][0] for share in (0.0, 1.0))
    found, missed = np.zeros(len(subject.ids)), 1.0
    for points in _POINTS:
        places, weights = np.polynomial.legendre.leggauss(points)
        _, slopes = _along(subject, target, (places + 1) / 2, gradients=True)
        found = (weights / 2) @ slopes
        missed = abs(found.sum() - (last - first)) / max(abs(last - first), 1e-3)
        if missed <= _ENOUGH:
            break
    return np.array([found[word.tokens].sum() for word in subject.words]), float(missed)


def _along(subject: Subject, target: Target, shares: np.ndarray, *, gradients: bool) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` the number at shares of the way, and ``(N, L)`` how steeply each token raises it there."""
    at_once = max(1, _TOKENS // len(subject.ids))
    parts = [
        _some(subject, target, shares[begin : begin + at_once], gradients) for begin in range(0, len(shares), at_once)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _some(subject: Subject, target: Target, shares: np.ndarray, gradients: bool) -> tuple[np.ndarray, np.ndarray]:
    import torch

    from bothways.run.engines.outputs import compute

    model = cast("Model", subject.model)
    parts, table = model.parts, model.encoder.token_table.detach()
    parts.eval()
    count, length = len(shares), len(subject.ids)
    here, there = (table[torch.as_tensor(ids.astype(np.int64))] for ids in (subject.masked, subject.ids))
    step_LE = (there - here).float()
    share = torch.as_tensor(shares, dtype=torch.float32, device=table.device)
    on_the_way = (here + share[:, None, None] * step_LE).reshape(count * length, -1).requires_grad_(gradients)

    def instead(module: torch.nn.Module, given: Any, looked_up: torch.Tensor) -> torch.Tensor:
        return on_the_way

    batch = subject.batch(np.tile(subject.ids, (count, 1)), target.output.kind)
    hook = model.encoder.embeddings.tokens.register_forward_hook(instead)  # type: ignore[union-attr]
    try:
        with torch.set_grad_enabled(gradients):
            values = compute(parts, batch, target.output)
            shaped = values if len(values) == count else values.reshape(count, length, -1)
            numbers = target.numbers(shaped.float(), torch)
            slopes = torch.zeros(count, length)
            if gradients:
                (gradient,) = torch.autograd.grad(numbers.sum(), on_the_way)
                slopes = (gradient.reshape(count, length, -1) * step_LE).sum(-1)
    finally:
        hook.remove()
    return numbers.detach().cpu().double().numpy(), slopes.cpu().double().numpy()
