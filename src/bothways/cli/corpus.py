"""``bothways corpus``: clean raw text, and prepare it for pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from bothways.cli import output
from bothways.cli.options import Json, On, Out, Overwrite, Source, Text, Workers, data, option, plain
from bothways.cli.reading import named_files

PREPARE_EXAMPLES = [
    "bothways corpus prepare texts/ --tokenizer my-tokenizer --out my-corpus",
    "bothways corpus prepare dump.jsonl.zst --text body --tokenizer my-tokenizer --out my-corpus --workers 8",
    "bothways corpus prepare wiki/ clinic/ --weights 1 --weights 3 --tokenizer my-tokenizer --out my-corpus",
]
CLEAN_EXAMPLES = [
    "bothways corpus clean texts/ --out clean --languages en",
    "bothways corpus clean abstracts.jsonl.gz --evaluation test.jsonl --decontaminate --out clean",
]

Weights = Annotated[
    list[float] | None, data("--weights", "NUMBER", "Of a SOURCE in the text that results; one each, in order.")
]


def cleaning(name: str, metavar: str | None, said: str) -> Any:
    """An option of how text is cleaned."""
    return option("Cleaning", name, metavar, said)


Languages = Annotated[list[str] | None, cleaning("--languages", "CODE", "Keep this language; may be repeated.")]
Skip = Annotated[list[str] | None, cleaning("--skip", "RULE", "Apply no such rule; may be repeated.")]
Near = Annotated[float | None, cleaning("--near", "SHARE", "How alike near duplicates are; 1 for exact ones only.")]
SharedBy = Annotated[int, cleaning("--shared-by", "N", "Take out lines that so many documents share; 0 keeps them.")]
EvaluationFiles = Annotated[
    list[Path] | None, cleaning("--evaluation", "FILE", "Look for the examples of this file; may be repeated.")
]
Overlap = Annotated[int, cleaning("--overlap", "N", "Words in a row that are an overlap with one.")]
Decontaminate = Annotated[bool, cleaning("--decontaminate", None, "Leave out documents that overlap.")]


def clean(
    source: Source,
    *,
    text: Text = "text",
    weights: Weights = None,
    languages: Languages = None,
    skip: Skip = None,
    near: Near = 0.8,
    shared_by: SharedBy = 20,
    evaluation: EvaluationFiles = None,
    overlap: Overlap = 13,
    decontaminate: Decontaminate = False,
    workers: Workers = None,
    on: On = None,
    out: Out,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Clean raw text: tidy it, leave out what is no text, copies and what models are judged on; with a data card."""
    from bothways.use.clean import clean_corpus

    done = clean_corpus(
        named_files(source),
        out,
        text=text or "text",
        weights=weights or None,
        languages=languages,
        skip=skip,
        near=near,
        shared_by=shared_by,
        evaluation=evaluation,
        overlap=overlap,
        decontaminate=decontaminate,
        workers=workers,
        on=on,
        overwrite=overwrite,
    )
    if json:
        output.as_json({"out": out, **_figures(done.card)})
        return
    _tell({"out": out, **_figures(done.card)}, done.card)
    output.line(f"\nData card: {out / 'card.html'}")
    output.line(f"Next: bothways tokenizer train {done.text} --out my-tokenizer")


def prepare(
    source: Source,
    *,
    tokenizer: Annotated[str, plain("--tokenizer", "FOLDER", "What makes the tokens.")],
    shard_tokens: Annotated[int, plain("--shard-tokens", "N", "Tokens in a file of the corpus.")] = 8_000_000,
    text: Text = "text",
    weights: Weights = None,
    clean: Annotated[bool, cleaning("--clean/--as-it-is", None, "Whether the text is cleaned.")] = True,
    any_language: Annotated[
        bool, cleaning("--any-language", None, "The text may be in another language than the vocabulary.")
    ] = False,
    languages: Languages = None,
    skip: Skip = None,
    near: Near = 0.8,
    shared_by: SharedBy = 20,
    evaluation: EvaluationFiles = None,
    overlap: Overlap = 13,
    decontaminate: Decontaminate = False,
    workers: Workers = None,
    on: On = None,
    out: Out,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Clean raw text and cut it into tokens, once, in constant memory; interrupted work goes on."""
    from bothways.text.tokenizer import Tokenizer
    from bothways.use.corpus import prepare_corpus

    done = prepare_corpus(
        named_files(source),
        Tokenizer.load(tokenizer),
        out,
        shard_tokens=shard_tokens,
        clean=clean,
        any_language=any_language,
        text=text or "text",
        weights=weights or None,
        languages=languages,
        skip=skip,
        near=near,
        shared_by=shared_by,
        evaluation=evaluation,
        overlap=overlap,
        decontaminate=decontaminate,
        workers=workers,
        on=on,
        overwrite=overwrite,
    )
    if json:
        output.as_json({"out": out, **_figures(done.card)})
        return
    _tell({"out": out, **_figures(done.card)}, done.card)
    output.line(f"\nData card: {out / 'card.html'}")
    output.line(f"Next: bothways pretrain {out} --size mini --minutes 20 --out my-bert")


_TOLD = ("read", "documents", "sentences", "words", "tokens", "fertility", "unknown_rate", "fingerprint")


def _figures(card: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a card."""
    copies = {f"{kind}_duplicates": count for kind, count in card.get("duplicates", {}).items()}
    overlaps = {f"overlap_{row['name']}": f"{row['found']} of {row['examples']}" for row in card.get("overlaps", [])}
    return {name: card[name] for name in _TOLD if name in card} | copies | overlaps


def _tell(figures: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    output.facts(figures)
    rows = [(row["name"], row["documents"], row["what"]) for row in card.get("removed", []) if row["documents"]]
    if rows:
        output.table(("left out", "documents", ""), rows)
