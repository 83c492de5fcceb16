"""The documentation of the user's own Python as documents to search: what every machine with Python has."""

from __future__ import annotations

from collections.abc import Iterator

from bothways.text.pymembers import python_members
from bothways.use.search.documents import Entry


def python_entries() -> Iterator[Entry]:
    """A document for every function, class and module of the standard library that is documented."""
    for member in python_members():
        metadata = {"kind": member.kind, "module": member.module, "signature": member.signature}
        known = {name: value for name, value in metadata.items() if value}
        yield Entry(member.name, member.docstring, member.name, known, member.name)
