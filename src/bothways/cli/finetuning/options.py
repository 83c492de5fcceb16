"""The options that several tasks over whole texts have."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.options import data, option, training

LabelSeparator = Annotated[
    str | None, data("--label-separator", "TEXT", "What stands between several labels in one cell, such as ';'.")
]
LabelColumns = Annotated[
    list[str] | None, data("--label-columns", "COLUMN", "A column that says 0 or 1 of one label; give it for each.")
]
Problem = Annotated[
    Literal["one", "several"] | None, data("--problem", None, "One class a text, or several labels; from the data.")
]
Markers = Annotated[
    str | None,
    data("--markers", "MARKS", "Put around entities, '<< >> [[ ]]', where head_start, head_end, ... say they are."),
]
Reads = Annotated[str | None, option("Model", "--reads", "WHAT", "pooled, first or mean: what it looks at.")]
Hidden = Annotated[
    Literal["none", "gelu"] | None, option("Model", "--hidden", None, "A linear classifier, or a hidden layer.")
]
Symmetric = Annotated[
    bool, option("Model", "--symmetric", None, "The order of a pair means nothing: learn and ask both.")
]
ClassWeights = Annotated[
    Literal["auto"] | None, training("--class-weights", None, "Let rare classes count more, by their frequency.")
]
Focal = Annotated[float, training("--focal", "GAMMA", "Let sure guesses count less: focal loss.")]
Sampler = Annotated[
    Literal["balanced"] | None, training("--sampler", None, "Show every class as often as the largest.")
]
LabelSmoothing = Annotated[float, training("--label-smoothing", "SHARE", "Of the target, spread over all classes.")]
Teacher = Annotated[
    str | None, training("--teacher", "MODEL", "A larger classifier, whose probabilities are learned too.")
]
TeacherShare = Annotated[float, training("--teacher-share", "SHARE", "Of the loss that is the teacher's.")]
Temperature = Annotated[float, training("--temperature", "NUMBER", "Of its soft targets.")]
Negatives = Annotated[
    list[str] | None, data("--negatives", "COLUMN", "A column of texts that do not belong; give it for each.")
]
