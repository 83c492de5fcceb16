"""From raw text to a prepared corpus: documents, sentences, token ids, shards.

Memory is constant: some thousand sentences are encoded at a time and go straight to disk. Interrupted work goes on:
the source is read again up to the first document that is not in a finished shard, and the text of those documents is
compared with what the index remembers. So the result has the same bytes however often the work was interrupted.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.paths import as_path
from bothways.progress import Progress, progress
from bothways.text.documents import Document, Source, read_documents
from bothways.text.sentences import split_sentences
from bothways.text.shard_writer import PARTIAL, Part, write_shards
from bothways.text.shards import INDEX, TOKENIZER, UNFINISHED, Corpus, Index, digest
from bothways.whole import replace_bytes

if TYPE_CHECKING:
    from bothways.text.tokenizer import Tokenizer

_BATCH = 4096  # sentences encoded at once
CLEANED = "cleaned"
"""The folder within a corpus that the text lies in which it was made from, where that was cleaned for it."""


def prepare(
    source: Source, tokenizer: Tokenizer, out: str | Path, *, shard_tokens: int = 8_000_000, text: str = "text"
) -> Corpus:
    """Prepares a corpus for pre-training, or goes on where an earlier call was interrupted.

    Args:
        source: Raw text: files, folders, strings, frames; whatever `read_documents` takes.
        tokenizer: What makes the tokens; saved with the corpus. Special tokens are not added.
        out: The folder to write: new, empty, or an unfinished corpus of the same source, tokenizer and `shard_tokens`.
            A finished corpus of the same source is only checked and opened.
        shard_tokens: A shard ends with the first document that brings it to so many tokens.
        text: The column or key that holds the text, where the source has columns.

    Returns:
        The corpus, open.

    Raises:
        BothwaysError: The source holds no text; the folder holds something else, or a corpus of another source or
            tokenizer; the disk is full.
    """
    folder = as_path(out)
    with disk_explained(folder), progress("Preparing corpus", unit="tokens") as job:
        index, finished = _begin(folder, tokenizer, shard_tokens)
        documents = read_documents(source, text)
        _skip_finished(documents, index, folder, job)
        parts = _encode(documents, tokenizer)
        if finished:
            if any(len(part.token_ids) for part in parts):
                raise _other_source(folder)
            (folder / UNFINISHED).unlink(missing_ok=True)  # left by a kill right before the end
            return Corpus.open(folder)
        index = write_shards(parts, folder, index, job)
        if not index.shards:
            raise BothwaysError("the source holds no sentence to prepare; give files with text")
        replace_bytes(folder / INDEX, index.to_json().encode())
        (folder / UNFINISHED).unlink()
    return Corpus.open(folder)


def check_shard_tokens(count: int) -> None:
    """Refuses shards of no tokens."""
    if count < 1:
        raise BothwaysError(f"shard_tokens is {count}; give at least 1")


def _begin(folder: Path, tokenizer: Tokenizer, shard_tokens: int) -> tuple[Index, bool]:
    """Finds or makes the folder; returns the index to start from, and whether the corpus is finished already."""
    check_shard_tokens(shard_tokens)
    if folder.exists() and not folder.is_dir():
        raise BothwaysError(f"{folder} is a file; give a new folder to prepare the corpus in")
    finished = (folder / INDEX).is_file()
    if finished or (folder / UNFINISHED).is_file():
        index = Index.read(folder / (INDEX if finished else UNFINISHED))
        _check_same(index, folder, tokenizer, shard_tokens)
    else:
        if folder.is_dir() and any(_foreign(entry.name) for entry in folder.iterdir()):
            raise BothwaysError(f"{folder} holds something that is not a corpus; give a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        kind = "uint16" if tokenizer.size <= 1 << 16 else "uint32"
        index = Index(tokenizer.fingerprint, kind, shard_tokens)
        replace_bytes(folder / UNFINISHED, index.to_json().encode())
    if not (folder / TOKENIZER).is_dir():
        half = folder / (TOKENIZER + PARTIAL)
        shutil.rmtree(half, ignore_errors=True)
        tokenizer.save(half)
        half.replace(folder / TOKENIZER)
    return index, finished


def _foreign(name: str) -> bool:
    """Whether nothing of that name stands in the folder of a corpus that was just begun."""
    return not name.endswith((PARTIAL, CLEANED)) and not name.startswith(".")


def _check_same(index: Index, folder: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
    if index.tokenizer != tokenizer.fingerprint:
        raise BothwaysError(
            f"{folder} was begun with another tokenizer; give that one or another folder, or --overwrite"
        )
    if index.shard_tokens != shard_tokens:
        raise BothwaysError(
            f"{folder} was begun with shards of {index.shard_tokens:,} tokens, not {shard_tokens:,}; "
            f"give the same number, or another folder"
        )


def _skip_finished(documents: Iterator[Document], index: Index, folder: Path, job: Progress) -> None:
    """Reads past the documents of the finished shards and sees that they are the same as then."""
    for number, shard in enumerate(index.shards, start=1):
        read = digest(_digest_of(document) for document in islice(documents, shard.read))
        if read != shard.source:
            raise _other_source(folder)
        job.advance(shard.tokens, note=f"shard {number} was there")


def _other_source(folder: Path) -> BothwaysError:
    return BothwaysError(
        f"{folder} was begun with another source, or the source has changed; give another folder, or --overwrite"
    )


def _digest_of(document: Document) -> bytes:
    text = "\0".join(document.paragraphs).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def _encode(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[Part]:
    """Splits documents into sentences and encodes a few thousand of them at a time."""
    waiting: list[tuple[list[str], bytes | None]] = []
    count = 0
    for document in documents:
        sentences: list[str] = []
        for paragraph in document.paragraphs:
            sentences += _as_inside(split_sentences(paragraph), tokenizer)
            if count + len(sentences) >= _BATCH:
                yield from _encode_batch([*waiting, (sentences, None)], tokenizer)
                waiting, sentences, count = [], [], 0
        waiting.append((sentences, _digest_of(document)))
        count += len(sentences)
    yield from _encode_batch(waiting, tokenizer)


def _as_inside(sentences: list[str], tokenizer: Tokenizer) -> list[str]:
    """The sentences of a paragraph, each with the space before it where the tokenizer would see it in the paragraph."""
    return sentences[:1] + [f" {one}" for one in sentences[1:]] if tokenizer.needs_space else sentences


def _encode_batch(waiting: list[tuple[list[str], bytes | None]], tokenizer: Tokenizer) -> Iterator[Part]:
    encoded = tokenizer.encode([text for texts, _ in waiting for text in texts], special_tokens=False)
    unknown_id = tokenizer.roles.get("unk", -1)
    first = 0
    for texts, source in waiting:
        starts = encoded.starts[first : first + len(texts) + 1]
        token_ids, lengths = encoded.token_ids[starts[0] : starts[-1]], np.diff(starts)
        words, characters = sum(len(text.split()) for text in texts), sum(map(len, texts))
        unknown = int((token_ids == unknown_id).sum())
        yield Part(token_ids, lengths[lengths > 0], words, characters, unknown, source)
        first += len(texts)


@contextmanager
def disk_explained(folder: Path) -> Iterator[None]:
    """Says in a sentence why a corpus could not be written to a folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the disk of {folder} is full; make room and prepare it again: it goes on where it stopped"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            message = f"{folder} cannot be written ({error.strerror}); give another folder"
        else:
            raise
        raise BothwaysError(message) from error
