"""From raw text to a report in a few minutes, with nothing to download.

The corpus is the documentation of the user's own Python. Each step is one call of the library, in the order in which a
user would make them on texts of her own.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.baselines import majority, tfidf_logistic
from bothways.learn.finetune import Finetuned, finetune
from bothways.learn.metrics import classification_scores
from bothways.learn.pretrain import Pretrained, pretrain
from bothways.learn.processes import refuse_several
from bothways.learn.runs import check_out, throw_away, will_make, write_run
from bothways.learn.tasks.classify import Classify
from bothways.learn.tasks.labelled import LabelledTexts
from bothways.learn.tasks.labels import class_names, class_numbers
from bothways.paths import as_path
from bothways.progress import progress, say
from bothways.report.page import write_page
from bothways.run.machine import describe_machine
from bothways.run.model import Fill, Model
from bothways.text.documents import Document
from bothways.text.prepare import prepare
from bothways.text.pydocs import package_of, python_documentation
from bothways.text.sentences import split_sentences
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer
from bothways.text.topics import TopicTask, topic_task
from bothways.text.train import train_tokenizer
from bothways.use.quickstart_page import page_data


@dataclass(frozen=True)
class Plan:
    """How much of everything fits into the time; a pure function of the minutes, so that a run can be repeated.

    Attributes:
        size: Of the encoder.
        vocab_size: Of the tokenizer.
        max_length: The most tokens in a sequence: few, because positions are learned one by one. Longer texts are
            classified by windows.
        batch_tokens: Tokens in a step of pre-training: few, so that there are many steps.
        learning_rate: Of pre-training.
        mask_rate: More than BERT's 15 %, which brings small encoders sooner past the mere frequency of words (Wettig et
            al. 2023, "Should You Mask 15% in Masked Language Modeling?").
        rows: Labelled examples of each class over all splits; None for as many as there are good for.
        epochs: Passes of fine-tuning.
        reserve: Share of the time kept for what follows pre-training.
        modules: The most that are read of a package; None for all.
    """

    size: str = "tiny"
    vocab_size: int = 8000
    max_length: int = 32
    batch_tokens: int = 1024
    learning_rate: float = 1.2e-3
    mask_rate: float = 0.3
    rows: int | None = None
    epochs: int = 3
    reserve: float = 0.25
    modules: int | None = None

    @classmethod
    def for_minutes(cls, minutes: float) -> Plan:
        """The plan for a whole run of so many minutes on two cores."""
        return cls(rows=250, modules=80) if minutes < 3 else cls()


@dataclass
class Quickstart:
    """What came of it.

    Attributes:
        out: The folder: ``tokenizer``, ``corpus``, ``pretrained``, ``classifier``, ``report.html``, ``run.json``.
        report: The page that explains the run.
        steps: Steps of pre-training; given as ``--steps`` with the same seed and minutes, they repeat the numbers.
        seconds: For everything.
        filled: Sentences with a masked word and what the model puts there.
        comparison: Scores of the classifiers on the test set, baselines first.
        timings: Seconds of each step of the run, in order.
    """

    out: Path
    report: Path
    steps: int = 0
    seconds: float = 0.0
    filled: list[dict[str, Any]] = field(default_factory=list)
    comparison: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


def quickstart(
    *,
    minutes: float = 4.0,
    steps: int | None = None,
    out: str | Path = "quickstart",
    seed: int = 0,
    overwrite: bool = False,
) -> Quickstart:
    """Makes a BERT from the documentation of this Python and teaches it a job.

    Args:
        minutes: For the whole run, about, on two cores.
        steps: Steps of pre-training instead of as many as fit; with the same seed, minutes and Python they repeat the
            same numbers.
        out: A new or empty folder.
        seed: All randomness follows from it.
        overwrite: Whether an earlier run in `out` is thrown away.

    Raises:
        BothwaysError: A setting or the folder does not do, or this Python has too little documentation.
    """
    if not minutes > 0:
        raise BothwaysError(f"minutes must be above 0, not {minutes}")
    refuse_several("The quickstart")
    began = time.monotonic()
    folder = as_path(out)
    check_out(folder, overwrite=overwrite, resume=False)
    will_make(folder, "tokenizer", "corpus")
    plan = Plan.for_minutes(minutes)
    result = Quickstart(folder, folder / "report.html")
    timed = _Timer(result.timings)

    with timed("Reading documentation"):
        documents = _documentation(plan.modules)
        task = topic_task(documents, seed=seed, per_class=plan.rows)
        corpus_documents = [document for document in documents if document.name not in task.held_out]
    with timed("Training vocabulary"):
        tokenizer = train_tokenizer(corpus_documents, vocab_size=plan.vocab_size, out=folder / "tokenizer")
    with timed("Preparing corpus"):
        corpus = prepare(corpus_documents, tokenizer, folder / "corpus")
    left = 60 * minutes * (1 - plan.reserve) - (time.monotonic() - began)
    with timed("Pre-training"):
        left = max(left, 60 * minutes * 0.2)
        pretrained = _pretrain(corpus, plan, folder / "pretrained", steps, left, seed, overwrite)
    result.steps = pretrained.history.steps
    with timed("Filling in words"):
        result.filled = fill_held_out(pretrained.model, task, seed)
    with timed("Fine-tuning"):
        tuned = _finetune(pretrained.model, task, plan, folder / "classifier", seed, overwrite)
    with timed("The same without pre-training"):
        scratch = _finetune(untrained(pretrained.model), task, plan, None, seed)
    with timed("Baselines"):
        result.comparison, confusion = _compare(task, tuned, scratch, result.timings)
    result.seconds = time.monotonic() - began
    data = page_data(
        result,
        size=plan.size,
        documents=corpus_documents,
        corpus=corpus,
        task=task,
        pretrained=pretrained,
        tuned=tuned,
        confusion=confusion,
        machine=describe_machine(),
        made=datetime.now().astimezone(),
    )
    write_page(result.report, data)
    write_run(
        folder,
        command="quickstart",
        settings={"minutes": minutes, "steps": result.steps, "seed": seed},
        data={"corpus": corpus.fingerprint, "python": platform.python_version()},
        seed=seed,
        results={"comparison": result.comparison, **pretrained.scores, "seconds": result.seconds},
    )
    throw_away(folder)
    return result


class _Timer:
    """Remembers how long each named step took."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


