"""Pre-training: from raw text to an encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bothways.errors import BothwaysError
from bothways.learn.checkpoint import Checkpoint
from bothways.learn.loop import History, train
from bothways.learn.objectives import Recipe, recipe
from bothways.learn.protocol import Callback, Evaluation, Item
from bothways.learn.runs import as_typed, check_out, write_run
from bothways.learn.settings import LoopSettings
from bothways.learn.stream import Stream, split_items
from bothways.learn.tally import evaluate_items
from bothways.model.config import EncoderConfig
from bothways.model.families import family as family_of
from bothways.progress import say
from bothways.run.model import Model, load
from bothways.run.new import suited_start
from bothways.text.documents import Source
from bothways.text.prepare import prepare
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer
from bothways.text.train import train_tokenizer

_HELD_OUT = 512
"""Examples that are never trained on, at most; of a small corpus one in twenty."""


@dataclass(frozen=True)
class Pretrained:
    """What came of pre-training.

    Attributes:
        model: The encoder with its heads, ready to use; saved in ``out/model``.
        history: What was logged.
        scores: Losses and accuracies on held-out examples at the end.
        out: The folder of the run.
    """

    model: Model
    history: History
    scores: dict[str, float]
    out: Path


def pretrain(
    corpus: Source | Corpus,
    *,
    out: str | Path,
    tokenizer: str | Path | Tokenizer | None = None,
    vocab_size: int = 30_000,
    lowercase: bool = True,
    base: str | Path | Model | None = None,
    family: str = "bert",
    size: str = "mini",
    objective: str = "mlm+nsp",
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    max_length: int = 128,
    batch_tokens: int = 4096,
    micro_tokens: int = 16_384,
    mask_rate: float = 0.15,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    dropout: float | None = None,
    evaluate_every: float = 0.1,
    save_minutes: float = 5.0,
    seed: int = 0,
    precision: str = "auto",
    device: str | None = None,
    text: str = "text",
    resume: bool = True,
    overwrite: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Pretrained:
    """Pre-trains an encoder on raw text, or continues with one.

    Args:
        corpus: A prepared corpus, or raw text (files, folders, lists, frames ...), which is prepared in ``out/corpus``.
        out: The folder of the run. An interrupted run in it goes on bit for bit where it stopped.
        tokenizer: A tokenizer or its folder; None trains one in ``out/tokenizer`` (or takes that of `base`, or of the
            prepared corpus).
        vocab_size: Of the tokenizer that is trained.
        lowercase: Whether that tokenizer lower-cases.
        base: A model to continue with instead of random weights.
        family: Of the encoder.
        size: A published size of the family.
        objective: ``mlm+nsp`` or ``mlm``.
        minutes: Time for the training; or
        steps: optimizer steps; or
        epochs: passes over the corpus. One pass when none of the three is given.
        max_length: The most tokens in a sequence.
        batch_tokens: Tokens in an optimizer step.
        micro_tokens: Tokens in one forward pass; larger steps are accumulated exactly.
        mask_rate: Share of the tokens that are to be guessed.
        optimizer: ``"adamw"`` or ``"muon"``, which leaves the plateau of mere word frequencies several times sooner.
            None takes Muon from random weights, and AdamW, with which published encoders were made, to continue.
        learning_rate: The highest rate; None takes one that suits the width.
        weight_decay: On weight matrices.
        warmup: Share of the steps in which the rate rises.
        dropout: Overrides the size's dropout everywhere.
        evaluate_every: Steps between evaluations on held-out examples, or a share of all steps if below 1.
        save_minutes: Minutes between checkpoints.
        seed: All randomness follows from it.
        precision: ``"auto"``, ``"float32"`` or ``"bf16"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        text: The column that holds the text, where the source has columns.
        resume: Whether an unfinished run in `out` goes on.
        overwrite: Whether another run in `out` is thrown away.
        tensorboard: Whether TensorBoard's files are written too.
        callbacks: Called after each step.

    Returns:
        The model and what was measured.

    Raises:
        BothwaysError: A setting, the corpus or the folder does not do; the sentence says which and what to do.
    """
    settings_given = {name: value for name, value in locals().items() if name not in ("corpus", "callbacks", "base")}
    folder = Path(out)
    check_out(folder, overwrite=overwrite, resume=resume)
    start = load(base, device="cpu") if isinstance(base, str | Path) else base
    prepared = _prepared(corpus, folder, _tokenizer(tokenizer, start), vocab_size, lowercase, text)
    config = _config(start, family, size, prepared.tokenizer, max_length, dropout)
    plan = recipe(objective, prepared, max_length, mask_rate=mask_rate, seed=seed)
    train_numbers, held_numbers = _hold_out(len(plan.examples))
    stream = Stream(
        plan.examples,
        plan.finish,
        numbers=train_numbers,
        batch_tokens=batch_tokens,
        micro_tokens=micro_tokens,
        seed=seed,
    )
    if steps is None and (minutes is None or epochs is not None):
        steps = _steps_of(1.0 if epochs is None else epochs, plan, train_numbers, batch_tokens)
    model = _model(start, config, plan.heads, prepared.tokenizer, seed, device)
    optimizer = optimizer or ("muon" if start is None else "adamw")
    settings = LoopSettings(
        optimizer=optimizer,
        learning_rate=learning_rate or suited_rate(config.width, optimizer),
        steps=steps,
        minutes=minutes,
        warmup=warmup,
        weight_decay=weight_decay,
        evaluate_every=evaluate_every,
        save_minutes=save_minutes,
        seed=seed,
        precision=precision,
        tensorboard=tensorboard,
    )
    held_out = _held_items(plan, held_numbers, micro_tokens)
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})
    names = tuple(f"{what}.{part.name}" for part in plan.together.objectives for what in ("loss", "accuracy"))
    evaluation = Evaluation(("loss", *names), lambda: evaluate_items(trained, plan.together, held_out))
    say(
        f"{family_of(config.family).title} {size if start is None else 'continued'}: {model.parameters:,} parameters, "
        f"{objective}, {len(train_numbers):,} sequences of up to {max_length} tokens"
    )
    history = train(
        trained,
        plan.together,
        stream,
        settings,
        out=folder,
        evaluate=evaluation if held_out else None,
        callbacks=callbacks,
        title="Pre-training",
        identity={
            "corpus": prepared.fingerprint,
            "objective": objective,
            "max_length": max_length,
            "batch_tokens": batch_tokens,
            "mask_rate": mask_rate,
            "model": config.to_dict(),
            "base": start is not None and start.name,
        },
        resume=resume,
    )
    longest = max(max_length, (start.max_length or 0) if start is not None else 0)
    model.max_length = longest  # positions further on are random
    model.save(folder / "model", overwrite=True)
    scores = {name: history.evaluations[-1][name] for name in evaluation.names} if history.evaluations else {}
    write_run(
        folder,
        command="pretrain",
        # a budget of time or epochs came to so many steps; repeating the run means to take as many
        settings=settings_given
        | {"corpus": as_typed(corpus), "base": as_typed(base)}
        | {"steps": history.steps, "minutes": None, "epochs": None},
        data={"corpus": prepared.fingerprint},
        seed=seed,
        results=scores | {"steps": history.steps, "seconds": history.seconds},
    )
    Checkpoint(folder).discard()
    return Pretrained(model, history, scores, folder)


def suited_rate(width: int, optimizer: str) -> float:
    """A highest learning rate for pre-training with small batches: smaller encoders bear larger ones.

    AdamW: 1e-4 at width 768 as Devlin et al. 2018, growing with the inverse square of the width, at most 1e-3. Muon:
    1.5e-3 up to width 256, where it was tried (benchmarks/README.md), then falling with the width.
    """
    if optimizer == "muon":
        return 1.5e-3 * min(1.0, 256 / width)
    return min(1e-3, 1e-4 * (768 / width) ** 2)


def _tokenizer(tokenizer: str | Path | Tokenizer | None, start: Model | None) -> Tokenizer | None:
    if isinstance(tokenizer, str | Path):
        return Tokenizer.load(tokenizer)
    return tokenizer or (start.tokenizer if start is not None else None)


def _prepared(
    corpus: Source | Corpus,
    folder: Path,
    tokenizer: Tokenizer | None,
    vocab_size: int,
    lowercase: bool,
    text: str,
) -> Corpus:
    """The prepared corpus: given, or made in the run's folder."""
    if isinstance(corpus, str | Path) and (Path(corpus) / "index.json").is_file():
        corpus = Corpus.open(corpus)
    if isinstance(corpus, Corpus):
        if tokenizer is not None and tokenizer.fingerprint != corpus.tokenizer.fingerprint:
            raise BothwaysError(
                f"the corpus in {corpus.folder} was prepared with another tokenizer than the one given; prepare it "
                "again"
            )
        return corpus
    if tokenizer is None:
        place = folder / "tokenizer"
        if place.exists():
            tokenizer = Tokenizer.load(place)
        else:
            tokenizer = train_tokenizer(corpus, size=vocab_size, lowercase=lowercase, out=place, text=text)
    return prepare(corpus, tokenizer, folder / "corpus", text=text)


