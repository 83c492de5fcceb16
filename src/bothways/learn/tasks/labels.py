"""Labels as numbers: which there are, how data are split and drawn by them.

Shapes: N texts, C classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError, closest
from bothways.learn.tasks.labelled import LabelledTexts

_WORDS = 8
"""A label of more words is taken for a text in the wrong column."""


def class_names(data: LabelledTexts) -> tuple[str, ...]:
    """The classes of some texts, numbers in their order, then names in theirs.

    Raises:
        BothwaysError: There is only one class, or every text has all labels.
    """
    every = [_names(label) for label in data.labels]
    found = set().union(*every)
    names = sorted(found, key=lambda name: (not _is_number(name), float(name) if _is_number(name) else 0, name))
    if not len(data):
        raise BothwaysError(f"{data.name} holds no examples")
    if data.several:
        if not names or all(len(each) == len(names) for each in every):
            said = "no label at all" if not names else f"the same labels everywhere ({', '.join(names[:8])})"
            raise BothwaysError(f"{data.name} has {said}; there is nothing to learn from (is the right column taken?)")
    elif len(names) < 2:
        raise BothwaysError(
            f"{data.name} has the single class {names[0]!r}; a classifier needs at least two (is the right column "
            "taken as label?)"
        )
    return tuple(names)


def class_numbers(data: LabelledTexts, classes: Sequence[str]) -> np.ndarray:
    """``(N,)`` the number of each text's class.

    Raises:
        BothwaysError: A class is not among those the model knows, or a text has not just one.
    """
    number = {name: place for place, name in enumerate(classes)}
    out = np.zeros(len(data), dtype=np.int64)
    for place, label in enumerate(data.labels):
        names = _names(label)
        if len(names) != 1:
            raise BothwaysError(
                f"{data.place(place)} has {len(names)} labels ({', '.join(names) or 'none'}), but the model chooses one"
            )
        out[place] = _known(number, names[0], data, place)
    return out


def class_flags(data: LabelledTexts, classes: Sequence[str]) -> np.ndarray:
    """``(N, C)`` float32: 1 where a label holds.

    Raises:
        BothwaysError: A label is not among those the model knows.
    """
    number = {name: place for place, name in enumerate(classes)}
    out = np.zeros((len(data), len(classes)), dtype=np.float32)
    for place, label in enumerate(data.labels):
        for name in _names(label):
            out[place, _known(number, name, data, place)] = 1
    return out


def stratified_split(data: LabelledTexts, share: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """Splits texts so that every class keeps its share on both sides; the same split for the same seed.

    The second part has its share of all, as nearly as whole texts allow, and never the last text of a class. Where a
    text has several labels the rarest of them counts, of scores the tenth of the range that they fall in when they are
    put in order.

    Args:
        data: At least two texts.
        share: Of the second part.
        seed: Of the choice.
    """
    _, groups = np.unique(strata(data), return_inverse=True)
    draw = generator("split", seed)
    sizes = np.bincount(groups)
    order = draw.permutation(len(data))
    order = order[np.argsort(groups[order], kind="stable")]  # group after group
    order = order[sizes[groups[order]] > 1] if sizes.max() > 1 else order
    count = min(max(1, round(share * len(data))), len(order) - 1)
    held = order[((np.arange(count) + draw.random()) * len(order) / count).astype(int)]  # evenly spaced among them
    emptied = np.flatnonzero((np.bincount(groups[held], minlength=len(sizes)) == sizes) & (sizes > 1))
    held = np.sort(np.setdiff1d(held, [held[groups[held] == group][0] for group in emptied]))
    kept = np.setdiff1d(np.arange(len(data)), held)
    return data.take(kept, data.name), data.take(held, f"the part of {data.name} held out")


def strata(data: LabelledTexts) -> list[str]:
    """For each text the group whose share a split keeps: its class, its rarest label, or the tenth of its score."""
    if not len(data) or isinstance(data.labels[0], str):
        return [str(label) for label in data.labels]
    if data.several:
        counts = Counter(name for label in data.labels for name in _names(label))
        return [min(_names(label), key=lambda name: (counts[name], name), default="") for label in data.labels]
    ranks = np.argsort(np.argsort([float(label) for label in data.labels], kind="stable"), kind="stable")  # type: ignore[arg-type]
    return [str(rank * 10 // len(data)) for rank in ranks]


def balanced_numbers(groups: np.ndarray, seed: int) -> np.ndarray:
    """Which examples an epoch holds so that every group occurs as often as the largest.

    Examples of rare groups are repeated, each as often as the others of its group or once more (which, is drawn); none
    is left out.

    Args:
        groups: ``(N,)`` the group of each example, as integers.
        seed: Of the choice.

    Returns:
        ``(M,)`` numbers of examples, M the number of groups times the size of the largest.
    """
    draw = generator("balanced", seed)
    counts = np.bincount(groups)
    parts = []
    for group in np.flatnonzero(counts):
        places = np.flatnonzero(groups == group)
        whole, rest = divmod(int(counts.max()), len(places))
        parts += [np.tile(places, whole), draw.permutation(places)[:rest]]
    return np.concatenate(parts)


def rarest(classes: np.ndarray) -> np.ndarray:
    """``(N,)`` the group of each example for `balanced_numbers`: its class, or its rarest label, or C for none.

    Args:
        classes: ``(N,)`` numbers of classes, or ``(N, C)`` flags.
    """
    if classes.ndim == 1:
        return classes.astype(np.int64)
    counts = np.where(classes > 0, classes.sum(0), np.inf)
    return np.where(classes.any(1), counts.argmin(1), classes.shape[1]).astype(np.int64)


def _names(label: object) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else (str(label),)


def _known(number: dict[str, int], name: str, data: LabelledTexts, place: int) -> int:
    if name not in number:
        if len(name.split()) > _WORDS:
            raise BothwaysError(
                f"{data.place(place)} has the label {name[:60]!r}, which looks like a text; name the columns with "
                "--text and --label (in Python text=..., label=...)"
            )
        known = ", ".join(list(number)[:12])
        raise BothwaysError(
            f"{data.place(place)} has the label {name!r}, which was not seen in training; known are {known}"
            f"{closest(name, number)}"
        )
    return number[name]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
