"""The functions and classes of the user's own Python with their docstrings: one thing to find each.

Modules are read as source and never imported, but for those in C, as in `pydocs`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bothways.text.pydocs import own_docstring, python_modules, source_of

_HIDDEN_MODULE = "builtins"
_LONGEST_SIGNATURE = 200


@dataclass(frozen=True)
class Member:
    """Something documented.

    Attributes:
        name: As it is written in code: "linecache.getline", "str.split".
        kind: "module", "class" or "function".
        module: The module it is found in.
        signature: "(filename, lineno, module_globals=None)"; empty where there is none or nobody knows it.
        docstring: As it reads, without its indentation.
    """

    name: str
    kind: str
    module: str
    signature: str
    docstring: str


def python_members(folders: Sequence[str | Path] | None = None) -> Iterator[Member]:
    """Everything documented in the standard library of this Python that is not private.

    Args:
        folders: Folders of packages to read instead.

    Yields:
        Members in the order of their modules' names, each name once.
    """
    seen: set[str] = set()
    for module, path in sorted(_public(folders).items()):
        for member in _of_source(module, path) if path else _of_import(module):
            if member.name not in seen and member.docstring:
                seen.add(member.name)
                yield member


def _public(folders: Sequence[str | Path] | None) -> dict[str, Path | None]:
    library = Path(sysconfig.get_paths()["stdlib"])
    found = python_modules(folders)
    if folders is not None:
        return {name: path for name, path in found.items() if path and not _private(name)}
    return {
        name: path
        for name, path in found.items()
        if (path is None or (library in path.parents and not _private(name)))
        and not (path and {"site-packages", "dist-packages"} & set(path.parts))
    }


def _private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def _of_source(module: str, path: Path) -> Iterator[Member]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what other people's source is told by the compiler
            tree = ast.parse(source_of(path))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    yield Member(module, "module", module, "", ast.get_docstring(tree) or "")
    yield from _inside(tree, module, module)


def _inside(owner: ast.AST, name: str, module: str) -> Iterator[Member]:
    for node in ast.iter_child_nodes(owner):
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _inside(node, name, module)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            known = f"{name}.{node.name}"
            text = ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                yield Member(known, "class", module, "", text)
                yield from _inside(node, known, module)
            else:
                yield Member(known, "function", module, _short(f"({ast.unparse(node.args)})"), text)


def _of_import(module: str) -> Iterator[Member]:
    try:
        imported = importlib.import_module(module)
    except ImportError:
        return
    public = module.lstrip("_")
    shown = public if public in sys.stdlib_module_names or public == _HIDDEN_MODULE else module
    if not _private(shown):
        yield from _in_c(imported, "" if shown == _HIDDEN_MODULE else f"{shown}.", shown)


def _in_c(owner: object, prefix: str, module: str) -> Iterator[Member]:
    for own_name, value in sorted(vars(owner).items()):
        name = own_name
        if name.startswith("_") and inspect.isclass(value) and hasattr(sys.modules.get(module), name[1:]):
            name = name[1:]  # what `io` calls IOBase is _IOBase in C
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        kind = "class" if inspect.isclass(value) else "function"
        known = f"{prefix}{name}"
        yield Member(known, kind, module, _signature(value), inspect.cleandoc(own_docstring(value)))
        if inspect.isclass(value):
            yield from _in_c(value, f"{known}.", module)


def _signature(value: object) -> str:
    try:
        return _short(str(inspect.signature(value)))  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError):
        return ""


def _short(signature: str) -> str:
    return signature if len(signature) <= _LONGEST_SIGNATURE else signature[: _LONGEST_SIGNATURE - 1] + "…"
