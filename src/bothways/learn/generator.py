"""The generator beside a discriminator: what it is made like, which tables it shares, where it comes from.

It is a model of its own, an encoder with a masked-token head. What it does in training stands in
`bothways.learn.objectives.rtd`.
"""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

from bothways.chance import derived_seed
from bothways.errors import BothwaysError
from bothways.learn.objectives.choices import GeneratorTables
from bothways.learn.objectives.rtd import GENERATOR, GENERATOR_HEAD
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.model.config import EncoderConfig
from bothways.model.disentangled_tables import disentangle_tables, merged
from bothways.model.encoder import Encoder
from bothways.model.families import family as family_of
from bothways.model.heads.enhanced_mask_decoder import refusal, with_positions
from bothways.model.neighbours import AttentionStart
from bothways.model.sharing import share_tables
from bothways.progress import say
from bothways.run.model import Model, load


def generator_config(config: EncoderConfig, size: float | None = None) -> EncoderConfig:
    """The generator for a discriminator: tables of the same shape, so that both can use them, and narrower above.

    Without a size it is as the family's published generator for such a discriminator, or as the family's paper says, or
    a quarter as wide.

    Args:
        config: The discriminator's.
        size: Width, heads and feed-forward width as a share of the discriminator's; its layers are then as many.
    """
    plan = family_of(config.family).generator
    share = size or _published_share(config) or plan.width
    layers = config.layers if size else max(1, round(config.layers * plan.layers))
    made = config.derive(layers=layers, blocks=config.blocks and min(config.blocks, layers), pooler=None)
    if share == 1:
        return made
    heads = max(1, round(config.attention.heads * share))
    step = math.lcm(2 * heads, 8, config.convolution.groups if config.convolution else 1)  # whole heads of even width
    width = step * max(1, round(config.width * share / step))
    return made.derive(
        width=width,
        attention__heads=heads,
        feed_forward__width=max(1, round(config.feed_forward.width * share)),
        init_std=config.init_std * math.sqrt(config.width / width),  # as `suited_start` has it for a narrower encoder
    )


def _published_share(config: EncoderConfig) -> float | None:
    """The width of the published generator beside an encoder of this shape, as a share; None if there is none."""
    sizes = family_of(config.family).sizes
    for name, size in sizes.items():
        generator = sizes.get(f"{name}-generator")
        if generator is not None and (size.width, size.layers) == (config.width, config.layers):
            return generator.width / size.width
    return None


def check_generator(settings: ObjectiveSettings, keep: bool) -> None:
    """Refuses what is said of a generator, or of a mask decoder, where there is none.

    Args:
        settings: Of the objectives.
        keep: Whether a generator is to be kept.
    """
    said = [name for name in ("generator_size", "generator_tables") if getattr(settings, name) is not None]
    said += ["keep_generator"] if keep else []
    if said and "rtd" not in settings.parts:
        raise BothwaysError(
            f"{said[0]} is about the generator of the objective rtd, but the objective is {settings.objective}; leave "
            "it out, or learn rtd"
        )
    if settings.mask_decoder == "enhanced" and not {"mlm", "rtd"} & set(settings.parts):
        raise BothwaysError(
            f"mask_decoder is about masked tokens, but the objective is {settings.objective}; leave it out, or "
            "learn mlm"
        )
    if settings.mask_order == "permuted" and "mlm" not in settings.parts:
        raise BothwaysError(
            f"mask_order is about the masked tokens of mlm, but the objective is {settings.objective}; leave it out, "
            "or learn mlm"
        )


