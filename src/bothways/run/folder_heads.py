"""The heads of a model folder: which ones it holds, what they are, and how its ``config.json`` says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.model.config import HeadConfig
from bothways.model.families.family import Family, FamilyHead
from bothways.model.families.hf import HF_POOLINGS, HF_PROBLEMS, POOLINGS, PROBLEMS, Reader
from bothways.model.families.names import NameTable
from bothways.run import cross_encoder_folder
from bothways.run.folder_files import OWN_FILE, own_file, read_config
from bothways.run.weights import Tensors, same

if TYPE_CHECKING:
    from bothways.run.folder import Saved


def kinds_of(folder: Path, members: Family, published: Tensors) -> list[str]:
    """The heads whose published names a checkpoint holds.

    Several kinds of heads may bear the same names: ``classifier`` classifies sequences, tokens or choices. The class in
    ``config.json`` says which; a checkpoint that names no class has the first kind that fits, and a head under such
    names in a class that is not known is left alone. So is one that guesses words by a token table of its own.
    """
    config = read_config(folder)
    classes = config.get("architectures") or []
    stated = frozenset().union(*(members.kinds_of(name) or () for name in classes))
    shared = Counter(theirs for head in members.heads.values() for theirs in head.names)
    found: list[str] = []
    for kind, head in members.heads.items():
        alone = all(shared[theirs] == 1 for theirs in head.names)
        taken = {theirs for other in found for theirs in members.heads[other].names}
        fits = any(theirs in published for theirs in head.names) and not taken & head.names.keys()
        if kind in stated or (fits and (alone or not classes)):
            found.append(kind)
    if config.get("tie_word_embeddings") is False and _has_two_tables(members.table([]), published):
        found = [kind for kind in found if kind != "mlm"]
    return found


def _has_two_tables(names: NameTable, published: Tensors) -> bool:
    for repeated, table in names.tied.items():
        own, tables = published.get(repeated), [published.get(name) for name in (table, names.prefix + table)]
        if own is not None and not any(one is not None and same(own, one) for one in tables):
            return True
    return False


def heads_of(folder: Path, tensors: Tensors, members: Family) -> dict[str, HeadConfig]:
    """The heads whose tensors a folder holds: as our own file says, else as the published names tell."""
    listed = own_file(folder).get("heads")
    if listed is not None:
        made = [HeadConfig.from_dict(head, str(folder / OWN_FILE)) for head in listed]
        return {head.kind: head for head in made}
    published = read_config(folder)
    found: dict[str, HeadConfig] = {}
    for kind in members.heads:
        if not any(name.startswith(f"{kind}.") for name in tensors):
            continue
        head = members.head(kind)
        if kind in ("classify", "tag"):
            classes = len(tensors[f"{kind}.output.weight"])
            problem = _problem(published, classes, folder) if kind == "classify" else "one"
            head = head.derive(labels=_labels(published, classes, folder), problem=problem)
        if _drops(members, kind):
            stated = (published.get(key) for key in members.heads[kind].dropout)
            head = head.derive(dropout=next((value for value in stated if value is not None), head.dropout))
        if key := members.heads[kind].reads:
            head = head.derive(reads=Reader(published).one_of(key, POOLINGS, "cls"))
        found[kind] = head
    return found


def _drops(members: Family, kind: str) -> bool:
    """Whether a head has dropout as published."""
    return kind in ("sop", "classify", "tag", "answer", "choose") and members.heads[kind].dropout != ()


def _problem(published: dict[str, Any], classes: int, folder: Path) -> str:
    """What a classifier's numbers mean; where nobody says, a single number is a score, as `transformers` has it."""
    stated = published.get("problem_type") or HF_PROBLEMS["scores" if classes == 1 else "one"]
    if stated not in PROBLEMS:
        known = ", ".join(PROBLEMS)
        raise BothwaysError(f"{folder / 'config.json'} says problem_type = {stated!r}; there are {known}")
    return PROBLEMS[stated]


def _labels(published: dict[str, Any], classes: int, folder: Path) -> tuple[str, ...]:
    names = published.get("id2label") or {}
    if all(name == f"LABEL_{place}" for place, name in names.items()):  # nobody named them, nor always counted them
        names = {str(place): f"LABEL_{place}" for place in range(classes)}
    if names.keys() != {str(place) for place in range(classes)}:
        raise BothwaysError(
            f"{folder / 'config.json'} names the labels {', '.join(names)}, but the classifier has {classes} classes, "
            "numbered from 0"
        )
    return tuple(str(names[str(place)]) for place in range(classes))


def said_of_heads(saved: Saved, members: Family, shared: list[str]) -> dict[str, Any]:
    """What ``config.json`` says about heads: their labels, and dropout and pooling where they have their own."""
    said: dict[str, Any] = {}
    labelled = [head for kind, head in saved.head_configs.items() if head.labels and kind in shared]
    if not labelled and not {"answer", "sop"} & set(shared):  # there the number of labels is these heads' size too
        labelled = [head for head in saved.head_configs.values() if head.labels]
    for head in labelled:
        said["id2label"] = {str(place): label for place, label in enumerate(head.labels)}
        said["label2id"] = {label: place for place, label in enumerate(head.labels)}
    if "classify" in shared:
        said |= cross_encoder_folder.said(saved.head_configs, saved.decoding)
    for kind in shared:
        if kind == "classify":
            said["problem_type"] = HF_PROBLEMS[saved.head_configs[kind].problem]
        if _drops(members, kind):
            said[members.heads[kind].dropout[0]] = saved.head_configs[kind].dropout
        if key := members.heads[kind].reads:
            said[key] = HF_POOLINGS[saved.head_configs[kind].reads]
    return said


def published_heads(saved: Saved, members: Family) -> list[str]:
    """The largest set of heads that one published class has; ties go to the earlier one in the family's table."""
    plain = {
        kind
        for kind, head in saved.head_configs.items()
        if kind in members.heads and _is_plain(head, members.heads[kind])
    }
    possible: list[frozenset[str]] = [
        heads for heads in members.architectures if heads <= plain and _fits(heads, saved, members)
    ]
    largest = max(possible, key=len)
    return sorted(largest, key=list(saved.heads).index)


def _is_plain(head: HeadConfig, known: FamilyHead) -> bool:
    """Whether the published class has such a head."""
    if known.reads and head.reads in HF_POOLINGS:  # either can be said
        head = head.derive(reads=known.config.reads)
    return head.shape() == known.config.shape()


def _fits(heads: frozenset[str], saved: Saved, members: Family) -> bool:
    names = (f"{kind}.{name}" for kind in heads for name in saved.heads[kind].state_dict())
    return members.table(heads).holds(names)
