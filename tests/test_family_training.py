"""Every family learns: 50 steps of pre-training and 50 of fine-tuning on real text, then a folder and back.

The text is documentation of the standard library that runs the tests; which of two packages a paragraph documents is
what a classifier learns. The vocabularies are trained on it too, of the kind that each family has.
"""

import sysconfig
from pathlib import Path

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.learn.start import suited_objective
from bothways.model.families import families, family
from bothways.text.prepare import prepare
from bothways.text.pydocs import python_documentation

SAME_MODULES = ("camembert", "xlm-roberta")
"""Families that are RoBERTa with another tokenizer."""
PACKAGES = ("asyncio", "email")
STEPS, LENGTH = 50, 16


@pytest.fixture(scope="module")
def documents():
    """Some 90,000 characters of English: the documents of each package."""
    standard = Path(sysconfig.get_path("stdlib"))
    return {name: list(python_documentation(folders=[standard / name])) for name in PACKAGES}


@pytest.fixture(scope="module")
def corpus(documents, tmp_path_factory):
    """A prepared corpus for a kind of tokenizer, made when it is first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            text = [document for package in documents.values() for document in package]
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = prepare(text, bw.train_tokenizer(text, vocab_size=600, kind=kind), folder / "corpus")
        return made[kind]

    return of


@pytest.fixture(scope="module")
def rows(documents):
    """Paragraphs and the package that they document, as many of either, in turn."""
    by_package = [
        [{"text": text, "label": name} for document in members for text in document.paragraphs if len(text) > 40]
        for name, members in documents.items()
    ]
    return [row for pair in zip(*by_package, strict=False) for row in pair]


def narrow(name, tokenizer):
    """Two layers, as narrow as in all tests, for a vocabulary; made so that it learns in so few steps.

    Weights are as large as the width asks for, and tables wide enough for the words that are told apart.
    """
    small = tiny.config(name, layers=2, init_std=0.08)
    wide = small.derive(embeddings__width=max(40, small.embeddings.width))
    return wide.for_vocabulary(tokenizer.size, tokenizer.pad_id)


def fell(losses, least):
    """Whether the mean of the last ten losses is below that of the first five, by at least so much."""
    assert len(losses) == STEPS
    return np.mean(losses[-10:]) < np.mean(losses[:5]) - least


@pytest.mark.parametrize("name", [name for name in families() if name not in SAME_MODULES])
def test_it_pre_trains_fine_tunes_and_is_the_same_after_saving(name, corpus, rows, tmp_path):
    members = family(name)
    prepared = corpus(members.tokenizer)
    settings = {"max_length": LENGTH, "steps": STEPS, "dropout": 0.0, "seed": 5}
    settings |= {"device": "cpu", "precision": "float32"}
    losses = {"pre-training": [], "fine-tuning": []}

    def watch(what):
        return [lambda event: losses[what].append(event.values["loss"])]

    pretrained = bw.pretrain(
        prepared,
        base=bw.Model.random(narrow(name, prepared.tokenizer), prepared.tokenizer),
        out=tmp_path / "pretrained",
        objective=suited_objective(members.name),
        batch_tokens=512,
        learning_rate=2e-3,
        callbacks=watch("pre-training"),
        **settings,
    )
    assert fell(losses["pre-training"], 0.5), losses
    assert pretrained.scores["loss"] < losses["pre-training"][0] - 0.5, "on examples held out too"

    train, dev = rows[:400], rows[400:520]
    finetuned = bw.finetune(
        "classify",
        base=tmp_path / "pretrained" / "model",
        train=train,
        dev=dev,
        out=tmp_path / "finetuned",
        batch_size=64,
        truncation="head",
        learning_rate=4e-3,
        metric=None,
        report=False,
        callbacks=watch("fine-tuning"),
        **settings,
    )
    assert fell(losses["fine-tuning"], 0.3), losses
    assert finetuned.scores["accuracy"] > 0.6

    texts = [row["text"] for row in dev]
    loaded = bw.load(tmp_path / "finetuned" / "model", device="cpu")
    assert loaded.labels == PACKAGES
    assert loaded.config == finetuned.model.config
    assert np.array_equal(loaded.class_probabilities(texts), finetuned.model.class_probabilities(texts))
