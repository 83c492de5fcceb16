"""A labelled task from documentation: which package does this paragraph describe?

The names that would give the answer away are taken out of the text, and all paragraphs of a module are in the same
split, so that what a classifier learns is what packages are about.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.text.documents import Document
from bothways.text.pydocs import PYTHON, package_of

Row = dict[str, str]

SHARES = {"train": 6, "dev": 1, "test": 2}
_ALL_ROWS = 4_500  # over all classes and splits, when `per_class` is not given
_FEWEST_CLASSES, _FEWEST_MODULES, _FEWEST_ROWS = 3, 6, 18  # of a class worth having
_ALIASES = frozenset(
    ["np", "pd", "plt", "mpl", "tf", "nx", "pl", "pa", "jnp", "py", "pytorch", "pyplot", "scikit", "pillow", "hf"]
)
_DOTTED = re.compile(r"\b[^\W\d]\w+(?:\.\w+)+|\b[^\W\d]\w*(?:\.\w\w+)+|\bscikit-learn\b", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_HUMPS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class TopicTask(NamedTuple):
    """A labelled task. A row has the keys ``"text"`` and ``"label"``; `held_out` names the modules of dev and test."""

    train: list[Row]
    dev: list[Row]
    test: list[Row]
    labels: list[str]
    held_out: frozenset[str]


def topic_task(
    documents: Iterable[Document],
    *,
    seed: int = 0,
    classes: int = 8,
    per_class: int | None = None,
    min_words: int = 12,
) -> TopicTask:
    """Makes the task from the documentation of modules, in a way that only `seed` decides.

    The classes are the packages with the most paragraphs, the standard library being one, named ``"python"``. They have
    equally many rows. Where fewer than three packages have enough, the packages of the standard library are the
    classes, by their own names.

    Args:
        documents: Modules with their paragraphs, as `python_documentation` yields them.
        seed: Decides which modules go to which split and which paragraphs are taken.
        classes: The most classes.
        per_class: The most rows of a class, over all splits (train : dev : test = 6 : 1 : 2); when not given, 4,500
            rows over all classes.
        min_words: The fewest words of a paragraph once names are taken out.

    Raises:
        BothwaysError: There are not three classes of six modules with prose.
    """
    modules = list(documents)
    for group in (package_of, _own_name):
        chosen = _choose_classes(modules, group, classes, per_class, min_words)
        if chosen:
            return _split(chosen, seed)
    raise BothwaysError(
        f"the documentation has no {_FEWEST_CLASSES} packages of {_FEWEST_MODULES} modules to tell apart; "
        f"install more packages, or fine-tune on labelled texts of your own"
    )


class _Class(NamedTuple):
    label: str
    modules: list[Document]  # with their paragraphs, names taken out
    rows: int  # how many to take


def _own_name(document: Document) -> str:
    return document.name.split(".")[0] if package_of(document) == PYTHON else ""


def _choose_classes(
    modules: Sequence[Document], group: Callable[[Document], str], most: int, per_class: int | None, min_words: int
) -> list[_Class]:
    """The most classes that make about the largest balanced task there is; none when there are too few."""
    members: dict[str, list[Document]] = defaultdict(list)
    for module in modules:
        members[group(module)].append(module)
    members.pop("", None)
    sizes = {label: sum(len(module.paragraphs) for module in found) for label, found in members.items()}
    worth = [label for label, found in members.items() if len(found) >= _FEWEST_MODULES]
    labels = sorted(worth, key=lambda label: (-sizes[label], label))[:most]
    cleaned = _without_names({label: members[label] for label in labels}, min_words)
    usable = {
        label: sum(len(module.paragraphs) for module in found)
        for label, found in cleaned.items()
        if len(found) >= _FEWEST_MODULES
    }
    labels = sorted(usable, key=lambda label: (-usable[label], label))
    rows = {n: min(usable[labels[n - 1]], per_class or _ALL_ROWS // n) for n in range(_FEWEST_CLASSES, len(labels) + 1)}
    largest = max((n * rows[n] for n in rows), default=0)
    count = max((n for n in rows if rows[n] >= _FEWEST_ROWS and n * rows[n] >= 0.8 * largest), default=0)
    return [_Class(label, cleaned[label], rows[count]) for label in sorted(labels[:count])]


# Names


def _without_names(members: dict[str, list[Document]], min_words: int) -> dict[str, list[Document]]:
    """For each class its modules' paragraphs with the telling names taken out; a paragraph only where it is first."""
    telling = _telling_words(members)
    stems = [label.lower() for label in members if len(label) >= 5]
    seen: set[str] = set()
    cleaned: dict[str, list[Document]] = {}
    for label, modules in members.items():
        kept = []
        for module in modules:
            texts = []
            for text in (_take_out(paragraph, telling, stems) for paragraph in module.paragraphs):
                if len(text.split()) >= min_words and text not in seen:
                    seen.add(text)
                    texts.append(text)
            if texts:
                kept.append(Document(texts, module.name))
        cleaned[label] = kept
    return cleaned


