"""Which language a text is in (py3langid, from Lui and Baldwin 2012), and whether a vocabulary can spell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, need
from bothways.text.documents import Document

if TYPE_CHECKING:
    from bothways.text.tokenizer import Tokenizer

_LOOKED_AT = 400  # characters: enough to tell, and soon told
_FOREIGN = 1.9  # tokens a word; English is spelled by an English vocabulary in 1.1 to 1.5
_UNKNOWN = 0.05  # share of tokens
_WORDS = 2000


@cache
def known_languages() -> tuple[str, ...]:
    """The codes (ISO 639-1) of the languages that can be told."""
    found = need("py3langid", "corpus", "Telling languages").rank("a text")
    return tuple(sorted(str(code) for code, _ in found))


def language_of(text: str) -> str:
    """The code of the language that a text is most likely in, by its first 400 characters."""
    return str(need("py3langid", "corpus", "Telling languages").classify(text[:_LOOKED_AT].replace("\n", " "))[0])


def check_language(documents: Sequence[Document], tokenizer: Tokenizer) -> None:
    """Refuses text in another language than that of a vocabulary, if the vocabulary spells it badly.

    Where nothing is installed that tells languages, nothing is refused.

    Args:
        documents: Some of the text.
        tokenizer: What is to make tokens of it.

    Raises:
        BothwaysError: The languages differ, and a word takes two tokens or some cannot be spelled.
    """
    if find_spec("py3langid") is None:
        return
    texts = [" ".join(document.paragraphs)[:_LOOKED_AT] for document in documents]
    encoded = tokenizer.encode(texts, special_tokens=False)
    words, tokens = sum(len(text.split()) for text in texts), len(encoded.token_ids)
    unknown = int((encoded.token_ids == tokenizer.roles.get("unk", -1)).sum()) / max(tokens, 1)
    fertility = tokens / max(words, 1)
    if fertility < _FOREIGN and unknown < _UNKNOWN:
        return
    (theirs, count), ours = Counter(map(language_of, texts)).most_common(1)[0], vocabulary_language(tokenizer)
    if ours is None or theirs == ours or count < 0.5 * len(texts):
        return
    raise BothwaysError(
        f"the corpus is in {theirs!r} ({count} of the first {len(texts)} documents), but the vocabulary is one of "
        f"{ours!r}: it takes {fertility:.1f} tokens a word and {unknown:.0%} of them are unknown; train a tokenizer on "
        "this text, or take it all the same (--any-language)"
    )


def vocabulary_language(tokenizer: Tokenizer) -> str | None:
    """The language that most words of a vocabulary are of; None where it holds too few words."""
    words = [word for token in tokenizer.tokens if len(word := token.lstrip("Ġ▁")) >= 4 and word.isalpha()]
    if len(words) < 100:
        return None
    chosen = words[:: max(1, len(words) // _WORDS)]
    step = 50
    told = Counter(language_of(" ".join(chosen[at : at + step])) for at in range(0, len(chosen), step))
    return told.most_common(1)[0][0]
