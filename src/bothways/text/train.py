"""From raw text to a tokenizer: count the words, train the vocabulary, build and save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, closest
from bothways.progress import progress
from bothways.text.documents import read_documents
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer
from bothways.text.word_counts import count_words
from bothways.text.wordpiece import SPECIAL_TOKENS, check_settings, train_wordpiece

if TYPE_CHECKING:
    from bothways.text.documents import Source

KINDS = ("wordpiece",)


def train_tokenizer(
    source: Source,
    *,
    size: int = 30_000,
    kind: str = "wordpiece",
    lowercase: bool = True,
    strip_accents: bool | None = None,
    chinese_characters: bool = True,
    min_frequency: int = 2,
    alphabet_limit: int = 1000,
    score: str = "likelihood",
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    out: str | Path | None = None,
    text: str = "text",
) -> Tokenizer:
    """Trains a tokenizer on raw text.

    The text is read once, as a stream. The same words give the same vocabulary, in whatever order they come. Where the
    text supports fewer tokens than asked for, the vocabulary is smaller (see `train_wordpiece`).

    Args:
        source: Files, folders, frames, data sets or iterables of texts (see `read_documents`).
        size: Tokens in the vocabulary, special tokens and alphabet included.
        kind: "wordpiece".
        lowercase: Whether letters become lower case.
        strip_accents: Whether accents are removed; None does as `lowercase` does.
        chinese_characters: Whether every Chinese character is a word of its own.
        min_frequency: The fewest occurrences of a pair of tokens that is merged.
        alphabet_limit: How many different characters are kept, the most frequent ones.
        score: "likelihood", or "ratio", which favours rare pairs.
        special_tokens: First in the vocabulary. Those beside BERT's five are reserved: they are recognised in text.
        out: A folder that the tokenizer is saved in; it must not hold a tokenizer yet.
        text: The column that holds the text, where the source has columns.

    Raises:
        BothwaysError: The source cannot be read or holds no word, a setting cannot be, the vocabulary is too small for
            the alphabet, or `out` holds a tokenizer already.
    """
    if kind not in KINDS:
        raise BothwaysError(
            f"there is no tokenizer of kind {kind!r} to train, only {', '.join(KINDS)}{closest(kind, KINDS)}"
        )
    normalization = Normalization(
        lowercase=lowercase, strip_accents=strip_accents, chinese_characters=chinese_characters
    )
    check_settings(size, special_tokens, min_frequency, alphabet_limit, score)
    Tokenizer.from_vocabulary(special_tokens, normalization)  # tells now, not after the work, which one is missing
    if out is not None:
        _check_folder(Path(out))
    vocabulary = train_wordpiece(
        count_words(_paragraphs(source, text), normalization),
        size=size,
        special_tokens=special_tokens,
        min_frequency=min_frequency,
        alphabet_limit=alphabet_limit,
        score=score,
    )
    tokenizer = _build(vocabulary, normalization, special_tokens)
    if out is not None:
        tokenizer.save(out)
    return tokenizer


def fertility(
    encode: Tokenizer | Callable[[str], Iterable[object]],
    texts: Iterable[str],
    normalization: Normalization | None = None,
) -> float:
    """Tokens per word: 1.0 when every word is a token, higher the more words are cut up.

    To be measured on text that the vocabulary was not trained on.

    Args:
        encode: A tokenizer, or a function that gives the tokens of a text without special tokens.
        texts: The held-out text.
        normalization: What counts as a word; None is that of the tokenizer, or BERT uncased. Give both sides of a
            comparison the same one.

    Raises:
        BothwaysError: The texts hold no word.
    """
    texts = list(texts)
    if isinstance(encode, Tokenizer):
        normalization = normalization or encode.normalization
        tokens = len(encode.encode(texts, special_tokens=False).token_ids)
    else:
        tokens = sum(sum(1 for _ in encode(text)) for text in texts)
    words = count_words(texts, normalization).total()
    if not words:
        raise BothwaysError("fertility is counted in tokens per word, and the texts hold no word: give held-out text")
    return tokens / words


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BothwaysError(f"{out} is a file: give a folder to save the tokenizer in")
    held = [name for name in ("tokenizer.json", "vocab.txt") if (out / name).exists()]
    if held:
        raise BothwaysError(f"{out} holds a tokenizer already ({held[0]}): give another folder or remove it first")


def _paragraphs(source: Source, text: str) -> Iterator[str]:
    with progress("Counting words", unit="documents") as job:
        number = 0
        for number, document in enumerate(read_documents(source, text), start=1):
            yield from document.paragraphs
            if number % 100 == 0:
                job.reach(number)
        job.reach(number)


def _build(vocabulary: Sequence[str], normalization: Normalization, special_tokens: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer.from_vocabulary(vocabulary, normalization)
    reserved = [token for token in special_tokens if token not in SPECIAL_TOKENS]
    if not reserved:
        return tokenizer
    tokenizer.backend.add_special_tokens(reserved)  # so that they are found in text too; their ids stay
    return Tokenizer(tokenizer.backend, tokenizer.settings)
