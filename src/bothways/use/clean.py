"""From messy documents to clean ones: tidied, filtered, without copies, with a data card.

Documents are read in order by one process and cleaned a window at a time, here, by several processes or on a cluster;
what comes back is kept in the same order. So the result has the same bytes whoever worked on it, and a run that was
killed goes on where it stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bothways.errors import BothwaysError
from bothways.paths import as_path
from bothways.progress import progress
from bothways.report.corpus_page import corpus_page
from bothways.report.page import write_page
from bothways.run.files import alone, as_json, read_json
from bothways.run.stream import Workers, in_order
from bothways.text.cleaning.draft import Draft, Reading, differing
from bothways.text.cleaning.sift import judge, write
from bothways.text.cleaning.wash import Washer
from bothways.text.documents import Document, Source, read_documents
from bothways.text.files import shown
from bothways.text.prepare import disk_explained
from bothways.use.cleaning_plan import CleaningPlan, begun, plan_cleaning
from bothways.use.corpus_card import cleaned_card, overlaps
from bothways.use.corpus_folder import CARD, PAGE, TEXT, WORK, held, throw_away
from bothways.use.processes import processes
from bothways.whole import replace_text

_WINDOW, _LETTERS = 256, 1 << 20  # documents and characters that a worker gets at a time


@dataclass(frozen=True)
class Cleaned:
    """A cleaned corpus.

    Attributes:
        out: Its folder: ``text/`` with the documents, ``card.json`` and ``card.html``.
        card: What `bothways.use.corpus_card.cleaned_card` says of it.
    """

    out: Path
    card: dict[str, Any]

    @property
    def text(self) -> Path:
        """The folder of the documents, which every command takes as a source."""
        return self.out / TEXT


class _Part(NamedTuple):
    documents: list[Document]
    sources: list[int]
    digest: str


def clean_corpus(
    source: Source,
    out: str | Path,
    *,
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
) -> Cleaned:
    """Cleans a corpus, or goes on where an earlier call was interrupted.

    Args:
        source: Raw text: whatever `read_documents` takes. Of a list of files and folders each is a source of its own.
        out: The folder to write: new, empty, or begun by the same call.
        text: The column that holds the text, where the source has columns.
        weights: A weight a source: their shares of the text that results. No document is taken twice; the source that
            is scarcest for its weight is taken whole. None takes all of all.
        languages: Codes of the languages to keep, such as ``["en"]``; none for all.
        skip: Names of quality rules that are not applied (`bothways.text.cleaning.rules`).
        near: How alike two documents have to be, as the Jaccard similarity of their runs of five words, for the later
            one to be left out; None leaves out exact duplicates only.
        shared_by: Lines of three or more words that so many documents share are taken out; 0 keeps them.
        evaluation: Files that models are to be judged on; the card says how much of them stands in the corpus.
        overlap: How many words in a row are an overlap with them.
        decontaminate: Whether documents with such an overlap are left out.
        workers: How many processes; None for this one, or on a cluster for one a processor.
        on: ``"ray"`` for a cluster of Ray's.
        overwrite: Whether what stands in `out` is thrown away, once the first document of each source was read.

    Returns:
        Where it is, and its card.

    Raises:
        BothwaysError: A source or an option does not do; nothing is left after cleaning; the folder holds something
            else or was begun otherwise; the disk is full.
    """
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
    folder = as_path(out)
    with disk_explained(folder), alone(folder):
        read = plan.sources
        if overwrite:
            read = begun(plan.sources, text)
            throw_away(folder, plan.reads)
        return cleaned(plan, read, folder, text)


def cleaned(plan: CleaningPlan, sources: Sequence[Source], folder: Path, text: str) -> Cleaned:
    """Does what was planned, or goes on with it, in a folder that nobody else works in.

    Args:
        plan: What is to be done.
        sources: Its sources, of which some may have been begun.
        folder: New, empty, or begun with the same plan.
        text: The column that holds the text.

    Raises:
        BothwaysError: As `clean_corpus` says.
    """
    if held(folder) and not ((folder / WORK).is_dir() or (folder / CARD).is_file()):
        raise BothwaysError(f"{folder} holds something that is not a cleaned corpus; give a new or empty folder")
    identity = plan.identity
    documents = ((document, number) for number, one in enumerate(sources) for document in read_documents(one, text))
    if (folder / CARD).is_file():
        return _again(folder, identity, documents)
    with Draft(folder / WORK, identity) as draft:
        rest = draft.rest(documents)
        if not draft.state.whole:
            with _workers(Washer(plan.recipe, plan.judged), plan) as pool:
                _wash(draft, rest, pool)
        card = _sifted(draft, plan, folder)
    shutil.rmtree(folder / WORK)
    return Cleaned(folder, card)


def _again(folder: Path, identity: dict[str, Any], documents: Iterator[tuple[Document, int]]) -> Cleaned:
    """A corpus that is finished already: the same call finds it there."""
    card = read_json(folder / CARD)
    if not isinstance(card, dict) or "recipe" not in card:
        raise BothwaysError(f"{folder} holds something that is not a cleaned corpus; give a new or empty folder")
    if card["recipe"] != identity:
        told = differing(card["recipe"], identity)
        raise BothwaysError(f"{folder} was cleaned otherwise ({told}); give the same, another folder, or overwrite")
    reading = Reading()
    for document, _ in documents:
        reading.note(document)
    if reading.digest != card["source_digest"]:
        raise BothwaysError(f"{folder} holds a corpus of another source; give another folder, or overwrite")
    shutil.rmtree(folder / WORK, ignore_errors=True)  # left by a kill right before the end
    return Cleaned(folder, card)


def _workers(washer: Washer, plan: CleaningPlan) -> AbstractContextManager[Workers]:
    if plan.where is None:
        return processes(washer, 1 if plan.workers is None else plan.workers)
    from bothways.use.cluster import ray_workers

    return ray_workers(washer, plan.workers)


def _wash(draft: Draft, documents: Iterator[tuple[Document, int]], pool: Workers) -> None:
    before = draft.state.figures.read
    with progress("Cleaning documents", unit="documents", before=before) as job:
        for part, done in in_order(_windows(draft, documents), pool, lambda part: (part.documents, part.sources)):
            draft.append(done.answers, part.digest)
            figures = draft.state.figures
            job.reach(figures.read, f"{draft.state.kept:,} kept, {figures.characters / 1e6:,.0f} MB read")
        draft.keep(whole=True)


def _windows(draft: Draft, documents: Iterator[tuple[Document, int]]) -> Iterator[_Part]:
    part: list[Document] = []
    sources: list[int] = []
    letters = 0
    for document, source in documents:
        draft.reading.note(document)
        part.append(document)
        sources.append(source)
        letters += sum(map(len, document.paragraphs))
        if len(part) == _WINDOW or letters >= _LETTERS:
            yield _Part(part, sources, draft.reading.digest)
            part, sources, letters = [], [], 0
    if part:
        yield _Part(part, sources, draft.reading.digest)


def _sifted(draft: Draft, plan: CleaningPlan, folder: Path) -> dict[str, Any]:
    verdict = judge(draft, plan.recipe, plan.weights)
    half = folder / WORK / TEXT
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    with progress("Leaving out copies", draft.state.kept, "documents") as job:
        kept = write(draft, verdict, half, len(plan.sources), job)
        job.update(f"{kept.documents:,} left")
    figures = draft.state.figures
    if not kept.documents:
        draft.forget()
        worst, count = figures.removed.most_common(1)[0]
        raise BothwaysError(
            f"nothing is left of {figures.read:,} documents, {count:,} were left out as {worst!r}; look at the source, "
            "or skip the rule"
        )
    names = [shown(one) if isinstance(one, str | Path) else "texts" for one in plan.sources]
    card = cleaned_card(draft.state.recipe, figures, kept, [Path(name).name for name in names])
    card["overlaps"] = overlaps(plan.judged, plan.evaluation, figures.hits)
    card["source_digest"] = draft.state.digest
    shutil.rmtree(folder / TEXT, ignore_errors=True)
    half.replace(folder / TEXT)
    write_card(folder, card)
    return card


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Writes ``card.html``, then ``card.json``, which says that all is there."""
    if find_spec("jinja2") is not None:  # text that is taken as it is can do without
        write_page(folder / PAGE, corpus_page(card))
    replace_text(folder / CARD, as_json(card))
