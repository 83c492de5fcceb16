"""``bothways finetune embed``: texts to vectors that say what belongs together."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.options import Negatives
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, TextPair, data, option, training

EXAMPLES = [
    "bothways finetune embed questions.jsonl --base my-bert --batch-size 128 --out my-vectors",
    "bothways finetune embed stsb.csv --label score --loss cosine --score-range 0 5 --base my-bert --out similarity",
    "bothways finetune embed triplets.jsonl --dims 128 --dims 64 --batch-size 2048 --base my-bert --out search",
    "bothways finetune embed sentences.txt --loss tsdae --pooling cls --base bert-base-uncased --out unsupervised",
    "bothways finetune embed english-german.csv --loss parallel --teacher english-vectors --base xlm-roberta-base"
    " --out two-languages",
]


@command("embed")
def embed(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    negatives: Negatives = None,
    label: Label = None,
    score_range: Annotated[
        tuple[float, float] | None, data("--score-range", "LOW HIGH", "What scores go from and to; 0 to 1.")
    ] = None,
    loss: Annotated[
        str | None, training("--loss", "NAMES", "What is learned, such as mnrl or cosent+angle; suits the data.")
    ] = None,
    teacher: Annotated[
        str | None, training("--teacher", "MODEL", "Whose vectors are learned, or who tells false negatives.")
    ] = None,
    dims: Annotated[
        list[int] | None, training("--dims", "N", "Also good when cut to N values (Matryoshka); give it for each.")
    ] = None,
    scale: Annotated[float | None, training("--scale", "X", "What similarities are multiplied by; 20.")] = None,
    symmetric: Annotated[
        bool, option("Model", "--symmetric", None, "The order of a pair means nothing: both look for the other.")
    ] = False,
    false_negatives: Annotated[
        float | None, training("--false-negatives", "MARGIN", "Leave out negatives nearer than the right less this.")
    ] = None,
    distance: Annotated[
        Literal["cosine", "euclidean", "manhattan"] | None, training("--distance", None, "Of triplets and contrasts.")
    ] = None,
    margin: Annotated[float | None, training("--margin", "X", "How far apart is far enough; suits the loss.")] = None,
    mining: Annotated[
        Literal["hard", "semi_hard", "all"] | None, training("--mining", None, "Which triplets of texts with classes.")
    ] = None,
    deletion: Annotated[float | None, training("--deletion", "SHARE", "Of the tokens that tsdae deletes; 0.6.")] = None,
    pooling: Annotated[
        str | None,
        option("Model", "--pooling", "NAME", "How tokens become a vector: mean, cls, max, ...; as the base."),
    ] = None,
    normalize: Annotated[
        bool | None, option("Model", "--normalize/--no-normalize", None, "Scale vectors to length 1; as the base.")
    ] = None,
    query_prompt: Annotated[
        str | None, option("Model", "--query-prompt", "TEXT", "Put before the first texts, 'query: '; kept.")
    ] = None,
    document_prompt: Annotated[
        str | None, option("Model", "--document-prompt", "TEXT", "Put before the others, 'passage: '; kept.")
    ] = None,
) -> None:
    """Train an encoder of sentence vectors: from pairs, triplets, scores, labels, or texts alone."""