def _documentation(per_package: int | None) -> list[Document]:
    documents = []
    with progress("Reading documentation", unit="modules") as job:
        for document in python_documentation(per_package=per_package):
            documents.append(document)
            job.advance(note=package_of(document))
        paragraphs = sum(len(document.paragraphs) for document in documents)
        job.update(f"{paragraphs:,} paragraphs")
    return documents


def _pretrain(
    corpus: Corpus, plan: Plan, out: Path, steps: int | None, seconds: float, seed: int, overwrite: bool
) -> Pretrained:
    return pretrain(
        corpus,
        out=out,
        size=plan.size,
        objective="mlm+nsp",
        steps=steps,
        minutes=None if steps is not None else seconds / 60,
        max_length=plan.max_length,
        batch_tokens=plan.batch_tokens,
        optimizer="adamw",  # for matrices as small as these Muon costs more than it saves
        learning_rate=plan.learning_rate,
        mask_rate=plan.mask_rate,
        dropout=0.0,  # minutes are too short to learn anything by heart
        seed=seed,
        overwrite=overwrite,
    )


def untrained(model: Model) -> Model:
    """The same encoder with random weights: what fine-tuning alone can do."""
    return Model.random(model.config, model.tokenizer)


def labelled(rows: Sequence[dict[str, str]], name: str) -> LabelledTexts:
    """Rows of the task as labelled texts."""
    return LabelledTexts([row["text"] for row in rows], None, [row["label"] for row in rows], name)


def _finetune(
    base: Model, task: TopicTask, plan: Plan, out: Path | None, seed: int, overwrite: bool = False
) -> Finetuned:
    return finetune(
        "classify",
        base=base,
        train=task.train,
        dev=task.dev,
        out=out,
        epochs=plan.epochs,
        max_length=plan.max_length,
        truncation="window",
        learning_rate=1e-3,  # the encoder is tiny
        dropout=0.1,  # several passes over little text
        report=False,  # the quickstart has a page of its own
        reads="mean",  # minutes of pre-training teach tokens more than the first one
        seed=seed,
        overwrite=overwrite,
    )


def _compare(
    task: TopicTask, tuned: Finetuned, scratch: Finetuned, timings: dict[str, float]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Scores of everything on the test set, and the confusion of the pre-trained model."""
    train, test = labelled(task.train, "the training set"), labelled(task.test, "the test set")
    names = class_names(train)
    truth, learned = class_numbers(test, names), class_numbers(train, names)
    rows = []

    def add(name: str, role: str, scores: dict[str, Any], seconds: float) -> None:
        overall = {key: scores[key] for key in ("accuracy", "macro_f1", "mcc")}
        rows.append({"name": name, "role": role, **overall, "seconds": seconds})

    add(
        "Always the most frequent class",
        "baseline",
        classification_scores(truth, majority(learned, len(test)), names),
        0.0,
    )
    began = time.monotonic()
    guessed = tfidf_logistic(train.texts, learned, test.texts)
    add(
        "TF-IDF + logistic regression",
        "baseline",
        classification_scores(truth, guessed, names),
        time.monotonic() - began,
    )
    plain = Classify().examine(scratch.model, test).scores
    add("BERT without pre-training", "scratch", plain, timings["The same without pre-training"])
    scores = Classify().examine(tuned.model, test).scores
    add("BERT, pre-trained here", "pretrained", scores, timings["Fine-tuning"])
    return rows, {"labels": list(names), "counts": scores["confusion"]}


def fill_held_out(model: Model, task: TopicTask, seed: int, count: int = 8) -> list[dict[str, Any]]:
    """Sentences that were not trained on, each with one ordinary word masked, and what the model puts there."""
    mask = model.tokenizer.tokens[model.tokenizer.mask_id]
    draw = generator("fill", seed)
    texts: list[str] = []
    answers: list[str] = []
    for row in task.test:
        for sentence in split_sentences(row["text"]):
            words = sentence.split()
            places = [place for place, word in enumerate(words) if _ordinary(word, model.tokenizer)]
            if 7 <= len(words) <= 16 and places and sentence.endswith(".") and len(texts) < count:
                place = int(draw.choice(places))
                answers.append(words[place])
                texts.append(" ".join([*words[:place], mask, *words[place + 1 :]]))
                break
    filled: list[dict[str, Any]] = []
    for text, answer, fills in zip(texts, answers, cast(list[list[Fill]], model.fill_mask(texts)), strict=True):
        guesses = [{"word": fill.token, "probability": fill.probability} for fill in fills]
        filled.append({"text": text, "answer": answer, "words": guesses})
        best = ", ".join(f"{fill.token} {fill.probability:.0%}" for fill in fills[:3])
        say(f"{text.replace(mask, '____')}  ({answer}): {best}")
    return filled


def _ordinary(word: str, tokenizer: Tokenizer) -> bool:
    """Whether a word can be masked as one token."""
    return word.isalpha() and len(word) >= 3 and word.lower() in tokenizer.vocabulary
