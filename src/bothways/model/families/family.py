"""What a family file declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

from bothways.errors import BothwaysError, closest
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.families.names import NameTable, written_out


@dataclass(frozen=True)
class FamilyHead:
    """A head as a family's published checkpoints have it.

    Attributes:
        config: Its layers; labels and dropout come with a checkpoint.
        names: Published names of its tensors beside ours, as in `NameTable`.
        dropout: Keys of ``config.json`` that say its dropout: the first one that is there and not null counts, and the
            first of all is written. Where none is there, `config` says it. Empty for a head that has none.
        reads: The key of ``config.json`` that says whether it reads the first token or the mean, where it has one.
    """

    config: HeadConfig
    names: dict[str, str]
    dropout: tuple[str, ...] = ("classifier_dropout", "hidden_dropout_prob")
    reads: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", written_out(self.names))


_CLASSES = {
    "": "Model",
    "mlm": "ForMaskedLM",
    "nsp": "ForNextSentencePrediction",
    "mlm+nsp": "ForPreTraining",
    "mlm+sop": "ForPreTraining",
    "rtd": "ForPreTraining",
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "answer": "ForQuestionAnswering",
    "choose": "ForMultipleChoice",
}


def classes(prefix: str, *kinds: str) -> dict[frozenset[str], str]:
    """The names of a family's classes in ``transformers`` by their heads: that without heads, then those asked for.

    Args:
        prefix: What they begin with.
        kinds: Heads, joined by ``+`` where a class has two.
    """
    return {frozenset(filter(None, heads.split("+"))): prefix + _CLASSES[heads] for heads in ("", *kinds)}


@dataclass(frozen=True)
class GeneratorPlan:
    """How the generator beside a discriminator is made where its paper, or a published size, says nothing else.

    Attributes:
        width: As a share of the discriminator's, and so are heads and feed-forward layers.
        layers: As a share of the discriminator's.
        tables: Whether both learn ``"shared"`` tables, or ``"disentangled"`` ones.
    """

    width: float = 0.25
    layers: float = 1.0
    tables: Literal["shared", "disentangled"] = "shared"


def _unpublished(_: Any) -> NoReturn:
    raise BothwaysError("this family has no published config.json; bothways alone reads and writes its folders")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of encoders: what its file says about it.

    Attributes:
        name: As in ``config.json``'s ``model_type`` and on the command line.
        title: As people write it.
        year: Of the paper.
        paper: Authors, title, place.
        sizes: Published sizes by name.
        default_size: The size meant when none is given.
        heads: The heads that its published checkpoints have, by kind. Where a checkpoint does not say which it carries,
            the first that fits is taken.
        objectives: How the paper pre-trains it.
        tokenizer: Kind of its tokenizer.
        mask_order: How its paper guesses masked tokens: all at once, or one after the other in a permuted order.
        mask_decoder: What its paper guesses masked tokens from, as `HeadConfig` says it.
        generator: How a generator is made beside an encoder of it.
        stated: Millions of parameters that its authors state, by size; shown beside the counted ones.
        dropouts: The settings of its configuration that are its dropouts, as ``config.json`` can say them.
        names: Names of its encoder's tensors in published checkpoints.
        from_hf: Translates the Hugging Face ``config.json`` (as a dictionary); complains about keys it does not know.
        to_hf: The reverse.
        architectures: For a set of heads, the class name in ``transformers`` that opens a checkpoint with them. Empty
            for a family that is not published: it needs no names and translations either.
    """

    name: str
    title: str
    year: int
    paper: str
    sizes: dict[str, EncoderConfig]
    default_size: str
    heads: dict[str, FamilyHead]
    objectives: tuple[str, ...]
    tokenizer: str
    mask_order: Literal["at-once", "permuted"] = "at-once"
    mask_decoder: Literal["plain", "enhanced"] = "plain"
    generator: GeneratorPlan = GeneratorPlan()
    stated: dict[str, int] = field(default_factory=dict)
    dropouts: tuple[str, ...] = ("dropout", "attention__dropout", "embeddings__dropout")
    names: NameTable = field(default_factory=lambda: NameTable(names={}, prefix=""))
    from_hf: Callable[[dict[str, Any]], EncoderConfig] = _unpublished
    to_hf: Callable[[EncoderConfig], dict[str, Any]] = _unpublished
    architectures: dict[frozenset[str], str] = field(default_factory=dict)

    @property
    def is_published(self) -> bool:
        """Whether other libraries have a class for it."""
        return bool(self.architectures)

    def size(self, name: str | None = None) -> EncoderConfig:
        """The configuration of a published size.

        Raises:
            BothwaysError: There is no such size; those there are, are listed.
        """
        name = name or self.default_size
        if name not in self.sizes:
            known = ", ".join(self.sizes)
            raise BothwaysError(f"{self.title} has no size {name!r}; its sizes are {known}{closest(name, self.sizes)}")
        return self.sizes[name]

    def with_dropout(self, config: EncoderConfig, rate: float) -> EncoderConfig:
        """The same encoder with another dropout everywhere that the family has it.

        Args:
            config: Of this family.
            rate: Share of values dropped in training.
        """
        parts = {name: name.rpartition("__") for name in self.dropouts}
        own = [name for name, (part, _, last) in parts.items() if hasattr(getattr(config, part, config), last)]
        return config.derive(**dict.fromkeys(own, rate))  # another kind of attention may lack one

    def head(self, kind: str, **settings: Any) -> HeadConfig:
        """A head of this family: as published where it is known, else a plain one on the first token.

        Args:
            kind: Of the head.
            settings: `labels`, `dropout` and whatever else is to differ.
        """
        known = self.heads.get(kind)
        base = known.config if known else HeadConfig(kind=kind, reads="first")  # type: ignore[arg-type]
        return base.derive(**settings)

    def table(self, kinds: Iterable[str]) -> NameTable:
        """The names of the encoder's tensors and of those of some heads."""
        heads = {theirs: ours for kind in kinds for theirs, ours in self.heads[kind].names.items()}
        return replace(self.names, names=self.names.names | heads)

    def kinds_of(self, architecture: str) -> frozenset[str] | None:
        """The heads of a class in ``transformers``; None for a class that is not known."""
        return next((kinds for kinds, name in self.architectures.items() if name == architecture), None)
