"""The model card: ``README.md`` beside the weights, for whoever opens the folder (Mitchell et al. 2019)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bothways import __version__
from bothways.errors import BothwaysError
from bothways.report.judgement_page import figure, said, verdict, without_folders
from bothways.run.model import Model
from bothways.whole import replace_text

_PIPELINES = {
    "classify": "text-classification",
    "pairs": "text-classification",
    "regress": "text-classification",
    "tag": "token-classification",
    "answer": "question-answering",
    "choose": "multiple-choice",
    "embed": "sentence-similarity",
    "rerank": "text-ranking",
    "sparse": "feature-extraction",
    "late": "feature-extraction",
}
_OURS = {
    "classify": 'model.classify("a text")',
    "pairs": 'model.classify("a text", "another text")',
    "regress": 'model.score("a text")  # of pairs: model.score("a text", "another text")',
    "tag": 'model.tag("a text").spans',
    "answer": 'model.answer("a question?", "a text that may answer it")',
    "late": 'model.rerank("a query", ["one text", "another text"])',
    "sparse": 'model.sparse_terms("a text")',
    "rerank": 'model.rerank("a query", ["one text", "another text"])',
    "embed": 'model.embed(["a text", "another text"])  # (2, E), a row a text',
    "choose": 'model.choose("a beginning", ["one end", "another end"])',
}
_CLASSES = {
    "tag": "AutoModelForTokenClassification",
    "answer": "AutoModelForQuestionAnswering",
    "choose": "AutoModelForMultipleChoice",
}
_WORST = 3


def write_card(folder: Path, model: Model, judgement: Mapping[str, Any], base: str) -> Path:
    """Writes the card, whole or not at all.

    Args:
        folder: Of the saved model.
        model: What is saved there.
        judgement: What `judge` found.
        base: What it was made from, as it was named.

    Raises:
        BothwaysError: It cannot be written.
    """
    path = folder / "README.md"
    try:
        replace_text(path, card(model, judgement, base))
    except OSError as error:
        raise BothwaysError(f"{path} cannot be written ({error.strerror})") from None
    return path


def card(model: Model, judgement: Mapping[str, Any], base: str) -> str:
    """The text of the card; arguments as of `write_card`."""
    task, name = judgement["task"], Path(judgement["model"]).name
    sections = [
        "---\n" + _head(judgement, name, base) + "---",
        f"# {_text(name)}\n\n{_what(model, judgement, base)}",
        f"## Scores\n\n{verdict(judgement)}\n\n{_scores(judgement)}",
        f"## Data\n\n{_data(judgement)}",
        f"## Use\n\n{_use(task)}",
        f"## Limits\n\n{_limits(model, judgement)}",
        f"Made with Bothways {__version__}.",
    ]
    return "\n\n".join(sections) + "\n"


def _head(judgement: Mapping[str, Any], name: str, base: str) -> str:
    """What hubs read. JSON's strings and numbers are YAML's."""
    pipeline = _PIPELINES.get(judgement["task"])
    lines = ["library_name: bothways"]
    lines += [f"pipeline_tag: {pipeline}"] if pipeline else []
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) and not Path(base).exists():  # a name on a hub, not a path here
        lines.append(f"base_model: {_quoted(base)}")
    name_of_data = _quoted(without_folders(judgement["data"]["name"]))
    known = {metric: judgement[metric] for metric in judgement["metrics"] if judgement[metric] is not None}
    lines += ["metrics:", *(f"- {_quoted(metric)}" for metric in judgement["metrics"])]
    lines += ["model-index:", f"- name: {_quoted(name)}", "  results:", "  - task:"]
    lines += [f"      type: {pipeline or _quoted(judgement['task'])}", "    dataset:"]
    lines += [f"      name: {name_of_data}", '      type: "file"', "    metrics:"]
    for metric, value in known.items():
        lines += [f"    - type: {_quoted(metric)}", f"      value: {value:.4f}"]
    return "\n".join(lines) + "\n"


def _what(model: Model, judgement: Mapping[str, Any], base: str) -> str:
    labels = judgement.get("labels") or []
    told = f", into {len(labels)} classes: {', '.join(map(_text, labels[:30]))}" if labels else ""
    more = " ..." if len(labels) > 30 else ""
    return (
        f"A model of the family {model.config.family} with {model.parameters:,} parameters, fine-tuned from "
        f"{_text(Path(base).name if Path(base).exists() else base)} for the task `{judgement['task']}`{told}{more}."
    )


def _scores(judgement: Mapping[str, Any]) -> str:
    metrics = judgement["metrics"]
    rows = [["", *map(said, metrics)], ["---"] * (len(metrics) + 1)]
    for row in judgement["contenders"]:
        cells = [
            f"{figure(row['metrics'][name])} ({figure(row['intervals'][name][0])}–{figure(row['intervals'][name][1])})"
            for name in metrics
        ]
        rows.append([_text(row["name"]), *cells])
    intervals = f"In brackets: {judgement['level']:.0%} bootstrap intervals."
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + f"\n\n{intervals}"


def _data(judgement: Mapping[str, Any]) -> str:
    lines = []
    for what, told in (("Trained on", judgement["train"]), ("Judged on", judgement["data"])):
        if told:
            named = _text(without_folders(told["name"]))
            lines.append(f"- {what}: {named}, {told['examples']:,} examples, SHA-256 `{told['sha256']}`")
    copies = judgement["copies"]
    if copies and copies["overlap"]:
        lines.append(f"- {copies['overlap']:,} of the examples judged stand in the training data too.")
    return "\n".join(lines)


def _use(task: str) -> str:
    kind = _CLASSES.get(task, "AutoModelForSequenceClassification")
    ours = f'```python\nimport bothways as bw\n\nmodel = bw.load("this-folder")\n{_OURS.get(task, "")}\n```\n\n'
    if task == "embed":
        return ours + (
            "In `sentence-transformers`, with the same vectors:\n\n"
            "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
            'model = SentenceTransformer("this-folder")\nmodel.encode(["a text", "another text"])\n```'
        )
    return ours + (
        "In `transformers`, whose pipelines know neither windows nor what was fitted after training (thresholds, "
        "temperature, transitions):\n\n"
        f"```python\nfrom transformers import {kind}, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("this-folder")\n'
        f'model = {kind}.from_pretrained("this-folder")\n```'
    )


def _limits(model: Model, judgement: Mapping[str, Any]) -> str:
    policy = {"window": "are read in overlapping windows", "error": "are refused"}.get(model.truncation, "are cut")
    lines = [f"- Texts longer than {model.max_length:,} tokens {policy}." if model.max_length else ""]
    name = judgement["data"]["name"]
    lines += [f"- {_text(note.replace(name, without_folders(name)))}" for note in judgement["notes"]]
    classes = judgement.get("classes") or {}
    weak = sorted(
        (one["f1"], name) for name, one in classes.items() if one.get("f1") is not None and one.get("support")
    )
    if weak and weak[0][0] < 1:
        told = ", ".join(f"{_text(name)} (F1 {value:.3f})" for value, name in weak[:_WORST])
        lines.append(f"- It does worst on: {told}.")
    if confused := _confused(judgement):
        lines.append(f"- Most often {confused}.")
    lines.append("- Scores hold for texts like those it was judged on; on others nothing is known.")
    return "\n".join(line for line in lines if line)


def _confused(judgement: Mapping[str, Any]) -> str:
    labels, counts = judgement.get("labels") or [], judgement.get("confusion") or []
    pairs = [
        (count, right, guess)
        for right, row in zip(labels, counts, strict=False)
        for guess, count in zip(labels, row, strict=False)
        if right != guess and count
    ]
    if not pairs:
        return ""
    count, right, guess = max(pairs, key=lambda pair: pair[0])
    return f"{_text(right)} is taken for {_text(guess)} ({count:,} times)"


def _quoted(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _text(text: Any) -> str:
    """A text that means nothing in Markdown and stays in its line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split()))
