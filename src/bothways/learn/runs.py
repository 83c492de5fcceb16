"""run.json: what was run, with what, on what, and what came of it, so that anyone can repeat it.

It also knows the names that a run gives to what it leaves in its folder, and so whether a folder holds another run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bothways.errors import BothwaysError
from bothways.learn.processes import here
from bothways.learn.record import METRICS
from bothways.paths import as_path
from bothways.run.files import alone, read_json
from bothways.run.machine import describe_machine
from bothways.text.rows import are_files
from bothways.text.shards import SHARDS, UNFINISHED
from bothways.whole import replace_text

P = ParamSpec("P")
T = TypeVar("T")

_TRACES = ("run.json", "log.jsonl", "checkpoint", "best")
"""What only a run writes."""
_RESULTS = ("adapter", "generator", "tensorboard", "report.html", METRICS)
_REST = ("model", "tokenizer", "corpus", *_RESULTS)
"""What a run writes besides, but others may too."""
_ASIDE = ".replaced"
"""Where what is to be thrown away waits until the run that takes its place has begun."""
_MADE = ".made"
"""Names what was made for a run that has not begun, nobody else put it there, and tells what it was made with."""
_WHOLE = 64 << 20
"""Bytes of a file that are fingerprinted: all of a shorter one, else half at the start and half at the end."""
_PACKAGES = ("bothways", "torch", "tokenizers", "numpy", "safetensors", "pyarrow")


@dataclass(frozen=True)
class _Work:
    """The folder that a verb has to itself, and the names of what it has made there before its run begins."""

    place: Path
    made: set[str] = field(default_factory=set)


_works_in: ContextVar[_Work | None] = ContextVar("works_in", default=None)
"""Of the verb around this one: the verbs that it calls may work there too."""


def write_run(
    out: Path,
    *,
    command: str,
    settings: dict[str, Any],
    seed: int,
    data: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
    asked: dict[str, Any] | None = None,
    history: dict[str, Any] | None = None,
) -> Path:
    """Writes ``out/run.json``, whole or not at all.

    Args:
        out: The run's folder.
        command: What was run: ``"pretrain"``, ``"finetune classify"``, ...
        settings: All settings, as they were resolved; given again they repeat the run.
        seed: All randomness of the run follows from it.
        data: What identifies the data, such as `fingerprint` of its files.
        results: What came of it; None while the run goes on.
        asked: The settings as they were given, of which those are written that were resolved to something else.
        history: How the run ended (`bothways.learn.state.History.figures`).

    Raises:
        BothwaysError: The file cannot be written.
    """
    content = {
        "command": command,
        "settings": settings,
        "seed": seed,
        "data": data or {},
        "results": results,
        **({} if history is None else {"history": history}),
        **({} if asked is None else {"asked": _otherwise(asked, settings)}),
        "versions": versions(),
        "machine": describe_machine(str(settings.get("precision") or "auto")),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = out / "run.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
    except OSError as error:
        raise BothwaysError(f"{path} cannot be written ({error.strerror})") from None
    return path


def _otherwise(asked: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name not in settings or settings[name] != value}


def read_run(path: str | Path) -> dict[str, Any]:
    """What `write_run` wrote.

    Args:
        path: The file, or the folder it lies in.

    Raises:
        BothwaysError: It is missing, or not the record of a run.
    """
    path = Path(path)
    file = path / "run.json" if path.is_dir() else path
    if not file.is_file():
        raise BothwaysError(f"{file} does not exist: give the run.json of a run, or the run's folder")
    content = read_json(file)
    missing = [name for name in ("command", "settings", "seed") if not isinstance(content, dict) or name not in content]
    if missing:
        raise BothwaysError(f"{file} is not the record of a run: it has no {missing[0]!r}")
    return dict(content)


def as_typed(source: Any) -> Any:
    """A source as it can be typed again: its path, or paths; None for what stands in memory."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, list | tuple) and are_files(source):
        return [str(path) for path in source]
    return None


