"""What the quickstart's page says: everything turned into plain data for the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bothways.learn.finetune import Finetuned
from bothways.learn.pretrain import Pretrained
from bothways.report.page import verdict
from bothways.report.run_page import machine_line
from bothways.run.model import Model
from bothways.text.documents import Document
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer
from bothways.text.topics import TopicTask

if TYPE_CHECKING:
    from bothways.use.quickstart import Quickstart


def page_data(
    result: Quickstart,
    *,
    size: str,
    documents: Sequence[Document],
    corpus: Corpus,
    task: TopicTask,
    pretrained: Pretrained,
    tuned: Finetuned,
    confusion: dict[str, Any],
    machine: dict[str, Any],
    made: datetime,
) -> dict[str, Any]:
    """The page's data, as `bothways.report.page` describes it.

    Args:
        result: The run so far, with its comparison, fills and timings.
        size: Of the encoder.
        documents: What the corpus was made of.
        corpus: The prepared corpus.
        task: The labelled task.
        pretrained: What pre-training gave.
        tuned: What fine-tuning gave.
        confusion: Labels and counts of the pre-trained model on the test set.
        machine: Description of the machine.
        made: When.
    """
    model, history = pretrained.model, pretrained.history
    return {
        "title": "A BERT made from the documentation of this Python",
        "summary": summary(result, len(task.test)),
        "seconds": result.seconds,
        "machine": machine_line(machine),
        "made": made.strftime("%d %B %Y, %H:%M"),
        "facts": [
            {"name": "parameters", "value": f"{model.parameters:,}"},
            {"name": "tokens seen", "value": f"{history.tokens:,}"},
            {"name": "masked words right", "value": f"{pretrained.scores['accuracy.mlm']:.1%}"},
            {"name": "classifier accuracy", "value": f"{result.comparison[-1]['accuracy']:.1%}"},
        ],
        "steps": [{"name": name, "seconds": seconds} for name, seconds in result.timings.items()],
        "corpus": {
            "documents": corpus.documents,
            "paragraphs": sum(len(document.paragraphs) for document in documents),
            "sentences": corpus.sentences,
            "words": corpus.index.total("words"),
            "tokens": corpus.tokens,
            "source": "Docstrings of the standard library and of installed packages; a document is a module.",
        },
        "vocabulary": _vocabulary(corpus, task),
        "training": {
            "train": [_point(line) for line in history.training],
            "held_out": [_point(line) for line in history.evaluations],
            "note": f"{history.steps:,} steps; repeat them with --steps {history.steps} and the same seed. Next "
            f"sentences: {pretrained.scores['accuracy.nsp']:.0%} of held-out pairs right.",
        },
        "filled": result.filled,
        "attention": attention(model, result.filled[0]["text"].replace("[MASK]", result.filled[0]["answer"]))
        if result.filled
        else None,
        "confusion": confusion,
        "comparison": {
            "task": "Which package does this paragraph describe? Names of packages and modules were taken out, and all "
            "paragraphs of a module are on the same side of the split.",
            "train": len(task.train),
            "test": len(task.test),
            "rows": result.comparison,
        },
        "sizes": [
            {"name": f"BERT {size} with its pre-training heads", "parameters": model.parameters},
            {"name": "Classifier", "parameters": tuned.model.parameters},
            {"name": "Saved classifier", "bytes": _bytes(tuned)},
        ],
        "speeds": [
            {"name": "Pre-training", "rate": history.tokens_per_second, "unit": "tokens/s"},
            {"name": "Fine-tuning", "rate": tuned.history.tokens_per_second, "unit": "tokens/s"},
        ],
        "next": _next(result),
    }


def summary(result: Quickstart, tested: int) -> str:
    """What came out, in a sentence or two, also where a baseline won."""
    return f"In {result.seconds / 60:.1f} minutes from raw text to a classifier. {verdict(result.comparison, tested)}"


def attention(model: Model, text: str, longest: int = 24) -> dict[str, Any]:
    """Who looks at whom in one sentence, in the last layer."""
    tokens, weights = model.attentions(text)
    if len(tokens) > longest:
        return attention(model, " ".join(text.split()[: len(text.split()) // 2]), longest)
    return {"text": text, "tokens": tokens, "heads": weights[-1].tolist(), "layer": len(weights)}


def _point(line: dict[str, Any]) -> dict[str, Any]:
    return {"step": line["step"], "loss": line["loss.mlm"], "accuracy": line["accuracy.mlm"]}


def _vocabulary(corpus: Corpus, task: TopicTask) -> dict[str, Any]:
    tokenizer = corpus.tokenizer
    whole = sorted((token for token in tokenizer.tokens if token.isalpha()), key=lambda token: (-len(token), token))
    return {
        "size": tokenizer.size,
        "fertility": corpus.tokens / corpus.index.total("words"),
        "unknown_rate": corpus.index.total("unknown") / corpus.index.total("words"),
        "longest": whole[:12],
        "samples": [_sample(tokenizer, row["text"]) for row in task.test[:3]],
    }


def _sample(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    short = " ".join(text.split()[:18])
    encoded = tokenizer.encode([short], special_tokens=False)
    return {"text": short, "tokens": [tokenizer.tokens[token] for token in encoded.token_ids]}


def _bytes(tuned: Finetuned) -> int:
    folder = tuned.out / "model" if tuned.out else None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0


def _next(result: Quickstart) -> list[dict[str, str]]:
    out = result.out
    return [
        {"command": f'bothways fill {out}/pretrained "This function [MASK] a list."', "what": "Fill in words."},
        {"command": f"bothways predict {out}/classifier texts.csv --out labels.csv", "what": "Classify a file."},
        {
            "command": "bothways pretrain my-texts/ --minutes 30 --max-length 32 --batch-tokens 1024 --mask-rate 0.3 "
            "--dropout 0 --out my-bert",
            "what": "Pre-train on your own texts.",
        },
        {
            "command": "bothways finetune classify labelled.csv --base my-bert --out my-classifier",
            "what": "Teach it your own labels.",
        },
        {
            "command": f"bothways quickstart --from {out}/run.json --out again",
            "what": f"Repeat this run: {result.steps:,} steps, the same seed, the same numbers.",
        },
    ]
