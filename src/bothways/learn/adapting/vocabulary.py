"""Does a vocabulary suit a domain? How it spells the domain's words, what another would do, and new words for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tokenizers
import torch

from bothways.errors import BothwaysError
from bothways.run.model import Model
from bothways.text.tokenizer import Tokenizer
from bothways.text.word_counts import count_words

PAYS = 1.10
"""How many times shorter an own vocabulary has to make the text to be worth a training from random weights."""
_LOOKED_AT = 100_000  # distinct words
_SHOWN = 20
_FEWEST = 5  # occurrences of a word that becomes a token


@dataclass(frozen=True)
class VocabularyCheck:
    """How a vocabulary spells a domain.

    Attributes:
        domain: Tokens a word of the domain's held-out text.
        general: The same of general text; None where there is none.
        own: The same of a vocabulary of that size made from the domain.
        unknown: Share of the domain's tokens that are unknown.
        shorter: How many times shorter the own one makes the text.
        words: Words of the domain that take most tokens, all occurrences together: word, pieces, occurrences.
    """

    domain: float
    general: float | None
    own: float
    unknown: float
    shorter: float
    words: list[tuple[str, list[str], int]]

    @property
    def verdict(self) -> str:
        """In a sentence, what to do."""
        share = 1 - 1 / self.shorter
        if self.shorter < PAYS:
            return (
                f"The vocabulary suits: one of the domain's own would make its text only {max(share, 0):.0%} shorter "
                f"({self.own:.2f} instead of {self.domain:.2f} tokens a word)."
            )
        return (
            f"An own vocabulary would make the domain's text {share:.0%} shorter ({self.own:.2f} instead of "
            f"{self.domain:.2f} tokens a word): extending the model's pays (--vocabulary extend), or random "
            "weights if there is much text."
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "verdict": self.verdict}


def check_vocabulary(
    tokenizer: Tokenizer, own: Tokenizer, domain: Sequence[str], general: Sequence[str], counts: Counter[str]
) -> VocabularyCheck:
    """Compares a vocabulary with one of the domain.

    Args:
        tokenizer: The one in question.
        own: One of the same size, trained on the domain.
        domain: Text of the domain that neither was trained on.
        general: General text; may be empty.
        counts: Words of the domain and how often they occur.
    """
    spelled, unknown = _spelled(tokenizer, domain)
    theirs, _ = _spelled(own, domain)
    split = sorted(_split_words(tokenizer, counts), key=lambda row: (-row[2] * (len(row[1]) - 1), row[0]))
    return VocabularyCheck(
        domain=spelled,
        general=_spelled(tokenizer, general)[0] if general else None,
        own=theirs,
        unknown=unknown,
        shorter=spelled / theirs,
        words=split[:_SHOWN],
    )


def _spelled(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[float, float]:
    """Tokens a word, as white space separates words, and the share of unknown ones."""
    encoded = tokenizer.encode(texts, special_tokens=False)
    unknown = int((encoded.token_ids == tokenizer.roles.get("unk", -1)).sum())
    words = sum(len(text.split()) for text in texts)
    return len(encoded.token_ids) / max(words, 1), unknown / max(len(encoded.token_ids), 1)


def _split_words(tokenizer: Tokenizer, counts: Counter[str]) -> list[tuple[str, list[str], int]]:
    """The words that are spelled in several tokens, all of them known."""
    words = sorted(counts, key=lambda word: (-counts[word], word))[:_LOOKED_AT]
    encoded = tokenizer.encode(words, special_tokens=False)
    unknown, found = tokenizer.roles.get("unk", -1), []
    for place, word in enumerate(words):
        ids = encoded.sequence(place)
        if len(ids) > 1 and unknown not in ids:
            found.append((word, [tokenizer.tokens[token] for token in ids], counts[word]))
    return found


def extended(tokenizer: Tokenizer, counts: Counter[str], count: int) -> tuple[Tokenizer, list[list[int]]]:
    """A WordPiece tokenizer with more tokens: the words that save most tokens, whole.

    Args:
        tokenizer: The one to extend; it stays as it is.
        counts: Words of the domain, as its own normalisation makes them, and how often they occur.
        count: How many tokens are added, at most.

    Returns:
        The new one, whose further ids begin at ``tokenizer.size``; and for each new token the ids that it was spelled
        with.

    Raises:
        BothwaysError: It is of another kind, or no word would be worth a token.
    """
    whole = json.loads(tokenizer.backend.to_str())
    if whole["model"]["type"] != "WordPiece":
        raise BothwaysError(
            f"a vocabulary of kind {whole['model']['type']} has no room for single words; keep it, or take an own "
            "vocabulary (only WordPiece can be extended)"
        )
    split = [row for row in _split_words(tokenizer, counts) if row[2] >= _FEWEST and row[0].isalpha()]
    split.sort(key=lambda row: (-row[2] * (len(row[1]) - 1), row[0]))
    chosen = split[:count]
    if not chosen:
        raise BothwaysError("every word that occurs often is one token already; keep the vocabulary as it is")
    for place, (word, _, _) in enumerate(chosen, start=tokenizer.size):
        whole["model"]["vocab"][word] = place
    made = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(whole)), tokenizer.settings)
    return made, [[tokenizer.vocabulary[piece] for piece in pieces] for _, pieces, _ in chosen]


def word_counts(tokenizer: Tokenizer, texts: Any) -> Counter[str]:
    """How often words occur, as a tokenizer normalises them."""
    return count_words(texts, tokenizer.normalization, 1_000_000)


@torch.no_grad()
def with_more_tokens(base: Model, tokenizer: Tokenizer, pieces: Sequence[Sequence[int]]) -> Model:
    """A model with rows for new tokens, each the mean of what its pieces had; all else stays as it was.

    Args:
        base: The model.
        tokenizer: Of the result; its last ids are the new ones.
        pieces: For each new token the ids that it was spelled with.
    """
    old, first = base.config.embeddings.vocab_size, tokenizer.size - len(pieces)
    size = max(old, tokenizer.size)
    config = base.config.derive(embeddings__vocab_size=size)
    made = Model.random(config, tokenizer, list(base.head_configs.values()), device=str(base.device), keep_pooler=True)
    for kind, new in (("encoder", made.encoder), *made.heads.items()):
        known = base.encoder if kind == "encoder" else base.heads[kind]
        state = known.state_dict()
        for name in [name for name, value in state.items() if has_row_a_token(kind, name, value, old)]:
            rows = torch.cat([state[name], state[name].new_zeros(size - old, *state[name].shape[1:])])
            rows[first : first + len(pieces)] = torch.stack([rows[list(ids)].mean(0) for ids in pieces])
            state[name] = rows
        new.load_state_dict(state)
    made.max_length = base.max_length
    return made


def has_row_a_token(kind: str, name: str, value: torch.Tensor, vocabulary: int) -> bool:
    """The token table, which the masked-token head shares, and that head's biases."""
    if kind == "encoder":
        return name == "embeddings.tokens.weight"
    return kind == "mlm" and name.endswith("bias") and value.shape == (vocabulary,)