def _config(
    start: Model | None, family: str, size: str, tokenizer: Tokenizer, max_length: int, dropout: float | None
) -> EncoderConfig:
    """The encoder's configuration: that of the model to continue with, or a published size with our vocabulary."""
    if start is not None:
        config = start.config
        if tokenizer.size > config.embeddings.vocab_size:
            raise BothwaysError(
                f"the tokenizer has {tokenizer.size:,} tokens, but {start.name} only {config.embeddings.vocab_size:,}; "
                "continue with the model's own tokenizer"
            )
    else:
        config = family_of(family).size(size)
        config = config.for_vocabulary(tokenizer.size, tokenizer.pad_id)
        config = suited_start(config)
    if config.longest is not None and max_length > config.longest:
        raise BothwaysError(f"max_length is {max_length}, but this encoder takes at most {config.longest} tokens")
    if dropout is not None:
        config = family_of(config.family).with_dropout(config, dropout)
    return config


def _model(
    start: Model | None,
    config: EncoderConfig,
    heads: Sequence[str],
    tokenizer: Tokenizer,
    seed: int,
    device: str | None,
) -> Model:
    """An encoder with the heads to train: weights of the model to continue with where it has them, else random."""
    model = Model.random(
        config, tokenizer, [family_of(config.family).head(kind) for kind in heads], seed=seed, device=device
    )
    if start is not None:
        model.encoder.load_state_dict(start.encoder.state_dict(), strict=False)
        for kind in model.heads.keys() & start.heads.keys():
            model.heads[kind].load_state_dict(start.heads[kind].state_dict())
    return model


def _hold_out(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples to train on and those held out, evenly spread."""
    held = np.unique(np.linspace(0, count - 1, min(_HELD_OUT, count // 20) + 1).astype(np.int64)[1:])
    return np.setdiff1d(np.arange(count), held), held


def _held_items(plan: Recipe, numbers: np.ndarray, micro_tokens: int) -> list[Item]:
    """Held-out examples as batches, masked once and for all."""
    keys = [(0, int(number)) for number in numbers]
    return split_items(keys, [plan.examples.sequence(*key) for key in keys], plan.finish, micro_tokens)


def _steps_of(epochs: float, plan: Recipe, numbers: np.ndarray, batch_tokens: int) -> int:
    """About how many steps so many passes take, from the mean length of a sample of the examples."""
    sample = numbers[:: max(1, len(numbers) // 256)]
    mean = float(np.mean([len(plan.examples.sequence(0, int(number))[0]) for number in sample]))
    return max(1, math.ceil(epochs * len(numbers) * mean / batch_tokens))


def describe(result: Pretrained) -> dict[str, Any]:
    """The figures of a run as plain data, for the command line."""
    return {"out": str(result.out), "steps": result.history.steps, "seconds": result.history.seconds, **result.scores}