def check_out(
    out: Path, *, overwrite: bool = False, resume: bool = True, reads: Iterable[Any] = (), aside: bool = False
) -> bool:
    """Makes sure that a run may use a folder, before any work is done.

    Args:
        out: The folder; it need not exist.
        overwrite: Whether a run that it holds is thrown away, with all that it wrote.
        resume: Whether an interrupted run that it holds goes on. Whether that is the same run, the loop checks.
        reads: What the run is made from: paths, also in lists; anything else is passed over.
        aside: Whether what is thrown away only waits aside: for `throw_away`, or for a mistake in what is read, after
            which `one_at_a_time` puts it back.

    Returns:
        Whether there is a checkpoint to continue.

    Raises:
        BothwaysError: The folder holds another run or a model, or cannot be written, or what would be thrown away is to
            be read.
    """
    _check_writable(out)
    _put_back(out, stopped=True)  # left by a kill
    if overwrite:
        thrown = replaced(out)
        check_unread(thrown, reads)
        if aside and _holds_run(out) and not (out / _ASIDE).exists():
            (out / _ASIDE).mkdir()
            for path in thrown:
                path.rename(out / _ASIDE / path.name)
        _remove(thrown)
        _note_made(out)
        return False
    ways = "choose another --out or --overwrite"
    if (out / "checkpoint" / "current").exists():
        if not resume:
            raise BothwaysError(f"{out} holds a run that was not finished: {ways}, or resume it")
        return True
    if (out / "run.json").exists() and read_run(out).get("results") is not None:
        raise BothwaysError(f"{out} holds another run, which is finished: {ways}")
    if (out / "model").exists():
        raise BothwaysError(f"{out} holds a model already: {ways}")
    if not (out / "run.json").exists() and (others := [name for name in _RESULTS if (out / name).exists()]):
        raise BothwaysError(f"{out} holds {others[0]} of something else, which this run would replace: {ways}")
    return False


def replaced(out: Path) -> list[Path]:
    """What a folder holds that is thrown away where a run in it is overwritten.

    Where it holds none, what was made for one that never began; nothing else.
    """
    names = (*_TRACES, *_REST) if _holds_run(out) else [name for name in _REST if name in _made(out)]
    return [out / name for name in names if os.path.lexists(out / name)]


def will_make(out: Path, *names: str, asked: Mapping[str, Any] | None = None) -> None:
    """Notes what is made in a folder before its run begins, as far as it is not there yet.

    If the run is refused, `one_at_a_time` removes it; if it is killed, the same command goes on with it, and
    ``overwrite`` throws it away.

    Args:
        out: The folder.
        names: Of what is made in it.
        asked: The settings that it is made with, for `check_begun`.
    """
    if not (new := {name for name in names if not os.path.lexists(out / name)}):
        return
    out.mkdir(parents=True, exist_ok=True)
    noted = {"names": sorted(_made(out) | new), "asked": asked or _note(out).get("asked", {})}
    replace_text(out / _MADE, json.dumps(noted, default=str) + "\n")
    work = _works_in.get()
    if work is not None and work.place == out.resolve():
        work.made.update(new)


def check_begun(out: Path, asked: Mapping[str, Any]) -> None:
    """Refuses to go on with what was made in a folder with other settings, by a run that a kill or Ctrl-C ended.

    Args:
        out: The folder.
        asked: The settings of what would be made, by their names in ``run.json``.

    Raises:
        BothwaysError: One is another than it was; the sentence says which.
    """
    known = dict(_note(out).get("asked", {}))
    if (out / "run.json").is_file():
        run = read_run(out)
        known |= run["settings"] | run.get("asked", {})
    for name, value in asked.items():
        if name in known and known[name] != value:
            raise BothwaysError(
                f"{out} was begun with {name} {known[name]!r}, not {value!r}: give the same, choose another --out or "
                "--overwrite"
            )


def _note(out: Path) -> dict[str, Any]:
    """What `will_make` noted."""
    return dict(read_json(out / _MADE)) if (out / _MADE).is_file() else {}


def _made(out: Path) -> set[str]:
    """What is in a folder that was made for a run which has not begun."""
    return {name for name in _note(out).get("names", ()) if os.path.lexists(out / name)}


def _note_made(out: Path) -> None:
    """Forgets what is not there any more."""
    if not _made(out):
        (out / _MADE).unlink(missing_ok=True)


def throw_away(out: Path) -> None:
    """Throws away what `check_out` put aside: the run that takes its place begins, and all that was made is its own."""
    shutil.rmtree(out / _ASIDE, ignore_errors=True)
    (out / _MADE).unlink(missing_ok=True)


def _holds_run(out: Path) -> bool:
    return any((out / name).exists() for name in _TRACES)


