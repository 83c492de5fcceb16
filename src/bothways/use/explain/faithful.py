"""How far explanations can be trusted: whether the words that they name are those that decide.

DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 4.2. The words with the largest
weights are masked, and the probability should fall (comprehensiveness, more is better); all others are, and it should
not (sufficiency, less is better); both averaged over shares of the words. Words in random order stand beside.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.judging.bootstrap import interval, suited_resamples
from bothways.progress import progress
from bothways.run.numbers import sigmoid
from bothways.use.explain.explain import WAYS
from bothways.use.explain.gradients import integrated_gradients
from bothways.use.explain.occlusion import numbers, occlusion
from bothways.use.explain.subject import Subject
from bothways.use.explain.targets import LOG_ODDS, Target, targets
from bothways.use.predictions.shared import Wish, ask_texts, markers_of, reads_pairs

if TYPE_CHECKING:
    from bothways.run.questions import Questions

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Of the words of a text, rounded up."""
CHANCE = "words in random order"


def faithfulness(
    model: Questions,
    source: Any,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    limit: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures each way to explain a classifier on texts, beside words in random order.

    Args:
        model: A classifier, or one that gives scores; of an exported one only occlusion is measured.
        source: Texts, or pairs: a table, a file, a list.
        text: The column of texts, if it is not found by its name.
        text_pair: The column of second texts.
        limit: How many texts are looked at, the first ones.
        seed: Of the random order.

    Returns:
        ``texts``, ``unit`` (``"probability"`` or ``"score"``) and ``ways``: for each its ``comprehensiveness`` and
        ``sufficiency``, each with an interval of 95 % over texts: ``{"mean", "interval"}``.

    Raises:
        BothwaysError: The model gives neither classes nor scores, or there is no text.
    """
    if "classify" not in model.head_configs:
        raise BothwaysError(f"{model.name} gives neither classes nor scores, so no words can be seen to decide")
    ways = [way for way in WAYS if way != "gradients" or hasattr(model, "encoder")] + [CHANCE]
    wish = Wish(text=text, text_pair=text_pair)
    asked = islice(ask_texts(source, wish, pairs=reads_pairs(model), markers=markers_of(model)), limit)
    found: list[list[tuple[float, float]]] = []
    unit = ""
    with progress("Explaining", None, "texts") as shown:
        for number, one in enumerate(asked):
            first, second = (*one.inputs, None)[:2]
            ((subject, target),) = targets(model, first, second, None, None)
            unit = "probability" if target.unit == LOG_ODDS else "score"
            found.append([_judged(subject, target, _weights(subject, target, way, seed + number)) for way in ways])
            shown.advance()
    if not found:
        raise BothwaysError("there is no text to explain")
    values = np.array(found)
    told = {
        way: {name: _told(values[:, place, side]) for side, name in enumerate(("comprehensiveness", "sufficiency"))}
        for place, way in enumerate(ways)
    }
    return {"texts": len(found), "unit": unit, "ways": told}


def _weights(subject: Subject, target: Target, way: str, seed: int) -> np.ndarray:
    if way == CHANCE:
        return generator("explanations", seed).random(len(subject.words))
    return occlusion(subject, target) if way == "occlusion" else integrated_gradients(subject, target)[0]


def _judged(subject: Subject, target: Target, weights: np.ndarray) -> tuple[float, float]:
    """Comprehensiveness and sufficiency of one explanation."""
    order = np.argsort(-weights, kind="stable")
    variants = [subject.ids]
    for share in SHARES:
        top = np.zeros(len(order), dtype=bool)
        top[order[: int(np.ceil(share * len(order)))]] = True
        variants += [subject.without(top), subject.without(~top)]
    found = numbers(subject, target, np.stack(variants))
    if target.unit == LOG_ODDS:
        found = sigmoid(found)
    lost = found[0] - found[1:].reshape(len(SHARES), 2)
    return float(lost[:, 0].mean()), float(lost[:, 1].mean())


def _told(values: np.ndarray) -> dict[str, Any]:
    mean, count = float(values.mean()), len(values)
    draws = generator("explanations", 0).integers(0, count, (suited_resamples(count), count))
    return {"mean": mean, "interval": interval(values[draws].mean(1), mean)}
