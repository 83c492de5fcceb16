"""Any file, opened the same way: plain, gzip or zstd, a folder's files in order, or standard input.

Files are read as a stream, and whatever is wrong with one is told in a sentence with its name and line. Compression is
recognised by the first bytes, so that a file with the wrong suffix still opens.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from bothways.errors import BothwaysError, closest

KINDS = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".zst", ".zstd")
GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
FOREIGN = {  # first bytes of what people pass by mistake
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"BZh": "compressed with bzip2; use gzip or zstd",
    b"\xfd7zXZ\x00": "compressed with xz; use gzip or zstd",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"%PDF": "a PDF; extract its text first",
    b"\xff\xfe": "UTF-16 text; convert it to UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it to UTF-8",
    PARQUET: "a parquet file; its name should end in .parquet",
}
PAGES = (b"<!doctype html", b"<html")
MARK = b"\xef\xbb\xbf"  # the byte order mark that some programs begin UTF-8 with
NEIGHBOURS = 2000  # names compared with one that is missing
BLOCK = 1 << 18
SIP = 1 << 10  # compressed bytes at a time; a zstd block of four bytes may hold 128 KiB

PathLike = str | Path


def is_stdin(path: PathLike) -> bool:
    """Whether `path` means standard input."""
    return str(path) == "-"


def passes_once(path: PathLike) -> bool:
    """Whether a file can be read only once, as standard input and pipes can."""
    return is_stdin(path) or not Path(path).is_file()


def shown(path: PathLike) -> str:
    """What a file is called in messages."""
    return "standard input" if is_stdin(path) else str(path)


def kind_of(path: PathLike) -> str | None:
    """What a file's name says it holds: "text", "jsonl", "csv", "tsv", "parquet", or None when it does not say."""
    name = Path(path).name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return KINDS.get(Path(name).suffix)


def find_files(source: PathLike) -> list[PathLike]:
    """The files that a path stands for: itself, or everything readable in a folder and below, in order of name.

    Raises:
        BothwaysError: Nothing is there, the folder has no file with a known suffix, or one below cannot be read.
    """
    if is_stdin(source):
        return ["-"]
    path = Path(source)
    check_exists(path)
    if not path.is_dir():
        return [path]
    found: list[PathLike] = []
    seen: set[Path] = set()
    for folder, folders, names in os.walk(path, onerror=_unreadable, followlinks=True):
        if (real := Path(folder).resolve()) in seen:  # linked from within, or twice
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".") and kind_of(name)]
    if not found:
        known = " ".join(KINDS)
        raise BothwaysError(
            f"the folder {path} holds no file to read (known: {known}, also with {' '.join(COMPRESSED)})"
        )
    return sorted(found, key=lambda file: Path(file).relative_to(path).parts)


def _unreadable(error: OSError) -> NoReturn:
    raise BothwaysError(f"the folder {error.filename} cannot be read ({error.strerror})") from None


def check_exists(path: Path) -> None:
    """Raises a BothwaysError that names the closest neighbour when nothing is at `path`."""
    name, near = str(path), ""
    try:
        if path.exists():
            return
        if path.parent.is_dir():
            near = closest(path.name, [other.name for other in islice(path.parent.iterdir(), NEIGHBOURS)])
    except OSError as error:  # such as a name that is too long, or a folder that may not be listed
        near = f" ({error.strerror})"
    if len(name) > 200 or "\n" in name:
        name, near = f"{name[:40]!r}...", "; a text itself goes in a list: [text]"
    raise BothwaysError(f"there is no file {name}{near}")


@contextmanager
def open_text(path: PathLike, longest: int | None = None) -> Iterator[Iterator[tuple[int, str]]]:
    """Opens a text file of any compression as numbered lines.

    Args:
        path: The file; "-" is standard input.
        longest: Cuts lines at the last space before so many bytes, so that a file without line ends takes no more
            memory than another; the pieces share a number. None keeps lines whole.

    Yields:
        ``(number from 1, line without its end)``. UTF-8; a byte order mark is dropped.

    Raises:
        BothwaysError: The file is missing, empty, binary, not UTF-8 (with the line) or damaged, on entering or when
            the line is reached.
    """
    with open_bytes(path) as stream:
        yield numbered(stream, shown(path), longest)


def numbered(stream: BinaryIO, name: str, longest: int | None = None) -> Iterator[tuple[int, str]]:
    """The lines of an open stream as `open_text` gives them; `name` is for messages."""
    number, carried, ended = 0, b"", True
    while raw := stream.readline(-1 if longest is None else longest):
        number += ended
        raw = carried + raw
        ended = raw.endswith(b"\n")
        if ended or longest is None or len(raw) < longest:
            carried = b""
        else:
            raw, carried = _at_space(raw)
        yield number, _decoded(raw, name, number)
    if carried:
        yield number, _decoded(carried, name, number)


