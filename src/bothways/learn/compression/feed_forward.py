"""Narrower feed-forward layers: the inner values go whose absence the others can best make up for.

Inner values are what a layer's output is a linear function of, so what is lost on given texts when some of them go, and
how the weights of the others then have to be, is known in closed form: the optimal brain surgeon (Hassibi and Stork
1993), for whole inner values as in Kurtic, Frantar and Alistarh 2023, "ZipLM", section 3.1. They go a few at a time,
never two at once that stand in for each other.

Shapes: T tokens of the texts, D width, F inner width, K of it that stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.compression.rebuilt import rebuilt
from bothways.run.model import Model

_STEP = 32  # of widths, which products like
_RIDGE = 1e-3  # of the mean square of inner values
_TIMES = 128  # in which inner values go
_APART = 0.3  # the most that two which go together may be correlated, given all others


def suited_width(inner: int, wanted: float) -> int:
    """How many inner values stay: a share below 1, rounded to a multiple of 32, or their number.

    Raises:
        BothwaysError: It is no share and no whole number from 2 on, or not below F.
    """
    known = math.isfinite(wanted) and wanted > 0 and (wanted < 1 or (wanted >= 2 and wanted == int(wanted)))
    count = 0 if not known else round(inner * wanted / _STEP) * _STEP if wanted < 1 else int(wanted)
    if not 0 < count < inner:
        raise BothwaysError(
            f"a feed-forward width of {wanted:g} does not do where it is {inner}; give a share below 1 of which a "
            f"multiple of {_STEP} is left, or a smaller number"
        )
    return count


@torch.no_grad()
def with_narrower_layers(base: Model, width: int, texts: Sequence[str]) -> Model:
    """A model whose feed-forward layers have fewer inner values; it stays as it is itself.

    Args:
        base: The model.
        width: K.
        texts: What inner values are looked at on.
    """
    tensors: dict[str, Tensor] = {}
    for name, (square_FF, output) in _squares(base, texts).items():
        kept, fitted_KD = surgeon(square_FF, output.weight.double().cpu().T, width)
        tensors[f"{name}.output.weight"] = fitted_KD.T.float().contiguous()
        state = {key: value.cpu() for key, value in base.encoder.get_submodule(f"{name}.inner").state_dict().items()}
        gated = len(state["weight"]) == 2 * len(square_FF)
        rows = torch.cat([kept, kept + len(square_FF)]) if gated else kept
        tensors |= {f"{name}.inner.{key}": value[rows] for key, value in state.items()}
    config = base.config.derive(feed_forward__width=width)
    return rebuilt(base, config, lambda kind, name, value: tensors.get(name, value) if kind == "encoder" else value)


def surgeon(square_FF: Tensor, weight_FD: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Which inner values stay, and the weights that then give most nearly what was given before.

    Args:
        square_FF: ``(F, F)`` float64 the mean products of inner values.
        weight_FD: ``(F, D)`` float64 what each adds to the output.
        width: K.

    Returns:
        ``(K,)`` their places, in order, and ``(K, D)`` their weights.
    """
    inner = len(square_FF)
    ridge = _RIDGE * square_FF.diagonal().mean()
    inverse = torch.linalg.inv(square_FF + ridge * torch.eye(inner, dtype=square_FF.dtype))
    weight, alive = weight_FD.clone(), torch.ones(inner, dtype=torch.bool)
    at_once = -(-(inner - width) // _TIMES)
    while (left := int(alive.sum()) - width) > 0:
        lost = weight.square().sum(1) / inverse.diagonal().clamp_min(torch.finfo(inverse.dtype).tiny)
        going = _apart(lost.where(alive, torch.inf), inverse, min(at_once, left))
        among = inverse[going][:, going]
        weight -= inverse[:, going] @ torch.linalg.solve(among, weight[going])
        inverse -= inverse[:, going] @ torch.linalg.solve(among, inverse[going])
        alive[going] = False
    return alive.nonzero().squeeze(1), weight[alive]


def _apart(lost: Tensor, inverse: Tensor, count: int) -> list[int]:
    """The inner values of which least is lost, at most `count`, none of which stands in for another."""
    going: list[int] = []
    for place in lost.argsort()[: 4 * count].tolist():
        others = inverse[place, going] ** 2 / (inverse[place, place] * inverse.diagonal()[going])
        if len(going) < count and bool((others <= _APART**2).all()) and lost[place] < torch.inf:
            going.append(place)
    return going


def _squares(model: Model, texts: Sequence[str]) -> dict[str, tuple[Tensor, nn.Linear]]:
    """By the name of each feed-forward layer ``(F, F)`` the mean products of its inner values, and its output layer."""
    found: dict[str, tuple[Tensor, nn.Linear]] = {}
    hooks, tokens = [], 0
    for name, module in model.encoder.named_modules():
        if name.startswith("stack.blocks.") and name.endswith(".feed_forward"):
            output: nn.Linear = module.output
            found[name] = (torch.zeros(output.in_features, output.in_features, dtype=torch.double), output)

            def look(_: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                values_TF = given[0].reshape(-1, given[0].shape[-1]).float()
                found[name][0].add_((values_TF.T @ values_TF).double().cpu())

            hooks.append(output.register_forward_pre_hook(look))
    encoded = model.tokenizer.encode(list(texts), None, max_length=model.max_length, truncation="head")
    try:
        for batch in encoded.batches(2048):
            model.encoder(batch, pooled=False)
            tokens += batch.tokens
    finally:
        for hook in hooks:
            hook.remove()
    for square_FF, _ in found.values():
        square_FF /= max(tokens, 1)
    return found
