"""``bothways index``: make an index of texts, add to it, take from it, look into it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    EngineName,
    Json,
    Lines,
    Overwrite,
    Place,
    PlaceModel,
    RunPrecision,
    Text,
    Threads,
    Where,
    data,
    option,
)
from bothways.cli.reading import named_files
from bothways.errors import BothwaysError
from bothways.progress import counted

BUILD_EXAMPLES = [
    "bothways index build my-index --model my-encoder --source texts.jsonl",
    "bothways index build my-index --model my-encoder --source notes/ --source papers.csv --vectors int8",
    "bothways index build python-index --model my-encoder --python-docs",
    "bothways index build 'postgresql://me@server/texts#papers' --model my-encoder --source papers.parquet",
]
ADD_EXAMPLES = [
    "bothways index add my-index --source more.jsonl",
    "bothways index add my-index --source texts.jsonl --prune",
]
DELETE_EXAMPLES = [
    "bothways index delete my-index doc-17 doc-18",
    "bothways index delete my-index --where 'year < 1990'",
]
INFO_EXAMPLES = ["bothways index info my-index"]

Sources = Annotated[
    list[str] | None,
    data("--source", "FILE", "Documents: tables, texts, folders, or - (JSON lines); several times for several."),
]
PythonDocs = Annotated[
    bool, data("--python-docs", None, "The functions and classes of Python's standard library, as documents.")
]
Id = Annotated[str | None, data("--id", "COLUMN", "The column of ids; else a document is told by its text.")]
Title = Annotated[str | None, data("--title", "COLUMN", "The column of titles, read before every passage.")]
Prune = Annotated[bool, data("--prune", None, "Delete the documents that the source does not hold.")]


def build(
    place: Place,
    *,
    model: Annotated[str, option("Model", "--model", "MODEL", "What makes the vectors: a folder, or a hub id.")],
    source: Sources = None,
    python_docs: PythonDocs = False,
    id: Id = None,
    text: Text = None,
    title: Title = None,
    lines: Lines = False,
    prune: Prune = False,
    vectors: Annotated[
        Literal["float32", "int8", "binary"],
        option("Index", "--vectors", None, "How they are kept; smaller is coarser."),
    ] = "float32",
    dims: Annotated[
        int | None, option("Index", "--dims", "N", "Keep the first N numbers of a Matryoshka model.", min=1)
    ] = None,
    passage_tokens: Annotated[
        int | None, option("Index", "--passage-tokens", "N", "Cut documents into passages of so many tokens; 256.")
    ] = None,
    overlap: Annotated[int, option("Index", "--overlap", "N", "Tokens that neighbouring passages may share.")] = 32,
    language: Annotated[
        str, option("Index", "--language", "NAME", "Whose words are stemmed; none leaves them as they are.")
    ] = "english",
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make an index of texts: vectors and words of every passage, in a folder or on a server.

    What is there already and has not changed is left as it is: after an interruption type the same again.
    """
    from bothways.use.search.index import Index

    index, added = Index.build(
        place,
        model,
        _documents(source, python_docs),
        id=id,
        text=text,
        title=title,
        lines=lines,
        prune=prune,
        vectors=vectors,
        dims=dims,
        passage_tokens=passage_tokens,
        overlap=overlap,
        language=language,
        overwrite=overwrite,
        device=device,
        engine=engine,
        precision=precision,
    )
    _told(added, index, json)


def add(
    place: Place,
    *,
    source: Sources = None,
    python_docs: PythonDocs = False,
    id: Id = None,
    text: Text = None,
    title: Title = None,
    lines: Lines = False,
    prune: Prune = False,
    model: PlaceModel = None,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Add documents to an index; those of a known id that have changed are replaced."""
    from bothways.use.search.index import Index

    documents = _documents(source, python_docs)
    index = Index.open(place, model, device=device, engine=engine, precision=precision)
    _told(index.add(documents, id=id, text=text, title=title, lines=lines, prune=prune), index, json)


def delete(
    place: Place,
    documents: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Documents to delete.")] = None,
    where: Where = None,
    json: Json = False,
) -> None:
    """Delete documents from an index, by their ids or by a filter."""
    from bothways.use.search.index import Index

    gone = Index.open(place).delete(documents, where=where)
    if json:
        output.as_json({"deleted": gone})
    else:
        output.line(f"{counted(gone, 'documents')} deleted")


def info(place: Place, json: Json = False) -> None:
    """Tell what an index holds, and which model made it."""
    from bothways.use.search.index import Index

    index = Index.open(place)
    held, settings, shape = index.held(), index.settings, index.store.shape
    facts = {
        "documents": held.documents,
        "passages": held.passages,
        "bytes": held.bytes,
        "vectors": f"{shape.width} numbers, {shape.kind}, compared by {shape.similarity}",
        "found": f"{held.indexed:,} through an index, the others exactly" if held.indexed else "exactly",
        "model": settings.model,
        "dims": settings.dims,
        "passage_tokens": settings.passage_tokens,
        "overlap": settings.overlap,
        "language": shape.language,
        "metadata": list(settings.fields),
        "engine": held.engine,
    }
    if json:
        output.as_json(facts)
    else:
        output.facts(facts)


def _documents(source: list[str] | None, python_docs: bool) -> Any:
    if bool(source) == python_docs:
        raise BothwaysError("say what is indexed: --source FILE, or --python-docs for the documentation of this Python")
    if not python_docs:
        return named_files(source or [])
    from bothways.use.search.python_docs import python_entries

    return python_entries()


def _told(added: Any, index: Any, json: bool) -> None:
    if json:
        output.as_json(added)
        return
    parts = {"new": added.new, "changed": added.changed, "unchanged": added.unchanged, "copies": added.copies}
    parts |= {"empty": added.empty, "deleted": added.deleted}
    told = ", ".join(f"{count:,} {name}" for name, count in parts.items() if count)
    output.line(
        f"{counted(added.documents, 'documents')} read: {told}; "
        f"{counted(added.passages, 'passages')} in {added.seconds:.1f} s"
    )
    output.line(f'\nNext: bothways search {index.place} "what you look for"')