def starting_generator(
    discriminator: Model,
    settings: ObjectiveSettings,
    base: str | Path | Model | None,
    dropout: float | None,
    attention_start: AttentionStart | None = None,
) -> Model:
    """The generator that a run begins with, its tables joined with the discriminator's.

    Its weights are random, unless the discriminator comes from a folder with a ``generator`` in it or beside it, as a
    run leaves it that keeps its generator.

    Args:
        discriminator: An encoder with its heads.
        settings: Of the objectives; `settled`.
        base: What the discriminator continues.
        dropout: As of the discriminator; None for the configuration's.
        attention_start: How random weights begin (`bothways.model.neighbours`).

    Raises:
        BothwaysError: The generator that was kept is another one, or tables do not fit together.
    """
    kept = _kept(base)
    if kept is not None:
        _check_kept(kept, discriminator, settings)
    config = kept.config if kept else generator_config(discriminator.config, settings.generator_size)
    members, decoder = family_of(config.family), settings.mask_decoder or "plain"
    if decoder == "enhanced":
        config = with_positions(config, settings.max_length)
        if why := refusal(config):
            raise BothwaysError(f"{why}; that is rtd's generator: choose another generator_size, or a plain decoder")
    if dropout is not None:
        config = members.with_dropout(config, dropout)
    seed = derived_seed("generator", settings.seed)
    made = Model.random(
        config,
        discriminator.tokenizer,
        [members.head("mlm", decoder=decoder)],
        seed=seed,
        device=str(discriminator.device),
        attention_start="random" if kept is not None or attention_start == "random" else None,
    )
    if kept is not None:
        made.encoder.load_state_dict(kept.encoder.state_dict(), strict=False)
        made.heads["mlm"].load_state_dict(kept.heads["mlm"].state_dict())
    told = f"continued from {kept.name}" if kept else "random"
    say(f"Generator: {config.layers} layers, {config.width} wide, {settings.generator_tables} tables, {told}")
    join_tables(made.encoder, discriminator.encoder, settings.generator_tables or "own", fresh=kept is None)
    return made


def join_tables(generator: Encoder, discriminator: Encoder, how: GeneratorTables, *, fresh: bool = True) -> None:
    """Makes two encoders share their tables. The discriminator goes on computing what it did.

    Args:
        generator: Gives its tables up where they are ``"shared"``.
        discriminator: Builds upon the generator's where they are ``"disentangled"``; `finished` makes them plain again.
        how: Or each keeps its ``"own"``.
        fresh: Whether the generator has learnt nothing yet, and so may begin with the discriminator's.

    Raises:
        BothwaysError: They differ in rows or width.
    """
    if how == "shared":
        share_tables(generator, discriminator)
    elif how == "disentangled":
        if fresh:
            _copy_tables(discriminator, generator)
        disentangle_tables(generator, discriminator, keep=True)


def _copy_tables(source: Encoder, target: Encoder) -> None:
    for name in ("tokens", "positions"):
        table, copy = getattr(source.embeddings, name), getattr(target.embeddings, name)
        if table is not None and copy is not None and table.weight.shape == copy.weight.shape:
            copy.weight.data.copy_(table.weight.data)


def trained_parts(generator: Model | None) -> dict[str, nn.Module]:
    """What of a generator is trained, under the names that the objective looks for; nothing where there is none."""
    return {GENERATOR: generator.encoder, GENERATOR_HEAD: generator.heads["mlm"]} if generator else {}


def finished(discriminator: Model, generator: Model | None, kept: Path | None) -> Model:
    """The trained model with tables that are its own alone, as it is saved and used; the same outputs.

    Args:
        discriminator: Or any other model, which stays as it is.
        generator: What stood beside it.
        kept: Where the generator is saved, if it is to be kept.
    """
    if generator is None:
        return discriminator
    if kept is not None:
        generator.max_length = discriminator.max_length
        generator.save(kept, overwrite=True)
    return discriminator.with_encoder(merged(discriminator.encoder))


def _kept(base: str | Path | Model | None) -> Model | None:
    """The generator in, or beside, the folder that a discriminator comes from."""
    if not isinstance(base, str | Path):
        return None
    for folder in (Path(base) / "generator", Path(base).parent / "generator"):
        if (folder / "config.json").is_file() and (Path(base).name == "model" or folder.parent == Path(base)):
            return load(folder, device="cpu")
    return None


def _check_kept(kept: Model, discriminator: Model, settings: ObjectiveSettings) -> None:
    """Refuses a generator that was kept and does not fit."""
    if "mlm" not in kept.heads:
        raise BothwaysError(f"{kept.name} has no masked-token head, so it is no generator; move it away")
    if kept.tokenizer.tokens != discriminator.tokenizer.tokens:
        raise BothwaysError(f"{kept.name} has another vocabulary than its discriminator; move it away")
    if settings.mask_decoder is None and kept.head_configs["mlm"].decoder == "enhanced":
        raise BothwaysError(
            f"{kept.name} learned with the enhanced mask decoder; continue with mask_decoder='enhanced' (or 'plain')"
        )
    if settings.generator_size is None:
        return
    asked = generator_config(discriminator.config, settings.generator_size)
    if (asked.width, asked.layers) != (kept.config.width, kept.config.layers):
        raise BothwaysError(
            f"{kept.name} has {kept.config.layers} layers, {kept.config.width} wide, but generator_size asks for "
            f"{asked.layers}, {asked.width} wide; leave it out to continue with that generator, or move it away"
        )
