"""What an index remembers of itself, and which settings make sense."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bothways import __version__
from bothways.errors import BothwaysError, closest
from bothways.use.identity import identity_of
from bothways.use.search.codes import check_kind
from bothways.use.search.passages import LONGEST, Splitter
from bothways.use.search.store import Shape

if TYPE_CHECKING:
    from bothways.run.questions import Questions

SIMILARITIES = ("cosine", "dot", "euclidean")
LANGUAGES = (
    *("arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian"),
    *("norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", "none"),
)


@dataclass(frozen=True)
class Settings:
    """What an index remembers, beside the shape of its store.

    Attributes:
        model: Where the model that made its vectors came from.
        identity: What that model is told by.
        dims: How many of its vectors' first values are kept; None for all.
        passage_tokens: The most tokens of a passage.
        overlap: The most tokens that two neighbouring passages share.
        fields: Names in the metadata, which filters can ask for.
        version: Of Bothways.
    """

    model: str
    identity: str
    dims: int | None
    passage_tokens: int
    overlap: int
    fields: tuple[str, ...] = ()
    version: str = __version__


def check_language(language: str) -> None:
    """Refuses a language whose words cannot be brought to their stems."""
    if language not in LANGUAGES:
        near = closest(language, LANGUAGES)
        raise BothwaysError(f"words of {language!r} cannot be stemmed; there are {', '.join(LANGUAGES)}{near}")


def settle(
    model: Questions, vectors: str, dims: int | None, passage_tokens: int | None, overlap: int, language: str
) -> tuple[Settings, Shape]:
    """What a new index remembers; arguments and errors as in `Index.make`."""
    check_language(language)
    similarity = model.sentence.similarity
    if similarity not in SIMILARITIES or (check_kind(vectors) != "float32" and similarity != "cosine"):
        raise BothwaysError(
            f"{model.name} compares vectors by {similarity}, which no index finds them by with vectors={vectors!r}"
        )
    width = len(model.embed("a text", dims=dims))
    if passage_tokens is not None and passage_tokens < 1:
        raise BothwaysError(f"passages of {passage_tokens} tokens hold no text; give at least 1")
    longest = min(filter(None, (LONGEST if passage_tokens is None else passage_tokens, model.max_length)))
    if passage_tokens and passage_tokens > longest:
        raise BothwaysError(f"{model.name} reads {longest:,} tokens, fewer than {passage_tokens=:,}")
    Splitter(model.tokenizer, longest, overlap)
    settings = Settings(_name(model), identity_of(model), dims, longest, overlap)
    return settings, Shape(width, vectors, similarity, language)


def difference(place: str | None, then: tuple[Settings, Shape], now: tuple[Settings, Shape]) -> BothwaysError | None:
    """What to say if an index that is there has other settings than those that are wanted."""
    if then[0].identity != now[0].identity:
        return other_model(place, then[0].model, now[0].model)
    for before, after in ((asdict(then[0]), asdict(now[0])), (asdict(then[1]), asdict(now[1]))):
        for name in before:
            if name not in ("fields", "version", "model") and before[name] != after[name]:
                said = {"kind": "vectors"}.get(name, name)
                return BothwaysError(
                    f"the index {place} was made with {said} {before[name]!r}, not {after[name]!r}; choose another "
                    "place, or --overwrite"
                )
    return None


def other_model(place: str | None, made: str, asked: str) -> BothwaysError:
    """What to say of vectors that another model made."""
    if made == asked:
        return BothwaysError(
            f"the index {place} was made by {made} when that was another model, or by an older Bothways; build it anew "
            "(--overwrite)"
        )
    return BothwaysError(
        f"the index {place} was made by the model {made}, and {asked} is another one, whose vectors do not compare "
        "with its own; ask with that one, or build an index for this one"
    )


def _name(model: Questions) -> str:
    """Where a model came from, so that it is found from any folder."""
    path = Path(model.name)
    return str(path.absolute()) if path.is_dir() else model.name
