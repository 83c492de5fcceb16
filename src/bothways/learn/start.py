"""What a pre-training run begins with: a prepared corpus, a configuration, a model, a learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from bothways.errors import BothwaysError
from bothways.learn.objectives.choices import MaskDecoder, MaskOrder
from bothways.learn.objectives.distil.student import student_of
from bothways.learn.objectives.recipe import OBJECTIVES
from bothways.learn.objectives.rtd import usual_rate
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.processes import here
from bothways.learn.runs import check_begun, will_make
from bothways.learn.settings import OPTIMIZERS, LoopSettings, picked
from bothways.model.build import build_encoder
from bothways.model.config import EncoderConfig
from bothways.model.counts import parameter_count
from bothways.model.families import family as family_of
from bothways.model.heads.enhanced_mask_decoder import refusal, with_positions
from bothways.model.neighbours import AttentionStart, check_attention_start
from bothways.model.parts.sight import refusal as sight_refusal
from bothways.progress import say
from bothways.run.model import Model
from bothways.run.new import suited_start
from bothways.text.documents import Source
from bothways.text.prepare import prepare
from bothways.text.shards import Corpus, OnCorrupt
from bothways.text.tokenizer import Tokenizer
from bothways.text.train import SPECIALS, train_tokenizer

USUAL_FAMILY = "bert"
"""What is pre-trained where nobody says."""


def suited_objective(family: str, start: Model | None = None) -> str:
    """What the paper of a family pre-trains on, as far as there is such an objective here.

    A discriminator, whatever its family, goes on as one; so does a generator, which has a masked-token head alone.
    """
    own = [name for name in family_of(family).objectives if name in OBJECTIVES]
    heads = () if start is None else start.heads
    if "rtd" in heads or ("rtd" in own and "mlm" not in heads):
        return "rtd"
    return "mlm" if "rtd" in own else "+".join(own)


def check_family(family: str | None, kept: Model) -> None:
    """Refuses to make another family of a model whose family stays.

    Raises:
        BothwaysError: Another one is asked for.
    """
    if family is not None and family_of(family).name != kept.config.family:
        own = family_of(kept.config.family).title
        raise BothwaysError(
            f"{kept.name} is a {own} and stays one, but the family {family!r} is asked for; leave the family out"
        )


def check_start(attention_start: AttentionStart | None, kept: Model | None, shape: EncoderConfig) -> None:
    """Refuses a start of attention that the encoder cannot have, before its text is read.

    Raises:
        BothwaysError: A model is continued, or there is nothing to tell neighbours by.
    """
    if attention_start is not None and kept is not None:
        raise BothwaysError(f"attention_start is for random weights, but {kept.name} is continued; leave it out")
    if attention_start == "neighbours":
        with torch.device("meta"):
            check_attention_start(build_encoder(shape), attention_start)


def suited_size(family: str, teacher: object = None) -> str:
    """The size that suits a first try: ``mini`` where the family has it, else its smallest; half of a teacher."""
    sizes = family_of(family).sizes
    encoders = [name for name in sizes if not name.endswith("generator")]
    smallest = min(encoders, key=lambda name: parameter_count(sizes[name]))
    return "half" if teacher is not None else "mini" if "mini" in sizes else smallest


def chosen_size(size: str | None, family: str, start: Model | None, teacher: object) -> str | None:
    """The size that is asked for, or one that suits; none where a model is continued, which has its own."""
    if start is None:
        return size or suited_size(family, teacher)
    if size is not None:
        say(f"Size {size} is left aside: {start.name} is continued as it is")
    return None


def suited_rate(width: int, optimizer: str) -> float:
    """A highest learning rate for pre-training with small batches: smaller encoders bear larger ones.

    AdamW: 1e-4 at width 768 as Devlin et al. 2018, growing with the inverse square of the width, at most 1e-3. Muon:
    1.5e-3 up to width 256, where it was tried (benchmarks/README.md), then falling with the width.
    """
    if optimizer == "muon":
        return 1.5e-3 * min(1.0, 256 / width)
    return min(1e-3, 1e-4 * (768 / width) ** 2)


def suited_tokenizer(family: str) -> tuple[str, tuple[str, ...]]:
    """The kind of tokenizer that a family has, and its special tokens.

    Relatives of RoBERTa have its special tokens whatever their kind, as MPNet has, and with them its template, in which
    two texts are of one segment.
    """
    members = family_of(family)
    like_roberta = members.size().embeddings.position_offset > 0  # whose positions begin behind the padding's id
    return members.tokenizer, SPECIALS["bpe" if like_roberta else members.tokenizer]


def tokenizer_of(tokenizer: str | Path | Tokenizer | None, start: Model | None) -> Tokenizer | None:
    """The tokenizer given, or that of the model to continue with; None if one has to be trained."""
    if isinstance(tokenizer, str | Path):
        return Tokenizer.load(tokenizer)
    return tokenizer or (start.tokenizer if start is not None else None)


def prepared_corpus(
    corpus: Source | Corpus,
    folder: Path,
    tokenizer: Tokenizer | None,
    vocab_size: int,
    lowercase: bool,
    text: str,
    family: str = "bert",
    on_corrupt: OnCorrupt = "stop",
) -> Corpus:
    """The prepared corpus: given, or made in the run's folder, if need be with a tokenizer of the family's kind."""
    if Corpus.lies_in(corpus):
        corpus = Corpus.open(corpus, on_corrupt)  # type: ignore[arg-type]
    if isinstance(corpus, Corpus):
        if tokenizer is not None and tokenizer.fingerprint != corpus.tokenizer.fingerprint:
            raise BothwaysError(
                f"the corpus in {corpus.folder} was prepared with another tokenizer than the one given; prepare it "
                "again"
            )
        return corpus
    make = partial(_make_corpus, corpus, folder, tokenizer, vocab_size, lowercase, text, family)
    here().in_turn(make, lambda: None)  # the others wait
    return Corpus.open(folder / "corpus", on_corrupt)


def _make_corpus(
    source: Source, folder: Path, tokenizer: Tokenizer | None, vocab_size: int, lowercase: bool, text: str, family: str
) -> None:
    asked = {"vocab_size": vocab_size, "lowercase": lowercase, "family": family} if tokenizer is None else {}
    place = folder / "tokenizer"
    if tokenizer is None and place.exists():
        check_begun(folder, asked)
    will_make(folder, "corpus", *(["tokenizer"] if tokenizer is None else []), asked=asked)
    if tokenizer is None:
        if place.exists():
            tokenizer = Tokenizer.load(place)
        else:
            kind, specials = suited_tokenizer(family)
            tokenizer = train_tokenizer(
                source,
                vocab_size=vocab_size,
                kind=kind,
                lowercase=lowercase,
                special_tokens=specials,
                out=place,
                text=text,
            )
    prepare(source, tokenizer, folder / "corpus", text=text)


def check_training(given: Mapping[str, Any]) -> None:
    """Refuses what makes no sense of how a run is trained, before its text is read, which may take hours.

    Args:
        given: What `bothways.pretrain` was given.
    """
    steps, epochs, rate = given["steps"], given["epochs"], given["learning_rate"]
    if steps is not None and epochs is not None:
        raise BothwaysError("steps and epochs say the same in two ways: give one of them")
    if epochs is not None and not 0 < epochs < math.inf:
        raise BothwaysError(f"epochs must be above 0, not {epochs!r}")
    for name in ("batch_tokens", "micro_tokens"):
        if given[name] < 1:
            raise BothwaysError(f"{name} must be 1 or more, not {given[name]!r}")
    if (way := given["on_corrupt"]) not in get_args(OnCorrupt):
        raise BothwaysError(f"on_corrupt must be stop or skip, not {way!r}")
    picked(
        LoopSettings,
        given,
        steps=1 if steps is None else steps,
        learning_rate=1.0 if rate is None else rate,
        optimizer=given["optimizer"] or OPTIMIZERS[0],
    )


def configuration(
    start: Model | None,
    family: str | None,
    size: str | None,
    max_length: int,
    dropout: float | None,
    teacher: Model | None = None,
) -> EncoderConfig:
    """The encoder's configuration: that of the model to continue with, or a size, whose vocabulary is still another's.

    The size is a published one, or with a teacher so many of its layers.
    """
    if start is not None:
        config = start.config
    else:
        student = teacher and size and student_of(teacher.config, size)
        if teacher and student:
            check_family(family, teacher)
        config = student or family_of(family or USUAL_FAMILY).size(size)
        config = suited_start(config if teacher is None else config.derive(pooler=None))  # heads that want one get one
    if config.longest is not None and max_length > config.longest:
        raise BothwaysError(f"max_length is {max_length}, but this encoder takes at most {config.longest} tokens")
    if dropout is not None:
        config = family_of(config.family).with_dropout(config, dropout)
    return config


def with_vocabulary(config: EncoderConfig, start: Model | None, tokenizer: Tokenizer) -> EncoderConfig:
    """The configuration for a vocabulary; that of a model to continue with has to hold it."""
    if start is None:
        return config.for_vocabulary(tokenizer.size, tokenizer.pad_id)
    if tokenizer.size > config.embeddings.vocab_size:
        raise BothwaysError(
            f"the tokenizer has {tokenizer.size:,} tokens, but {start.name} only {config.embeddings.vocab_size:,}; "
            "continue with the model's own tokenizer"
        )
    return config


def name_of(config: EncoderConfig, size: str | None, start: Model | None) -> str:
    """What a model in training is called on the screen and in the report."""
    members = family_of(config.family)
    if start is not None:
        return f"{members.title} continued"
    if size in members.sizes:
        return f"{members.title} {size}"
    return f"{members.title} student of {config.layers} layer{'s' * (config.layers > 1)}"


def settled(
    settings: ObjectiveSettings, config: EncoderConfig, start: Model | None
) -> tuple[ObjectiveSettings, EncoderConfig]:
    """What was left to the encoder's size and family: masking rate, mask decoder, tables of generators.

    Args:
        settings: Of the objectives.
        config: Of the encoder.
        start: The model to continue with; how its masked-token head learned, it goes on.

    Returns:
        The settings without gaps, and the configuration with what its mask decoder reads.

    Raises:
        BothwaysError: The encoder cannot do with the mask decoder that is asked for.
    """
    members, changes = family_of(config.family), dict[str, Any]()
    if "rtd" in settings.parts:
        changes["mask_rate"] = settings.mask_rate or usual_rate(config)
        changes["generator_tables"] = settings.generator_tables or members.generator.tables
    if "mlm" in settings.parts:
        # a teacher's soft targets train the head too, on plain hidden states
        usual = "plain" if "distil" in settings.parts else _usual_decoder(config, start)
        decoder = settings.mask_decoder or usual
        changes |= {"mask_decoder": decoder, "mask_order": _order(replace(settings, mask_decoder=decoder), config)}
        if decoder == "enhanced":
            config = with_positions(config, settings.max_length)
            if why := refusal(config):
                raise BothwaysError(why)
    return replace(settings, **changes), config


def _usual_decoder(config: EncoderConfig, start: Model | None) -> MaskDecoder:
    """The mask decoder that a masked-token head learned with; else that of the family, where the encoder can."""
    head, tables = start and start.head_configs.get("mlm"), config.embeddings
    if head and not (tables.positions and not tables.positions_added):  # a table beside the tokens is there to be read
        return head.decoder
    return "plain" if refusal(with_positions(config)) else family_of(config.family).mask_decoder


def _order(settings: ObjectiveSettings, config: EncoderConfig) -> MaskOrder:
    """Whether masked tokens are guessed at once or one by one: what is asked for, else as in the family's paper.

    Raises:
        BothwaysError: One by one is asked for, and something else that does not go with it.
    """
    if settings.mask_order == "at-once":
        return "at-once"
    why = sight_refusal(config)
    if taught := [name for name in settings.parts if OBJECTIVES[name].compare]:
        why = f"{taught[0]} compares the tokens of a text with a teacher's"
    elif settings.mask_decoder == "enhanced":
        why = "the enhanced mask decoder guesses all at once"
    if why and settings.mask_order:
        raise BothwaysError(f"masked tokens cannot be guessed one by one here: {why}; leave mask_order out")
    return "at-once" if why else settings.mask_order or family_of(config.family).mask_order


def starting_model(
    start: Model | None,
    config: EncoderConfig,
    heads: Sequence[str],
    tokenizer: Tokenizer,
    seed: int,
    device: str | None,
    decoder: MaskDecoder | None = None,
    attention_start: AttentionStart | None = None,
) -> Model:
    """An encoder with the heads to train: weights of the model to continue with where it has them, else random.

    Raises:
        BothwaysError: An `attention_start` is asked for that the encoder cannot have.
    """
    members = family_of(config.family)
    made = [members.head(kind, **{"decoder": decoder or "plain"} if kind == "mlm" else {}) for kind in heads]
    begins = attention_start if start is None else "random"
    model = Model.random(config, tokenizer, made, seed=seed, device=device, attention_start=begins)
    if start is not None:
        model.encoder.load_state_dict(start.encoder.state_dict(), strict=False)
        for kind in model.heads.keys() & start.heads.keys():
            model.heads[kind].load_state_dict(start.heads[kind].state_dict())
    return model