def _telling_words(members: dict[str, list[Document]]) -> frozenset[str]:
    """Package names, aliases, and parts of module names; not those that a third of the other classes use as words."""
    used: dict[str, Counter[str]] = {}
    for label, modules in members.items():
        words = (word for module in modules for text in module.paragraphs for word in _WORD.findall(text.lower()))
        used[label] = Counter(words)
    telling = set(_ALIASES) | {PYTHON}
    for label, modules in members.items():
        others = [words for other, words in used.items() if other != label]
        parts = {part.strip("_").lower() for module in modules for part in module.name.split(".")[1:]}
        telling |= {part for part in parts if 3 * sum(words[part] > 1 for words in others) < len(others)}
        telling |= {module.name.split(".")[0].strip("_").lower() for module in modules} if label != PYTHON else set()
        telling.add(label.lower())
    return frozenset(telling)


def _take_out(text: str, telling: frozenset[str], stems: list[str]) -> str:
    def keep(match: re.Match[str]) -> str:
        word = match[0]
        low = word.lower().strip("_")
        tells = (
            low in telling
            or any(stem in low for stem in stems)
            or (low != word and any(part.lower() in telling for part in _HUMPS.findall(word)))
        )
        return "" if tells else word

    text = _WORD.sub(keep, _DOTTED.sub("", text))
    text = re.sub(r"\s*([(\[\"'])\s*['’s]*\s*([)\]\"'])", "", text)  # brackets and quotes left empty
    text = re.sub(r"(^|\s)['’]s\b|(?<=\s)[-/](?=\s)", r"\1", text)
    return re.sub(r"\s+([,.;:!?)])(?!\w)", r"\1", re.sub(r"\s+", " ", text)).strip()


# Splits


def _split(chosen: list[_Class], seed: int) -> TopicTask:
    dealt: list[dict[str, list[Document]]] = []
    for number, made in enumerate(chosen):
        order = generator("topic", seed, number).permutation(len(made.modules))
        dealt.append(_deal([made.modules[place] for place in order]))
    splits: dict[str, list[Row]] = {}
    for number, (name, share) in enumerate(SHARES.items()):
        texts = [_round_robin(of_class[name]) for of_class in dealt]
        wanted = min(chosen[0].rows * share // sum(SHARES.values()), *map(len, texts))
        rows = [
            {"text": text, "label": made.label} for made, of in zip(chosen, texts, strict=True) for text in of[:wanted]
        ]
        splits[name] = [rows[place] for place in generator("topic rows", seed, number).permutation(len(rows))]
    held_out = frozenset(module.name for of in dealt for name in ("dev", "test") for module in of[name])
    return TopicTask(splits["train"], splits["dev"], splits["test"], [made.label for made in chosen], held_out)


def _deal(modules: list[Document]) -> dict[str, list[Document]]:
    """Deals modules out to the splits, each to the one that is furthest behind its share."""
    dealt: dict[str, list[Document]] = {name: [] for name in SHARES}
    filled = dict.fromkeys(SHARES, 0)
    for module in modules:
        name = min(SHARES, key=lambda split: filled[split] / SHARES[split])
        dealt[name].append(module)
        filled[name] += len(module.paragraphs)
    return dealt


def _round_robin(modules: list[Document]) -> list[str]:
    """The first paragraph of each module, then the second of each, and so on, so that many modules are heard."""
    texts = [module.paragraphs for module in modules]
    longest = max(map(len, texts), default=0)
    return [own[place] for place in range(longest) for own in texts if place < len(own)]
