"""Pre-training: from raw text to an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from bothways.learn.again import as_it_was, check_same, finished_run, same_corpus
from bothways.learn.checkpoint import Checkpoint
from bothways.learn.generator import check_generator, finished, starting_generator, trained_parts
from bothways.learn.insight import Insight, few
from bothways.learn.loop import History, train
from bothways.learn.objectives.choices import (
    GeneratorTables,
    MaskDecoder,
    MaskOrder,
    MaskUnit,
    Parallel,
    Sequences,
    SoftTargets,
)
from bothways.learn.objectives.pairs import Pairs
from bothways.learn.objectives.recipe import Recipe, check_objectives, recipe
from bothways.learn.objectives.settings import ObjectiveSettings, as_texts, as_weights
from bothways.learn.parallel import check_processes, passes_of, reads_layers
from bothways.learn.portions import check_enough, divide, steps_of
from bothways.learn.processes import here, in_all_processes
from bothways.learn.protocol import Callback, Evaluation, Item
from bothways.learn.report import leave_report
from bothways.learn.runs import as_typed, check_out, one_at_a_time, throw_away, write_run
from bothways.learn.settings import LoopSettings, picked
from bothways.learn.start import (
    USUAL_FAMILY,
    check_family,
    check_start,
    check_training,
    chosen_size,
    configuration,
    name_of,
    prepared_corpus,
    settled,
    starting_model,
    suited_objective,
    suited_rate,
    tokenizer_of,
    with_vocabulary,
)
from bothways.learn.stream import Stream, readable, split_items
from bothways.learn.teaching import begin, beside, common_tokenizer, find_teacher, lesson_of
from bothways.model.neighbours import AttentionStart
from bothways.model.parts.block import compile_layers
from bothways.model.parts.stack import recompute_layers
from bothways.paths import as_path
from bothways.progress import say
from bothways.run.model import Model, load
from bothways.text.documents import Source
from bothways.text.shards import Corpus, OnCorrupt
from bothways.text.tokenizer import Tokenizer

_LONG_STEPS, _LONG_MINUTES = 1000, 5
"""From which on compiling layers, which takes about a minute, takes less than it spares."""


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


@in_all_processes
@one_at_a_time
def pretrain(
    corpus: Source | Corpus,
    *,
    out: str | Path,
    tokenizer: str | Path | Tokenizer | None = None,
    vocab_size: int = 30_000,
    lowercase: bool = True,
    base: str | Path | Model | None = None,
    family: str | None = None,
    size: str | None = None,
    attention_start: AttentionStart | None = None,
    objective: str | None = None,
    loss_weights: Mapping[str, float] | Sequence[str] | None = None,
    sequences: Sequences = "blocks",
    mask_rate: float | None = None,
    mask_rate_end: float | None = None,
    mask_unit: MaskUnit = "token",
    static_masks: int | None = None,
    mask_order: MaskOrder | None = None,
    mask_decoder: MaskDecoder | None = None,
    generator_size: float | None = None,
    generator_tables: GeneratorTables | None = None,
    keep_generator: bool = False,
    teacher: str | Path | Model | None = None,
    start_from_teacher: bool = True,
    temperature: float = 2.0,
    soft_targets: SoftTargets = "all",
    relation_heads: int | None = None,
    teacher_layer: int | None = None,
    teacher_cache: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    max_length: int = 128,
    batch_tokens: int = 4096,
    micro_tokens: int = 16_384,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    schedule: str = "linear",
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    dropout: float | None = None,
    gradient_checkpointing: bool = False,
    evaluate_every: float = 0.1,
    save_minutes: float = 5.0,
    seed: int = 0,
    precision: str = "auto",
    device: str | None = None,
    parallel: Parallel = "auto",
    on_corrupt: OnCorrupt = "stop",
    text: str = "text",
    resume: bool = True,
    force: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Pretrained:
    """Pre-trains an encoder on raw text, or continues with one.

    Args:
        corpus: A prepared corpus, or raw text (files, folders, lists, frames ...), which is prepared in ``out/corpus``.
        out: The folder of the run. An interrupted run in it goes on bit for bit where it stopped; a finished one of the
            same settings and text is read, and nothing is done.
        tokenizer: A tokenizer or its folder; None trains one of the family's kind in ``out/tokenizer`` (or takes that
            of `base`, or of the prepared corpus).
        vocab_size: Of the tokenizer that is trained.
        lowercase: Whether that tokenizer lower-cases.
        base: A model to continue with instead of random weights.
        family: Of the encoder; None takes ``bert``, or what `base` is.
        size: A published size of the family; with a teacher also ``"half"`` of its layers, or how many, such as
            ``"3"``, and then all else, the family too, is the teacher's. None takes ``"mini"``, or the family's
            smallest, or with a teacher the half.
        attention_start: How attention begins from random weights: ``"neighbours"``, the first heads looking one or two
            places to the left and right (`bothways.model.neighbours`), which spares the encoder the plateau of mere
            word frequencies; or ``"random"``, as in the papers. None takes the first where the encoder can.
        objective: Names joined by ``+``: ``mlm``, ``nsp``, ``sop``, ``rtd``, ``distil``, ``minilm``, ``tinybert``
            (`bothways.learn.objectives`). None takes those of the family's paper, or ``rtd`` where `base` is a
            discriminator.
        loss_weights: Of the losses in their sum, where they are not to count as they usually do: ``{"rtd": 20}`` or
            ``["rtd=20"]``.
        sequences: How sequences are cut where no objective wants pairs: ``"blocks"`` of running text,
            ``"full-sentences"`` or ``"doc-sentences"``, whole sentences across or within documents.
        mask_rate: Share of the tokens that are to be guessed; None for what the objective's paper takes.
        mask_rate_end: Its value at the end of the run, reached evenly; None keeps it.
        mask_unit: What is masked as a whole: ``"token"``, ``"word"`` or ``"span"``.
        static_masks: Copies of the corpus, each masked in its own way, that the epochs go round; None masks anew in
            every epoch.
        mask_order: ``"at-once"`` guesses each masked token without the others, ``"permuted"`` one after the other in
            random order, as MPNet does; None as the family.
        mask_decoder: ``"enhanced"`` guesses masked tokens as DeBERTa does, ``"plain"`` as BERT; None as the family.
        generator_size: Width of the generator of ``rtd`` as a share of the discriminator's, with as many layers. None
            for that of the family's published generators or paper, else a quarter.
        generator_tables: ``"shared"``, ``"disentangled"`` or ``"own"``; None as the family's paper.
        keep_generator: Whether the generator is saved too, in ``out/generator``. A run that has the folder `out` as its
            `base` continues with both.
        teacher: A model, its folder or hub id, that ``distil``, ``minilm`` and ``tinybert`` learn from.
        start_from_teacher: Whether a student as wide as its teacher begins with layers of it.
        temperature: Of soft targets.
        soft_targets: Of ``"all"`` tokens, or of the ``"masked"`` ones.
        relation_heads: Into how many ``minilm`` cuts queries, keys and values; None for what suits both widths.
        teacher_layer: The teacher's layer that ``minilm`` learns from, counted from 1; None for the last.
        teacher_cache: A folder in which the teacher's outputs are kept, for further epochs and runs.
        minutes: Time for the training; or
        steps: optimizer steps; or
        epochs: passes over the corpus. One pass when none of the three is given.
        max_length: The most tokens in a sequence.
        batch_tokens: Tokens in an optimizer step.
        micro_tokens: Tokens in one forward pass; larger steps are accumulated exactly.
        optimizer: ``"adamw"`` or ``"muon"``, which leaves the plateau of mere word frequencies several times sooner.
            None takes Muon from random weights, and AdamW, with which published encoders were made, to continue.
        learning_rate: The highest rate; None takes one that suits the width.
        schedule: How the rate goes on after the warm-up: ``linear`` or ``cosine`` to zero, or ``constant``.
        weight_decay: On weight matrices.
        warmup: Share of the steps in which the rate rises.
        dropout: Overrides the size's dropout everywhere.
        gradient_checkpointing: Whether layers are computed twice to hold less in memory.
        evaluate_every: Steps between evaluations on held-out examples, or a share of all steps if below 1.
        save_minutes: Minutes between checkpoints.
        seed: All randomness follows from it.
        precision: ``"auto"``, ``"float32"`` or ``"bf16"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        parallel: How several processes train, which `torchrun` starts: ``"ddp"``, each with the whole model, or
            ``"fsdp"``, each with a part of every tensor. ``"auto"`` takes the second where a GPU has no room for more.
        on_corrupt: What is done about a shard of the corpus that is not what was prepared: ``"stop"``, or ``"skip"``
            its examples.
        text: The column that holds the text, where the source has columns.
        resume: Whether an unfinished run in `out` goes on.
        force: Whether it goes on with other settings too, as far as that does no harm.
        overwrite: Whether another run in `out` is thrown away.
        tensorboard: Whether TensorBoard's files are written too.
        callbacks: Called after each step.

    Returns:
        The model and what was measured.

    Raises:
        BothwaysError: A setting, the corpus or the folder does not do; the sentence says which and what to do.
    """
    sources = {"corpus": corpus, "base": base, "teacher": teacher}
    given = {name: value for name, value in locals().items() if name not in {*sources, "sources", "callbacks"}}
    folder = as_path(out)
    check_training(given)
    check_processes(parallel, batch_tokens, max_length)
    start = load(base, device="cpu") if isinstance(base, str | Path) else base
    if start is not None:
        check_family(family, start)
    members = start.config.family if start is not None else family or USUAL_FAMILY
    learned = picked(
        ObjectiveSettings,
        given,
        objective=objective or suited_objective(members, start),
        loss_weights=as_weights(loss_weights or {}),
        teacher_cache=None if teacher_cache is None else str(teacher_cache),
    )
    check_objectives(learned)
    check_generator(learned, keep_generator)
    size = chosen_size(size, members, start, teacher)
    master = find_teacher(teacher, learned, device)
    known = common_tokenizer(tokenizer_of(tokenizer, start), master, corpus)
    learned, shape = settled(learned, configuration(start, family, size, max_length, dropout, master), start)
    check_start(attention_start, start, shape)
    typed = given | {name: as_typed(source) for name, source in sources.items()}
    typed |= {"objective": learned.objective, "size": size, "loss_weights": as_texts(learned.loss_weights)}
    typed["family"] = shape.family if start is None else None
    prepare = partial(prepared_corpus, corpus, folder, known, vocab_size, lowercase, text, members, on_corrupt)
    data = {name: each.parts.fingerprint() for name, each in (("base", start), ("teacher", master)) if each is not None}
    ended = here().first and resume and not overwrite and finished_run(folder, "pretrain", typed)
    if before := here().first_says(ended):
        check_same(folder, before["data"], data | {"corpus": same_corpus(folder, corpus, known, prepare)})
        return Pretrained(*as_it_was(folder, before, device), folder)
    reads = (*sources.values(), tokenizer)
    may = here().first and check_out(folder, overwrite=overwrite, resume=resume, reads=reads, aside=True)
    goes_on = here().first_says(may)
    prepared = prepare()
    data["corpus"] = prepared.fingerprint
    config = with_vocabulary(shape, start, prepared.tokenizer)
    lesson = lesson_of(master, config, precision)
    plan = recipe(learned, prepared, lesson)
    train_numbers, held_numbers = divide(len(plan.examples))
    if isinstance(plan.examples, Pairs):
        plan.examples.hold_out(held_numbers)
    stream = _stream(plan, train_numbers, prepared, given)
    home = device if here().alone else "cpu"  # several processes put it where they train it when they share it out
    begins = seed, home, learned.mask_decoder, attention_start
    model = starting_model(start, config, plan.heads, prepared.tokenizer, *begins)
    generator = starting_generator(model, learned, base, dropout, attention_start) if "rtd" in learned.parts else None
    begun = begin(model, lesson, start, start_from_teacher)
    usual = "muon" if start is None and not begun else "adamw"
    settings = _settings(given, usual, config.width, plan, train_numbers)
    check_enough(plan.examples, train_numbers, batch_tokens)
    more = trained_parts(generator) | beside(plan.together.objectives, seed, model.device)
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads, **more})
    recompute_layers(trained, gradient_checkpointing)
    if _pays_to_compile(settings):
        compile_layers(trained)
    name = name_of(config, size, start)
    facts = {
        "model": name,
        "examples": len(train_numbers),
        "held_out": len(held_numbers),
        "settings": {**settings.identity(), **learned.identity(), "batch_tokens": batch_tokens},
        "config": config.to_dict(),
    }
    passes = passes_of(trained, parallel, device, apart=not reads_layers(learned))
    insight = _insight(passes.model, plan, prepared, held_numbers, batch_tokens, micro_tokens, facts)
    evaluation = Evaluation(plan.together.measured, insight.measure)
    record = partial(write_run, folder, command="pretrain", data=data, seed=seed, asked=typed)
    if here().first and not goes_on:
        record(settings=typed)
    if here().first:
        throw_away(folder)
    say(
        f"{name}: {model.parameters:,} parameters, "
        f"{learned.objective}, {len(train_numbers):,} sequences of up to {max_length} tokens{passes.told}"
    )
    history = train(
        passes.model,
        plan.together,
        stream,
        settings,
        out=folder,
        evaluate=evaluation if len(held_numbers) else None,
        observer=insight,
        callbacks=callbacks,
        title="Pre-training",
        identity={
            "corpus": prepared.fingerprint,
            "objective": learned.identity(),
            "batch_tokens": batch_tokens,
            "model": config.to_dict(),
            "base": start is not None and start.name,
            "teacher": lesson and lesson.identity,
        },
        resume=resume,
        force=force,
        passes=passes,
    )
    passes.finish()
    recompute_layers(trained, False)
    longest = max(max_length, (start.max_length or 0) if start is not None else 0)
    model.max_length = longest  # positions further on are random
    model = finished(model, generator, folder / "generator" if keep_generator and here().first else None)
    scores = {name: history.evaluations[-1][name] for name in evaluation.names} if history.evaluations else {}
    done = Pretrained(model, history, scores, folder)
    if here().first:
        _leave(done, typed, record)
    return done


def _pays_to_compile(settings: LoopSettings) -> bool:
    """Whether a run is so long that the minute in which layers are compiled comes back."""
    steps, minutes = settings.steps, settings.minutes
    return (steps is None or steps >= _LONG_STEPS) and (minutes is None or minutes >= _LONG_MINUTES)


def _stream(plan: Recipe, numbers: np.ndarray, corpus: Corpus, given: Mapping[str, Any]) -> Stream:
    """The steps of a run; what lies far is read in runs of about a shard."""
    return Stream(
        plan.examples,
        plan.finish,
        numbers=numbers,
        batch_tokens=given["batch_tokens"],
        micro_tokens=given["micro_tokens"],
        copies=given["static_masks"],
        seed=given["seed"],
        run=None if corpus.near else len(numbers) // len(corpus.index.shards),
    )


def _settings(given: Mapping[str, Any], optimizer: str, width: int, plan: Recipe, numbers: np.ndarray) -> LoopSettings:
    """How the loop trains: with what was given, else as suits the width, one pass over the examples."""
    optimizer, rate = given["optimizer"] or optimizer, given["learning_rate"]
    steps, epochs = given["steps"], given["epochs"]
    if steps is None and (given["minutes"] is None or epochs is not None):
        steps = steps_of(1.0 if epochs is None else epochs, plan.examples, numbers, given["batch_tokens"])
    return picked(
        LoopSettings,
        given,
        optimizer=optimizer,
        learning_rate=suited_rate(width, optimizer) if rate is None else rate,
        steps=steps,
    )


def _leave(done: Pretrained, typed: dict[str, Any], record: Callable[..., object]) -> None:
    """Writes what a run leaves behind, and throws its checkpoint away."""
    done.model.save(done.out / "model", overwrite=True)
    # a budget of time or epochs came to so many steps; repeating the run means to take as many
    record(
        settings=typed | {"steps": done.history.steps, "minutes": None, "epochs": None},
        results=done.scores | {"steps": done.history.steps, "seconds": done.history.seconds},
        history=done.history.figures(),
    )
    Checkpoint(done.out).discard()
    leave_report(done.out)


def _insight(
    trained: torch.nn.Module,
    plan: Recipe,
    corpus: Corpus,
    held: np.ndarray,
    batch_tokens: int,
    micro_tokens: int,
    facts: dict[str, Any],
) -> Insight:
    """What a run measures and notes about itself: on held-out examples, and a few of them at length."""
    measured = _held_items(plan, here().share(held), min(micro_tokens, batch_tokens))
    shown = _held_items(plan, few(held), micro_tokens) if here().first else []
    return Insight(cast(torch.nn.ModuleDict, trained), plan.together, measured, corpus, shown, facts)


def _held_items(plan: Recipe, numbers: np.ndarray, micro_tokens: int) -> list[Item]:
    """Held-out examples as batches, masked once and for all."""
    read = [((0, int(number)), readable(plan.examples, (0, int(number)))) for number in numbers]
    found = [(key, example) for key, example in read if example is not None]
    return split_items([key for key, _ in found], [one for _, one in found], plan.finish, micro_tokens, 1.0)


def describe(result: Pretrained) -> dict[str, Any]:
    """The figures of a run as plain data, for the command line."""
    return {"out": str(result.out), "steps": result.history.steps, "seconds": result.history.seconds, **result.scores}