def _clear(work: _Work) -> None:
    """Removes what was made for a run that was refused, so that it stands in no other's way.

    A corpus of which some shards are finished stays: the disk was full, say, and the same command goes on with it.
    """
    begun = [path.parent for name in work.made for path in (work.place / name).rglob(UNFINISHED)]
    if _holds_run(work.place) or any(any(corpus.glob(SHARDS)) for corpus in begun):
        return
    _remove(work.place / name for name in work.made)
    _note_made(work.place)


def _put_back(out: Path, stopped: bool) -> None:
    """What was put aside is there again, unless the run that was to take its place has begun.

    Where it was only stopped while its text was prepared, which may have taken hours, it has.
    """
    if not (out / _ASIDE).is_dir():
        return
    prepared = stopped and any((out / "corpus").glob(SHARDS))
    if prepared or _holds_run(out):
        shutil.rmtree(out / _ASIDE)
        return
    _remove(out / name for name in _REST)
    for path in (out / _ASIDE).iterdir():
        path.rename(out / path.name)
    (out / _ASIDE).rmdir()


def one_at_a_time(verb: Callable[P, T]) -> Callable[P, T]:
    """Lets a verb work in a folder, its `out`, only while no other run does.

    Where it fails before its run has begun, the run that it was to replace is there again, and what was made for it, if
    it was refused, is gone.
    """

    @wraps(verb)
    def run(*arguments: P.args, **settings: P.kwargs) -> T:
        out = settings.get("out")
        place = None if out is None else as_path(str(out)).resolve()
        around = _works_in.get()
        if place is None or (around is not None and place == around.place) or not here().first:
            return verb(*arguments, **settings)
        _check_writable(place)
        with alone(as_path(str(out)), "choose another --out"):
            work = _Work(place)
            before = _works_in.set(work)
            try:
                return verb(*arguments, **settings)
            except BaseException as problem:
                if isinstance(problem, BothwaysError):
                    _clear(work)
                _put_back(place, stopped=not isinstance(problem, BothwaysError))
                raise
            finally:
                _works_in.reset(before)

    return run


def fingerprint(path: str | Path) -> dict[str, Any]:
    """What identifies a file or the files of a folder.

    Returns:
        ``path``, ``bytes``, ``sha256`` (of the start and end only, if ``whole`` is false; of a folder: over the names
        and fingerprints of its files), ``whole``.

    Raises:
        BothwaysError: It cannot be read.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return {"path": str(path), **_file_fingerprint(path)}
        parts = {file: _file_fingerprint(file) for file in sorted(path.rglob("*")) if file.is_file()}
    except OSError as error:
        raise BothwaysError(f"{path} cannot be read ({error.strerror})") from None
    digest = hashlib.sha256()
    for file, part in parts.items():
        digest.update(f"{file.relative_to(path).as_posix()} {part['bytes']} {part['sha256']}\n".encode())
    return {
        "path": str(path),
        "bytes": sum(part["bytes"] for part in parts.values()),
        "sha256": digest.hexdigest(),
        "whole": all(part["whole"] for part in parts.values()),
    }


def versions() -> dict[str, str]:
    """The versions of what computes; absent packages are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _file_fingerprint(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    digest = hashlib.sha256()
    spans = [(0, size)] if size <= _WHOLE else [(0, _WHOLE // 2), (size - _WHOLE // 2, size)]
    with path.open("rb") as file:
        for start, end in spans:
            file.seek(start)
            while start < end and (chunk := file.read(min(1 << 20, end - start))):
                digest.update(chunk)
                start += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest(), "whole": size <= _WHOLE}


def _check_writable(out: Path) -> None:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BothwaysError(f"{there} is a file, not a folder: choose another --out")
    if not os.access(there, os.W_OK):
        raise BothwaysError(f"{there} cannot be written: choose another --out")


def check_unread(thrown: Iterable[Path], reads: Iterable[Any]) -> None:
    """Refuses to throw away what a run is made from; the arguments are paths, those read also in lists.

    Raises:
        BothwaysError: One of them is to be read.
    """
    read: set[Path] = set()
    for one in map(as_typed, reads):
        for typed in [one] if isinstance(one, str) else one or []:
            place = Path(typed).resolve()
            read |= {place, place / "model", *place.parents}
    for path in thrown:
        if path.exists() and path.resolve() in read:
            raise BothwaysError(f"{path} is what this run reads, and --overwrite would remove it: choose another --out")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
