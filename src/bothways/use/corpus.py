"""From raw text to a corpus of tokens: cleaned first, unless it is to be taken as it is, and with a data card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bothways.errors import BothwaysError
from bothways.paths import as_path
from bothways.run.files import alone
from bothways.text.cleaning.languages import check_language
from bothways.text.documents import Source, read_documents
from bothways.text.prepare import CLEANED, check_shard_tokens, disk_explained, prepare
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer
from bothways.use.clean import cleaned, write_card
from bothways.use.cleaning_plan import begun, plan_cleaning, reads_again, sources_of
from bothways.use.corpus_card import with_tokens
from bothways.use.corpus_folder import throw_away

_TASTE = 200
"""Documents by which the language of the corpus is told."""


@dataclass(frozen=True)
class Prepared:
    """A prepared corpus.

    Attributes:
        corpus: It, open.
        card: What is known of it, as in ``card.json``.
    """

    corpus: Corpus
    card: dict[str, Any]


def prepare_corpus(
    source: Source,
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    shard_tokens: int = 8_000_000,
    clean: bool = True,
    any_language: bool = False,
    text: str = "text",
    weights: Sequence[float] | None = None,
    languages: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    near: float | None = 0.8,
    shared_by: int = 20,
    evaluation: Sequence[str | Path] | None = None,
    overlap: int = 13,
    decontaminate: bool = False,
    workers: int | None = None,
    on: Literal["ray"] | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Cleans a corpus and cuts it into tokens for pre-training, or goes on where an earlier call was interrupted.

    Args:
        source: As for `clean_corpus`, and so are all that are not told of here.
        tokenizer: What makes the tokens; saved with the corpus.
        out: The folder to write; the cleaned text stays in ``out/cleaned``.
        shard_tokens: A shard ends with the first document that brings it to so many tokens.
        clean: Whether the text is cleaned; else every document is taken as it is.
        any_language: Whether text may be in another language than the vocabulary.
        text: The column that holds the text, where the source has columns.
        weights: Shares of the sources in the text that results.
        languages: Codes of the languages to keep.
        skip: Names of quality rules that are not applied.
        near: How alike near duplicates are.
        shared_by: How many documents make a line boiler-plate.
        evaluation: Files that models are to be judged on.
        overlap: How many words in a row are an overlap with them.
        decontaminate: Whether documents with such an overlap are left out.
        workers: How many processes.
        on: ``"ray"`` for a cluster of Ray's.
        overwrite: Whether what stands in `out` is thrown away, once the first document of each source was read.

    Returns:
        The corpus, and its card, which lies in ``out/card.json`` and ``out/card.html``.

    Raises:
        BothwaysError: As for `clean_corpus`; or the corpus is in another language than the vocabulary.
    """
    folder = as_path(out)
    check_shard_tokens(shard_tokens)
    plan = None
    if clean:
        plan = plan_cleaning(
            source,
            weights=weights,
            languages=languages,
            skip=skip,
            near=near,
            shared_by=shared_by,
            evaluation=evaluation,
            overlap=overlap,
            decontaminate=decontaminate,
            workers=workers,
            on=on,
        )
    elif weights or languages or skip or evaluation or decontaminate:
        raise BothwaysError(
            "text that is taken as it is has no weights, languages, rules or evaluation files; leave them out, or "
            "clean the text"
        )
    with disk_explained(folder), alone(folder):
        if not any_language and all(map(reads_again, sources_of(source))):
            check_language(list(islice(read_documents(source, text), _TASTE)), tokenizer)
        if overwrite:
            reads = plan.reads if plan is not None else sources_of(source)
            source = _begun(source, text)
            throw_away(folder, reads)
        card: dict[str, Any] = {}
        if plan is not None:
            with alone(folder / CLEANED):
                done = cleaned(plan, sources_of(source), folder / CLEANED, text)
            card, source, text = done.card, done.text, "text"
        corpus = prepare(source, tokenizer, folder, shard_tokens=shard_tokens, text=text)
        card = with_tokens(card, corpus)
        write_card(folder, card)
        return Prepared(corpus, card)


def _begun(source: Source, text: str) -> Source:
    """The same source, whose first document was read, of several files that of each."""
    sources = sources_of(source)
    if len(sources) == 1:
        return begun(sources, text)[0]
    begun([one for one in sources if reads_again(one)], text)  # standard input among files keeps its place
    return source
