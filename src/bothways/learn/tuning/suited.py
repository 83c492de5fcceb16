"""What suits, where nothing is given: rates and epochs of the papers, by width and by number of examples."""

from __future__ import annotations

from bothways.learn.settings import LoopSettings
from bothways.learn.tuning.settings import TuningSettings
from bothways.run.model import Model

_RATES = ((1024, 2e-5), (768, 3e-5), (384, 1e-4), (0, 3e-4))
"""The rate from a width on. Devlin et al. 2018 (appendix A.3) take 2e-5 to 5e-5 for base and large, and Mosbach et al.
2021 (section 6) find the lower end stable at large; Turc et al. 2019 take up to 3e-4 for the small sizes."""
_HEAD_RATE, _HEAD_TIMES = 3e-3, 30.0
_EPOCHS = ((2000, 3), (500, 10), (0, 20))
"""Passes from a number of examples on: 3 in Devlin et al. 2018; 20 for a few hundred examples, whose bad runs had
stopped too early, in Mosbach et al. 2021 (section 6); 10 between, as Zhang et al. 2021 (section 6) find enough."""


def suited_rate(
    width: int, settings: TuningSettings, layer_decay: float = 1.0, vectors: bool = False, anew: bool = True
) -> float:
    """A highest learning rate for fine-tuning.

    A head alone bears 1e-2, and needs it in few epochs: from 2,000 examples of CoNLL-2003, TREC and SST-2 a frozen
    all-MiniLM-L6-v2 reached 0.51, 0.81 and 0.82 with it on held-out ones, and 0.26, 0.71 and 0.80 with 1e-3. Low-rank
    updates want far more than what learns everywhere: 0.73, 0.93 and 0.84 there with 3e-3, and 0.52, 0.90 and 0.83
    with 1e-3; all-mpnet-base-v2 had 0.95 of TREC with 2e-3, 0.92 with 9e-4 and 0.90 with 3e-4. Hu et al. 2022 (table 9)
    take 4e-4 and 5e-4 at width 768, for ten times the epochs. Where lower layers learn more slowly, the highest rate is
    three times the usual: Clark et al. 2020 (table 7) take 1e-4 at width 768.

    Args:
        width: Of the encoder.
        settings: What is done beside plain training.
        layer_decay: What a layer's rate is of that above it.
        vectors: Whether a model of sentence vectors learns on as one: 2e-5, at any width, as Reimers and Gurevych 2019
            (section 3.1) have it; at the usual rate it would forget much of what it was trained on before.
        anew: Whether its heads begin anew. Those that have learned before bear less beside what does not learn.
    """
    if settings.freeze:
        return 1e-2 if anew else 1e-3
    usual = 2e-5 if vectors else _from(_RATES, width)
    if settings.lora is not None:
        return min(60 * usual, 3e-3) if anew else min(10 * usual, 1e-3)
    return 3 * usual if layer_decay < 1 else usual


def suited_head_rate(rate: float, settings: TuningSettings) -> float | None:
    """How many times the rate a head has that begins anew: thirty, as long as that is no more than 3e-3.

    In few steps it would else not learn what the encoder tells it: from 1,500 sentences of CoNLL-2003 all-MiniLM-L6-v2
    reached 0.66 in three epochs at 1e-4, 0.76 with ten times that for the head and 0.79 with thirty, on held-out ones;
    from 2,000 of them 0.81 instead of 0.79. TREC, SST-2, STS-B, RTE and NCBI-disease are learned as well with either.
    Devlin et al. 2018 have one rate for all.

    Args:
        rate: The highest, of the encoder.
        settings: What is done beside plain training.

    Returns:
        None where the rate is a head's already.
    """
    if settings.freeze or settings.lora is not None or rate >= _HEAD_RATE:
        return None
    return min(_HEAD_TIMES, _HEAD_RATE / rate)


def suited_epochs(examples: int) -> int:
    """Passes over the data: more where there are few examples."""
    return round(_from(_EPOCHS, examples))


def recipe_told(
    settings: LoopSettings,
    tuning: TuningSettings,
    *,
    passes: float,
    batch_size: int,
    examples: int | None,
    width: int | None,
    learning: tuple[int, int],
) -> str:
    """The recipe of a run in one sentence, and what was chosen because it suits.

    Args:
        settings: Of the loop.
        tuning: What is done beside plain training.
        passes: Over the data.
        batch_size: Examples in a step.
        examples: Whose number decided about the passes; None where they were given.
        width: That decided about the rate; None where it was given.
        learning: How many parameters learn, and how many there are.
    """
    because = "" if examples is None else f", which suits {examples:,} examples"
    epochs = "epoch" if passes == 1 else "epochs"
    parts = [f"{settings.steps:,} steps of {batch_size} ({passes:.3g} {epochs}{because})"]
    suits = "" if width is None else f" (which suits width {width})"
    parts.append(f"learning rate {settings.learning_rate:g}{suits}, {settings.schedule} schedule")
    if settings.head_rate is not None:
        parts.append(f"{settings.head_rate:g} times that for the head")
    if settings.layer_decay < 1:
        parts.append(f"{settings.layer_decay:g} of it from layer to layer")
    if settings.average is not None:
        parts.append(f"weights averaged by {settings.average:g}")
    parts += tuning.told()
    if learning[0] < learning[1]:
        parts.append(f"{learning[0]:,} of {learning[1]:,} parameters learn")
    return ", ".join([*parts, f"best weights by {settings.metric or 'nothing: the last are kept'}"])


def _from(steps: tuple[tuple[int, float], ...], value: int) -> float:
    return next(then for least, then in steps if value >= least)


def mean_told(start: Model, model: Model, reads: str | None) -> str:
    """A sentence on what may suit a base better than what its new head reads; empty where there is nothing to say.

    Encoders of sentence vectors were mostly trained through the mean of their tokens, and where no next sentence was
    learned there is no pooler. What BERT's head reads, the first token through a pooler, had no part in either.

    Args:
        start: The base.
        model: What is to be trained.
        reads: What the head was asked to read; None where nobody asked.
    """
    scoring = [head for kind, head in model.head_configs.items() if kind == "classify"]
    by_mean = start.sentence.stated and start.sentence.pooling == "mean" and start.task is None
    unpooled = start.encoder.pooler is None and any(head.reads == "pooled" for head in scoring)
    if reads is not None or not (by_mean or unpooled) or all(head.reads == "mean" for head in scoring):
        return ""
    why = "was trained to be read by the mean of its tokens" if by_mean else "has no pooler that learned anything"
    return (
        f"this base {why}: --reads mean (in Python reads='mean') often scores better, above all after few steps, but "
        "only Bothways opens such a head"
    )


def length_told(start: Model, length: int) -> str:
    """A sentence on places that a base has not learned, where more tokens are read than it was trained on.

    Args:
        start: The base.
        length: The most tokens of a sequence, which nobody asked for.
    """
    if start.max_length is None or start.max_length >= length:
        return ""
    return (
        f"this base learned sequences of up to {start.max_length} tokens, and up to {length} are read, so that later "
        f"places begin untrained: --max-length {start.max_length} (in Python max_length) leaves them out"
    )


def suited_length(task: str, longest: int | None) -> int:
    """The most tokens of a sequence: 384 where answers are looked for (Devlin et al. 2018's code), else 128.

    Args:
        task: Its name.
        longest: As many as the base takes, where that is limited.
    """
    length = 384 if task == "answer" else 128
    return length if longest is None else min(length, longest)
