"""From raw text to a tokenizer of any kind: count the words, train the vocabulary, build and save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, closest
from bothways.paths import as_path
from bothways.progress import progress
from bothways.text.documents import read_documents
from bothways.text.normalize import Normalization, PlainNormalization
from bothways.text.published import tokenizer_file
from bothways.text.roles import require, role_names
from bothways.text.saved import FILES
from bothways.text.tokenizer import Tokenizer
from bothways.text.word_counts import count_words
from bothways.text.wordpiece import SPECIAL_TOKENS, check_settings, train_wordpiece

if TYPE_CHECKING:
    from bothways.text.documents import Source

SPECIALS = {
    "wordpiece": SPECIAL_TOKENS,
    "bpe": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "unigram": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
}
"""The special tokens of each kind, as of BERT, RoBERTa and ALBERT."""
_ONLY = {"chinese_characters": ("wordpiece",), "score": ("wordpiece",), "alphabet_limit": ("wordpiece", "unigram")}
_MOST_WORDS = 300_000  # distinct ones that Unigram learns from: its lattices take memory for each


@dataclass(frozen=True)
class _Plan:
    """What is to be trained; as `train_tokenizer` takes it."""

    size: int
    special_tokens: tuple[str, ...]
    lowercase: bool
    strip_accents: bool | None
    chinese_characters: bool
    min_frequency: int
    alphabet_limit: int
    score: str


def train_tokenizer(
    source: Source,
    *,
    vocab_size: int = 30_000,
    kind: str = "wordpiece",
    lowercase: bool = True,
    strip_accents: bool | None = None,
    chinese_characters: bool | None = None,
    min_frequency: int = 2,
    alphabet_limit: int | None = None,
    score: str | None = None,
    special_tokens: Sequence[str] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    text: str = "text",
) -> Tokenizer:
    """Trains a tokenizer on raw text.

    The text is read once, as a stream. The same words give the same vocabulary, in whatever order they come. Where the
    text supports fewer tokens than asked for, the vocabulary is smaller (see `train_wordpiece`).

    Args:
        source: Files, folders, frames, data sets or iterables of texts (see `read_documents`).
        vocab_size: Tokens in the vocabulary, special tokens and alphabet included.
        kind: "wordpiece" as BERT's, "bpe" (of bytes) as RoBERTa's, or "unigram" as ALBERT's. They differ in the
            template too: RoBERTa's pairs are ``<s> A </s></s> B </s>`` in one segment, which suits families with and
            without segments; those of the others are ``[CLS] A [SEP] B [SEP]`` in two.
        lowercase: Whether letters become lower case.
        strip_accents: Whether accents are removed; None does as `lowercase` does.
        chinese_characters: Whether every Chinese character is a word of its own; wordpiece only, where None means yes.
        min_frequency: The fewest occurrences of a pair of tokens that is merged, or of a piece of several characters.
        alphabet_limit: How many different characters are kept, the most frequent ones; None means 1000. Not of bpe,
            whose alphabet is the 256 bytes.
        score: "likelihood", the default, or "ratio", which favours rare pairs; wordpiece only.
        special_tokens: First in the vocabulary; None takes the usual ones of the kind. BERT's names mean its template,
            RoBERTa's its own. Those beside the five are reserved: they are recognised in text.
        out: A folder that the tokenizer is saved in; it must not hold a tokenizer yet.
        overwrite: Whether a tokenizer there is replaced, where it is alone; that of a model never is.
        text: The column that holds the text, where the source has columns.

    Raises:
        BothwaysError: The source cannot be read or holds no word, a setting cannot be, the vocabulary is too small for
            the alphabet, or `out` holds a tokenizer already, or more than one where it may be replaced.
    """
    if kind not in SPECIALS:
        kinds = f"{', '.join(SPECIALS)}{closest(kind, list(SPECIALS))}"
        raise BothwaysError(f"there is no tokenizer of kind {kind!r} to train, only {kinds}")
    for name, given in (
        ("chinese_characters", chinese_characters),
        ("score", score),
        ("alphabet_limit", alphabet_limit),
    ):
        if given is not None and kind not in _ONLY[name]:
            raise BothwaysError(f"{name} is a setting of {' and '.join(_ONLY[name])}, not of {kind}: leave it out")
    plan = _Plan(
        size=vocab_size,
        special_tokens=tuple(SPECIALS[kind] if special_tokens is None else special_tokens),
        lowercase=lowercase,
        strip_accents=strip_accents,
        chinese_characters=True if chinese_characters is None else chinese_characters,
        min_frequency=min_frequency,
        alphabet_limit=1000 if alphabet_limit is None else alphabet_limit,
        score=score or "likelihood",
    )
    check_settings(vocab_size, plan.special_tokens, min_frequency, plan.alphabet_limit, plan.score)
    vocabulary = {token: place for place, token in enumerate(plan.special_tokens)}
    roles = role_names(vocabulary.get, {})
    require(roles, vocabulary, "the list of special tokens")  # tells now, not after the work, which one is missing
    if out is not None:
        _check_folder(as_path(out), overwrite)
    train = {"wordpiece": _train_wordpiece, "bpe": _train_bpe, "unigram": _train_unigram}[kind]
    tokenizer = train(_paragraphs(source, text), plan)
    reserved = [token for token in plan.special_tokens if token not in roles.values()]
    if reserved:
        tokenizer.backend.add_special_tokens(reserved)  # so that they are found in text too; their ids stay
        tokenizer = Tokenizer(tokenizer.backend, tokenizer.settings)
    if out is not None:
        tokenizer.save(out)
    return tokenizer


def _train_wordpiece(texts: Iterable[str], plan: _Plan) -> Tokenizer:
    normalization = Normalization(
        lowercase=plan.lowercase, strip_accents=plan.strip_accents, chinese_characters=plan.chinese_characters
    )
    vocabulary = train_wordpiece(
        count_words(texts, normalization),
        size=plan.size,
        special_tokens=plan.special_tokens,
        min_frequency=plan.min_frequency,
        alphabet_limit=plan.alphabet_limit,
        score=plan.score,
    )
    return Tokenizer.from_vocabulary(vocabulary, normalization)


def _train_bpe(texts: Iterable[str], plan: _Plan) -> Tokenizer:
    from bothways.text.byte_level import train_byte_level

    normalization = PlainNormalization(lowercase=plan.lowercase, strip_accents=plan.strip_accents)
    backend = train_byte_level(
        texts,
        size=plan.size,
        special_tokens=plan.special_tokens,
        min_frequency=plan.min_frequency,
        normalizer=normalization.normalizer(),
    )
    return Tokenizer(backend)


def _train_unigram(texts: Iterable[str], plan: _Plan) -> Tokenizer:
    from bothways.text.sentencepiece import unigram
    from bothways.text.unigram import train_unigram

    normalization = PlainNormalization(lowercase=plan.lowercase, strip_accents=plan.strip_accents, compatible=True)
    pieces = train_unigram(
        count_words(texts, normalization, _MOST_WORDS),
        size=plan.size,
        special_tokens=plan.special_tokens,
        min_frequency=plan.min_frequency,
        alphabet_limit=plan.alphabet_limit,
    )
    return Tokenizer(unigram(pieces, plan.special_tokens, normalization))


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


def _check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise BothwaysError(f"{out} is a file: give a folder to save the tokenizer in")
    held = tokenizer_file(out)
    if held is not None and not overwrite:
        raise BothwaysError(f"{out} holds a tokenizer already ({held.name}): give another folder, or --overwrite")
    other = min((path.name for path in out.glob("*") if path.name not in FILES), default=None)
    if held is not None and other is not None:
        raise BothwaysError(
            f"{out} holds more than a tokenizer ({other}), which another vocabulary would not suit: give another folder"
        )


def _paragraphs(source: Source, text: str) -> Iterator[str]:
    with progress("Counting words", unit="documents") as job:
        number = 0
        for number, document in enumerate(read_documents(source, text), start=1):
            yield from document.paragraphs
            if number % 100 == 0:
                job.reach(number)
        job.reach(number)
