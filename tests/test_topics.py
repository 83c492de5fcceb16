"""The labelled task from documentation: no name gives the answer away, no module is on two sides."""

import re
import sysconfig
from collections import Counter

import numpy as np
import pytest

from bothways.errors import BothwaysError
from bothways.text.documents import Document
from bothways.text.pydocs import python_documentation
from bothways.text.topics import SHARES, topic_task

COMMON = ["the", "value", "of", "this", "is", "given", "by", "what", "it", "was", "before", "and", "after", "each"]
PACKAGES = {
    "lumina": ["light", "lamp", "bulb", "glass", "shine", "bright", "room", "switch"],
    "aquatics": ["water", "river", "lake", "rain", "drop", "wet", "swim", "boat"],
    "fe": ["iron", "steel", "rust", "metal", "forge", "anvil", "hammer", "weld"],
}


def paragraph(chance, words, package, part):
    text = [*chance.choice(COMMON, 9), *chance.choice(words, 5)]
    chance.shuffle(text)
    names = [
        package,
        package.upper(),
        f"Py{package.title()}",
        f"{package}.{part}.run",
        f"{part}s",
        "np",
        "scikit-learn",
    ]
    for name in names:
        text.insert(int(chance.integers(len(text))), name)
    return " ".join(["When", *text]) + "."


@pytest.fixture(scope="module")
def documents():
    chance = np.random.default_rng(0)
    made = []
    for package, words in PACKAGES.items():
        for number in range(12):
            part = f"zz{package}part{number}"
            texts = [paragraph(chance, words, package, part) for _ in range(int(chance.integers(5, 15)))]
            made.append(
                Document(
                    [*texts, texts[0], f"{part} light water iron is one of the parts of {package}"], f"{package}.{part}"
                )
            )
    return made


def all_rows(task):
    return [*task.train, *task.dev, *task.test]


def test_classes_are_packages_in_equal_numbers(documents):
    task = topic_task(documents)
    assert task.labels == sorted(PACKAGES)
    for rows, share in zip((task.train, task.dev, task.test), SHARES.values(), strict=True):
        counts = Counter(row["label"] for row in rows)
        assert len(set(counts.values())) == 1
        assert len(rows) == pytest.approx(len(all_rows(task)) * share / sum(SHARES.values()), rel=0.25)


def test_names_are_taken_out(documents):
    rows = all_rows(topic_task(documents))
    text = " ".join(row["text"] for row in rows).lower()
    assert not re.search(r"lumina|aquatics|\bfe\b|pyfe|zz\w+part\d+\b|\bnp\b|scikit", text)
    assert "light" in text  # a word of a subject is no name
    assert all(len(row["text"].split()) >= 12 for row in rows)


def test_a_module_is_on_one_side_only(documents):
    """Each module says something that only it says; two splits never hold words of the same module."""
    marked = [
        Document([f"{text} m{number}m" for text in document.paragraphs], document.name)
        for number, document in enumerate(documents)
    ]
    task = topic_task(marked)
    sides = [{re.search(r"m\d+m", row["text"])[0] for row in rows} for rows in (task.train, task.dev, task.test)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_no_text_stands_twice(documents):
    texts = [row["text"] for row in all_rows(topic_task(documents))]
    assert len(texts) == len(set(texts))


def test_only_the_seed_decides(documents):
    assert topic_task(documents, seed=1) == topic_task(iter(documents), seed=1)
    assert topic_task(documents, seed=1) != topic_task(documents, seed=2)


def test_per_class_caps_the_rows(documents):
    task = topic_task(documents, per_class=27)
    assert Counter(row["label"] for row in task.test) == dict.fromkeys(PACKAGES, 6)
    assert Counter(row["label"] for row in task.train) == dict.fromkeys(PACKAGES, 18)


def test_the_standard_library_alone_is_enough():
    task = topic_task(python_documentation(folders=[sysconfig.get_paths()["stdlib"]]))
    assert len(task.labels) >= 3
    assert {"asyncio", "email"} <= set(task.labels)
    assert len(task.train) >= 250
    for row in all_rows(task):
        words = set(re.findall(r"\w+", row["text"].lower()))
        assert not words & set(task.labels)


def test_too_few_packages_are_refused(documents):
    with pytest.raises(BothwaysError, match="no 3 packages"):
        topic_task([document for document in documents if not document.name.startswith("fe")])