def _at_space(raw: bytes) -> tuple[bytes, bytes]:
    space = raw.rfind(b" ")
    if space > 0:
        return raw[:space], raw[space + 1 :]
    place = len(raw)
    while place > len(raw) - 4 and raw[place - 1] & 0xC0 == 0x80:  # not inside a character
        place -= 1
    place -= raw[place - 1] >= 0xC0
    return raw[:place], raw[place:]


def _decoded(raw: bytes, name: str, number: int) -> str:
    if b"\0" in raw:
        raise BothwaysError(f"{name} is a binary file, not text (line {number} holds a NUL byte)")
    if number == 1:
        raw = raw.removeprefix(MARK)
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{raw[error.start]:02x} at column {error.start + 1}"
        raise BothwaysError(f"{name}, line {number}: not UTF-8 ({wrong}); convert the file to UTF-8") from None


@contextmanager
def open_bytes(path: PathLike, binary: bool = False) -> Iterator[io.BufferedReader]:
    """Opens a file of any compression as its uncompressed bytes.

    Args:
        path: The file; "-" is standard input.
        binary: Whether other bytes than text are fine.

    Raises:
        BothwaysError: The file is missing, empty, truncated, damaged, or of a kind that is not read here.
    """
    name = shown(path)
    with _raw(path) as raw:
        try:
            stream = _uncompressed(raw)
            head = stream.peek(8)
            if not head:
                raise BothwaysError(f"{name} is empty")
            foreign = [what for magic, what in FOREIGN.items() if head.startswith(magic)]
            if beginning(stream)[:14].lower().startswith(PAGES):
                foreign.append("an HTML page; extract its text first (as trafilatura does)")
            if foreign and not binary:
                raise BothwaysError(f"{name} is {foreign[0]}")
            yield stream
        except EOFError:
            raise BothwaysError(f"{name} ends too early: the compressed file was cut off, copy it again") from None
        except (gzip.BadGzipFile, zlib.error, DamagedError) as error:
            raise BothwaysError(f"{name} is damaged and cannot be uncompressed ({error})") from None


def beginning(stream: io.BufferedReader) -> bytes:
    """What a stream begins with, after a byte order mark and white space; it is looked at, not read."""
    return stream.peek(64).removeprefix(MARK).lstrip()


@contextmanager
def _raw(path: PathLike) -> Iterator[io.BufferedReader]:
    if is_stdin(path):
        if sys.stdin is None:  # as the shell's <&- leaves it
            raise BothwaysError("standard input is closed; pipe texts into it, or name a file")
        yield io.BufferedReader(_Unclosed(cast(io.BufferedReader, sys.stdin.buffer)), BLOCK)
        return
    file = Path(path)
    check_exists(file)
    if file.is_dir():
        raise BothwaysError(f"{file} is a folder where a file is needed")
    try:
        stream = file.open("rb", buffering=BLOCK)
    except OSError as error:
        raise BothwaysError(f"{file} cannot be opened ({error.strerror})") from None
    with stream:
        yield cast(io.BufferedReader, stream)


def _uncompressed(raw: io.BufferedReader) -> io.BufferedReader:
    head = raw.peek(4)
    if head.startswith(GZIP):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), BLOCK)
    if head.startswith(ZSTD):
        return io.BufferedReader(_Zstd(raw), BLOCK)
    return raw


class DamagedError(Exception):
    """Compressed bytes that make no sense."""


class _Unclosed(io.RawIOBase):
    """Standard input, which stays open when its reader is closed."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.stream.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Zstd(io.RawIOBase):
    """Uncompresses zstd frames, and unlike the library's own reader notices a file that was cut off."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self.raw, self.zstandard = raw, zstandard
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.ready = memoryview(b"")
        self.began = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self.ready:
            data = self.frame.unused_data if self.frame.eof else b""
            data = data or self.raw.read(SIP)
            if not data:
                if self.began and not self.frame.eof:
                    raise EOFError
                return 0
            if self.frame.eof:
                self.frame = self.zstandard.ZstdDecompressor().decompressobj()
            self.began = True
            try:
                self.ready = memoryview(self.frame.decompress(data))
            except self.zstandard.ZstdError as error:
                raise DamagedError(str(error)) from None
        size = min(len(buffer), len(self.ready))
        buffer[:size], self.ready = self.ready[:size], self.ready[size:]
        return size


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A name beside `path` to write to; when the block succeeds the file takes its place, else it is removed.

    Raises:
        BothwaysError: The folder is not there or cannot be written to, or the disk is full.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(target)
    except OSError as error:
        raise BothwaysError(f"{target} cannot be written ({error.strerror or error})") from None
    finally:
        beside.unlink(missing_ok=True)
