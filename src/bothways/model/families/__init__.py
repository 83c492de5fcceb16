"""The families there are. A family is one file here with a `FAMILY`; the list below is made from the files."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bothways.errors import BothwaysError, closest
from bothways.model.families.family import Family

_NOT_FAMILIES = {"checkpoints", "family", "hf", "names"}


@cache
def families() -> dict[str, Family]:
    """All families by name, oldest first."""
    files = (module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NOT_FAMILIES)
    found = [importlib.import_module(f"{__name__}.{name}").FAMILY for name in files]
    return {family.name: family for family in sorted(found, key=lambda family: (family.year, family.name))}


def family(name: str) -> Family:
    """The family of a name.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    known = families()
    if name not in known:
        listed = ", ".join(known)
        raise BothwaysError(f"the model family {name!r} is not supported; supported are {listed}{closest(name, known)}")
    return known[name]


def explanation(name: str) -> str:
    """What a family's file says about it in prose: the paper, and how it differs from BERT.

    Raises:
        BothwaysError: There is no such family.
    """
    module = importlib.import_module(f"{__name__}.{family(name).name.replace('-', '_')}")
    return (module.__doc__ or "").strip()
