"""A smaller vocabulary: the tokens that given texts need, and the rows of the tables that belong to them.

In a multilingual model most parameters are rows of tokens that one language never uses (Abdaoui, Pradel and Sigel
2020, "Load What You Need"). Texts whose tokens all stay are spelled as before, so their vectors stay the same:
WordPiece takes the longest token that there is, Unigram the likeliest spelling, BPE merges in the order of its merges,
and none of these looks at tokens that a text does not get.

Shapes: V tokens before, K after.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import tokenizers
import torch

from bothways.errors import BothwaysError
from bothways.learn.adapting.vocabulary import has_row_a_token
from bothways.learn.compression.rebuilt import rebuilt
from bothways.run.model import Model
from bothways.text.spelling import BYTES
from bothways.text.tokenizer import Tokenizer

_TEXTS = 4096  # encoded at a time


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """``(V,)`` how often each token occurs in texts, which are streamed."""
    counts, waiting = np.zeros(tokenizer.size, dtype=np.int64), iter(texts)
    while some := list(islice(waiting, _TEXTS)):
        encoded = tokenizer.encode(some, special_tokens=False)
        counts += np.bincount(encoded.token_ids, minlength=tokenizer.size)
    return counts


def kept_tokens(
    tokenizer: Tokenizer, counts: np.ndarray, fewest: int = 1, most: int | None = None, always: Iterable[str] = ()
) -> np.ndarray:
    """``(K,)`` the ids that stay, in their order.

    Special and added tokens stay, bytes, and single letters, digits and marks that occur or are ASCII: what was never
    seen is spelled with them.

    Args:
        tokenizer: The one in question.
        counts: ``(V,)`` as `count_tokens` gives them.
        fewest: Occurrences of a token that stays.
        most: The most tokens beside those that stay anyway, the frequent ones; None for all.
        always: Texts whose tokens stay, such as prompts.

    Raises:
        BothwaysError: Nothing would be left out.
    """
    keep = np.zeros(tokenizer.size, dtype=bool)
    keep[list(tokenizer.special_ids)] = True
    keep[[place for place in tokenizer.backend.get_added_tokens_decoder() if place < tokenizer.size]] = True
    seen = {tokenizer.read(int(token)).text.strip() for token in np.flatnonzero(counts)}
    letters = {letter for text in seen for letter in text}
    by_bytes = tokenizer.spelling.scheme == BYTES
    for token, name in enumerate(tokenizer.tokens):
        text = tokenizer.read(token).text.strip()
        is_byte = (name.startswith("<0x") and name.endswith(">")) or (by_bytes and len(name) == 1)
        keep[token] |= is_byte or (len(text) <= 1 and (text in letters or text.isascii()))
    for text in always:
        keep[tokenizer.encode([text], special_tokens=False).token_ids] = True
    order = np.argsort(-counts, kind="stable")
    chosen = order[counts[order] >= max(fewest, 1)][:most]
    keep[chosen] = True
    if keep.all():
        raise BothwaysError("these texts use every token; take those that occur more often (fewest), or fewer (tokens)")
    return np.flatnonzero(keep)


def smaller_tokenizer(tokenizer: Tokenizer, kept: np.ndarray) -> tuple[Tokenizer, np.ndarray]:
    """A tokenizer of fewer tokens, which get new ids in the order of the old ones.

    Args:
        tokenizer: Stays as it is.
        kept: ``(K,)`` ids that stay; of BPE those that they are merged of stay too.

    Returns:
        The tokenizer, and the ids that stayed.

    Raises:
        BothwaysError: Its kind is not known.
    """
    whole = json.loads(tokenizer.backend.to_str())
    model, names = whole["model"], tokenizer.tokens
    chosen = {names[token] for token in kept}
    if model["type"] == "BPE":
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        _with_parts(chosen, merges)
        model["merges"] = [list(merge) for merge in merges if {*merge, "".join(merge)} <= chosen]
    elif model["type"] not in ("WordPiece", "Unigram"):
        raise BothwaysError(f"a vocabulary of kind {model['type']} cannot be made smaller")
    stay = np.array([token for token, name in enumerate(names) if name in chosen])
    place = {int(old): new for new, old in enumerate(stay)}
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in stay if old < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = place[model["unk_id"]]
    else:
        model["vocab"] = {name: place[old] for name, old in model["vocab"].items() if old in place}
    for added in whole["added_tokens"]:
        added["id"] = place[added["id"]]
    _renumber(whole.get("post_processor"), place)
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(whole)), tokenizer.settings), stay


def _with_parts(chosen: set[str], merges: list[tuple[str, ...]]) -> None:
    """Adds what chosen tokens are merged of, all the way down."""
    parts: dict[str, tuple[str, ...]] = {}
    for merge in merges:
        parts.setdefault("".join(merge), merge)  # the first that makes a token is the one that is used
    waiting = list(chosen)
    while waiting:
        for part in parts.get(waiting.pop(), ()):
            if part not in chosen:
                chosen.add(part)
                waiting.append(part)


def _renumber(processor: Any, place: dict[int, int]) -> None:
    """New ids in what puts special tokens around texts."""
    if not processor:
        return
    for inner in processor.get("processors", ()):
        _renumber(inner, place)
    for special in processor.get("special_tokens", {}).values() if processor["type"] == "TemplateProcessing" else ():
        special["ids"] = [place[old] for old in special["ids"]]
    for name in ("cls", "sep"):
        if isinstance(processor.get(name), list):
            processor[name] = [processor[name][0], place[processor[name][1]]]


def with_fewer_tokens(base: Model, tokenizer: Tokenizer, kept: np.ndarray) -> Model:
    """A model with the rows of the tokens that stay; all else is as it was.

    Args:
        base: The model; it stays as it is.
        tokenizer: With the new ids.
        kept: ``(K,)`` the old id of each new one.

    Raises:
        BothwaysError: Positions are counted from the padding token's id, and that would change.
    """
    tables, rows = base.config.embeddings, torch.from_numpy(kept)
    places = {int(token): place for place, token in enumerate(kept)}
    pad = places.get(tables.pad_id, 0)
    if tables.positions and tables.position_offset == tables.pad_id + 1 != pad + 1:
        raise BothwaysError(f"{base.name} counts positions from its padding token, whose id would change")
    config = base.config.derive(embeddings__vocab_size=len(kept), embeddings__pad_id=pad)

    def tensor(kind: str, name: str, value: torch.Tensor) -> torch.Tensor:
        return value[rows] if has_row_a_token(kind, name, value, tables.vocab_size) else value

    return rebuilt(base, config, tensor, tokenizer)
