"""The documentation of the user's own Python as a corpus: English that every machine with Python has.

Modules are read as source and never imported, so nothing of them runs. Only those modules of the standard library that
are written in C have no source; a list of such as do nothing when imported is imported for its documentation.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bothways.text.documents import Document
from bothways.text.prose import paragraphs

PYTHON = "python"  # the package that all of the standard library counts as

_LEFT_OUT = re.compile(
    r"_*tests?|testing|_testing|conftest|_*vendor(ed)?|extern|externals|third_party|docs?|examples?|benchmarks?|scripts?"
    r"|idlelib|turtledemo|lib2to3|ensurepip|site-packages|dist-packages|this|antigravity|.*_pb2(_grpc)?|bothways"
)
# Group 1 is a triple-quoted string; comments and other strings are matched so that quotes in them mislead nobody.
_STRING = re.compile(
    r"""#[^\n]*|(\"{3}[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"{3}|'{3}[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'{3})"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
_PREFIXES = ("", "r", "R", "u")
_LARGEST = 4_000_000  # bytes; larger files are tables
_DEEPEST = 12  # folders, so that links that lead back end somewhere
_IN_C = """
_asyncio _bisect _bz2 _csv _ctypes _curses _datetime _decimal _elementtree _hashlib _heapq _json _lsprof _lzma
_multiprocessing _pickle _queue _random _socket _sqlite3 _ssl _struct _zoneinfo array binascii cmath fcntl grp math
mmap pyexpat resource select syslog termios unicodedata zlib
"""  # harmless to import, beside those built into the interpreter


def python_documentation(
    *,
    limit_seconds: float | None = None,
    per_package: int | None = None,
    folders: Sequence[str | Path] | None = None,
) -> Iterator[Document]:
    """The docstrings of the standard library and of installed packages, as English paragraphs.

    Args:
        limit_seconds: Stops after so many seconds.
        per_package: The most modules of a package, spread evenly over their names; all when not given.
        folders: Folders of packages to read instead of this Python's standard library and installed packages.

    Yields:
        A document for each module that has prose, in the order of names: `name` is the dotted name of the module,
        `paragraphs` those of its own, its classes' and its functions' docstrings in the order of the source, without
        code and markup. A paragraph that an earlier module had is left out, and so are tests, copies that packages
        keep of other packages, and Bothways.
    """
    began = time.monotonic()
    seen: set[str] = set()
    modules = sorted(python_modules(folders).items())
    for name, path in modules if per_package is None else _spread(modules, per_package):
        if limit_seconds is not None and time.monotonic() - began > limit_seconds:
            return
        docstrings = _docstrings(path) if path else _docstrings_of_import(name)
        kept = []
        for text in (text for docstring in docstrings for text in paragraphs(docstring)):
            if text not in seen:
                seen.add(text)
                kept.append(text)
        if kept:
            yield Document(kept, name)


def package_of(document: Document) -> str:
    """The package that a module belongs to; ``"python"`` for the standard library."""
    return _package(document.name)


def _package(module: str) -> str:
    top = module.split(".")[0]
    return PYTHON if top in sys.stdlib_module_names else top


def _spread(modules: list[tuple[str, Path | None]], per_package: int) -> list[tuple[str, Path | None]]:
    """So many of each package, in the order that they have."""
    count = Counter(_package(name) for name, _ in modules)
    met: Counter[str] = Counter()
    kept = []
    for module in modules:
        package = _package(module[0])
        most, before = min(per_package, count[package]), met[package]
        met[package] += 1
        if met[package] * most // count[package] > before * most // count[package]:
            kept.append(module)
    return kept


def python_modules(folders: Sequence[str | Path] | None) -> dict[str, Path | None]:
    """All modules by dotted name, with their files; None for those in C.

    Args:
        folders: Folders of packages instead of this Python's standard library and installed packages.
    """
    found: dict[str, Path | None] = {}
    if folders is None:
        paths = sysconfig.get_paths()
        folders = list(dict.fromkeys(paths[key] for key in ("stdlib", "purelib", "platlib")))
        found.update(dict.fromkeys([*sys.builtin_module_names, *_IN_C.split()]))
    for folder in folders:
        for name, path in _walk(Path(folder), ""):
            if found.get(name) is None:
                found[name] = path
    return found


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        stem = entry.name.removesuffix(".py")
        if not stem.isidentifier() or _LEFT_OUT.fullmatch(stem):
            continue
        if entry.is_dir() and prefix.count(".") < _DEEPEST:
            yield from _walk(folder / entry.name, f"{prefix}{stem}.")
        elif stem != entry.name:
            yield prefix.removesuffix(".") if stem == "__init__" else prefix + stem, folder / entry.name


def _docstrings(path: Path) -> Iterator[str]:
    """The triple-quoted strings of a source file that begin a line: docstrings, and documentation attached by calls.

    Scanning for strings is ten times as fast as parsing, and takes source for any version of Python.
    """
    try:
        source = source_of(path)
    except OSError:
        return
    for match in _STRING.finditer(source):
        if match[1] and source[source.rfind("\n", 0, match.start()) + 1 : match.start()].strip() in _PREFIXES:
            yield match[1][3:-3].replace("\\\n", "")


def source_of(path: Path) -> str:
    """The source of a module; of one that is larger than people write, nothing."""
    return "" if path.stat().st_size > _LARGEST else path.read_text(encoding="utf-8", errors="replace")


def _docstrings_of_import(name: str) -> Iterator[str]:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return
    for member in [module, *_members(module)]:
        yield own_docstring(member)
        if inspect.isclass(member):
            yield from map(own_docstring, _members(member))


def _members(owner: object) -> list[object]:
    return [member for _, member in sorted(vars(owner).items(), key=lambda item: item[0])]


def own_docstring(member: object) -> str:
    """The docstring of a module, class, function or attribute that is described by one; else an empty text."""
    described = inspect.isclass(member) or inspect.isroutine(member) or inspect.isdatadescriptor(member)
    docstring = member.__doc__ if described or inspect.ismodule(member) else None
    return docstring if isinstance(docstring, str) else ""
