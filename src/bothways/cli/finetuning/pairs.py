"""``bothways finetune pairs``: pairs of texts into classes."""

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
    Symmetric,
    Teacher,
    TeacherShare,
    Temperature,
)
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, TextPair

EXAMPLES = [
    "bothways finetune pairs entailment.csv --base my-bert --out my-entailment",
    "bothways finetune pairs questions.csv --text question1 --text-pair question2 --symmetric --base my-bert"
    " --out my-duplicates",
]


@command("pairs")
def pairs(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    label_separator: LabelSeparator = None,
    label_columns: LabelColumns = None,
    problem: Problem = None,
    markers: Markers = None,
    symmetric: Symmetric = False,
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
    """Fine-tune an encoder to sort pairs of texts: entailment, paraphrases, duplicates."""
