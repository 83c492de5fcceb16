"""``bothways finetune classify``: texts into classes."""

from __future__ import annotations

from bothways.cli.finetuning.options import (
    ClassWeights,
    Focal,
    Hidden,
    LabelColumns,
    LabelSeparator,
    LabelSmoothing,
    Markers,
    Problem,
    Reads,
    Sampler,
    Teacher,
    TeacherShare,
    Temperature,
)
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, TextPair

EXAMPLES = [
    "bothways finetune classify train.csv --base my-bert --out my-classifier",
    "bothways finetune classify train.tsv --dev dev.tsv --base bert-base-uncased --text sentence --label polarity"
    " --out polarity",
    "bothways finetune classify clauses.csv --base my-bert --label-separator ';' --class-weights auto --out clauses",
    "bothways finetune classify train.csv --base small-bert --teacher large-classifier --out small-classifier",
    "bothways finetune classify --from my-classifier/run.json --seed 1 --out second-classifier",
]


@command("classify")
def classify(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    label_separator: LabelSeparator = None,
    label_columns: LabelColumns = None,
    problem: Problem = None,
    markers: Markers = None,
    reads: Reads = None,
    hidden: Hidden = None,
    class_weights: ClassWeights = None,
    focal: Focal = 0.0,
    sampler: Sampler = None,
    label_smoothing: LabelSmoothing = 0.0,
    teacher: Teacher = None,
    teacher_share: TeacherShare = 0.5,
    temperature: Temperature = 2.0,
) -> None:
    """Fine-tune an encoder to sort texts, or pairs of texts, into classes."""
