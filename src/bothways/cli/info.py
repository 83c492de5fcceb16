"""``bothways info``: what a saved model is."""

from __future__ import annotations

from typing import Any

from bothways.cli import output
from bothways.cli.options import Json, ModelSource

EXAMPLES = ["bothways info quickstart/classifier", "bothways info bert-base-uncased --json"]


def info(model: ModelSource, json: Json = False) -> None:
    """Describe a saved model: family, size, parameters, heads, labels, vocabulary, and what transformers will see."""
    from bothways.run.describe import describe_model

    facts = {"model": model, **describe_model(model)}
    if json:
        output.as_json(facts)
    else:
        output.facts(_readable(facts))


def _readable(facts: dict[str, Any]) -> dict[str, Any]:
    shape = f"{facts['layers']} layers, width {facts['width']}, {facts['attention_heads']} attention heads"
    case = {True: ", lower-cased", False: ", cased", None: ""}[facts["lowercase"]]
    return {
        "model": facts["model"],
        "family": facts["family"] + (f", {facts['size']}" if facts["size"] else ", a size of its own"),
        "shape": f"{shape}, feed-forward {facts['feed_forward']}",
        "parameters": None
        if facts["parameters"] is None
        else f"{facts['parameters']:,}, of these {facts['encoder_parameters']:,} in the encoder",
        "weights": f"{facts['bytes'] / 1e6:.1f} MB on disk",
        "heads": facts["heads"] or "none",
        "labels": facts["labels"] or None,
        "vocabulary": f"{facts['vocabulary']:,} tokens{case}",
        "max length": facts["max_length"],
        "embeddings": _vectors(facts),
        "exported": facts["exported"] and f"to {facts['exported']['to']} in {facts['exported']['precision']}",
        "lower precision": ", ".join(_lower(facts["lower"])) or None,
        "transformers": None if facts["exported"] else facts["architectures"] or "the folder names no class",
    }


def _lower(known: dict[str, Any]) -> list[str]:
    return [
        f"{name} with {len(found['kept'])} layers in higher precision, "
        f"worst cosine {found['check']['vector']['worst_cosine']:.5f}"
        for name, found in known.items()
        if "check" in found
    ]


def _vectors(facts: dict[str, Any]) -> str:
    said = f"{facts['vector_width']} values, {facts['pooling']} of tokens"
    said += ", length 1" if facts["normalize"] else ""
    said += f", compared by {facts['similarity']}"
    return said + (f", prompts: {', '.join(facts['prompts'])}" if facts["prompts"] else "")
