"""Filling in masked places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answers import Fill, as_list, fill_in
from bothways.run.engines.protocol import Output
from bothways.run.numbers import softmax
from bothways.text.truncation import TooLongError

if TYPE_CHECKING:
    from bothways.run.runner import Runner
    from bothways.text.tokenizer import Tokenizer


def fill_mask(model: Runner, text: str | Sequence[str], top: int) -> Any:
    """The likeliest tokens for each masked place; as `Model.fill_mask` says."""
    model.head("mlm", "fill_mask")
    texts = as_list(text)
    tokenizer = model.tokenizer
    mask_id, known = tokenizer.mask_id, tokenizer.size  # the table may have more rows than tokens
    mask = tokenizer.tokens[mask_id]
    if top < 1:
        raise BothwaysError(f"fill_mask gives at least one token for a mask; top cannot be {top}")
    for place, one in enumerate(texts):
        if mask not in one:
            which = _called(text, place)
            raise BothwaysError(f"{which} has no {mask} to fill in; write {mask} where a word is missing")
    try:
        encoded = tokenizer.encode(texts, max_length=model.max_length, truncation="error")
    except TooLongError as error:
        raise BothwaysError(error.told(_called(text, error.place))) from None
    found: list[list[list[Fill]]] = [[] for _ in texts]
    for batch, logits in model.run(encoded, Output("mlm", token=mask_id)):
        where, shares = np.flatnonzero(batch.token_ids == mask_id), softmax(logits)[:, :known]
        best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        likeliest = np.take_along_axis(shares, best, axis=1)
        for place, values, ids in zip(where.tolist(), likeliest.tolist(), best.tolist(), strict=True):
            row = int(batch.rows[batch.sequence_of_token[place]])
            found[row].append(_fills(tokenizer, texts[row], len(found[row]), values, ids))
    answers = [fills[0] if len(fills) == 1 else fills for fills in found]
    return answers[0] if isinstance(text, str) else answers


def _called(text: str | Sequence[str], place: int) -> str:
    return "the text" if isinstance(text, str) else f"text {place + 1}"


def _fills(tokenizer: Tokenizer, text: str, which: int, values: list[float], ids: list[int]) -> list[Fill]:
    mask = tokenizer.tokens[tokenizer.mask_id]
    pieces = text.split(mask)
    before, after = mask.join(pieces[: which + 1]), mask.join(pieces[which + 1 :])
    spaced = tokenizer.spelling.marks_beginnings
    fills = []
    for token, value in zip(ids, values, strict=True):
        reading = tokenizer.read(token)
        shown = reading.text if spaced else tokenizer.tokens[token]
        fills.append(Fill(shown, value, fill_in(before, reading, after, spaced=spaced)))
    return fills
