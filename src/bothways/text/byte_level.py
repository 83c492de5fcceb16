"""Byte-level BPE (GPT-2, RoBERTa): words are cut at spaces and punctuation, written in bytes, and merged by a list.

Every text has tokens, for every byte is one. A word keeps the space before it, shown as "Ġ".

Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019), section 2.2; Liu et al., RoBERTa
(2019), section 4.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bothways.errors import BothwaysError
from bothways.progress import say
from bothways.text.roles import add_specials, bert_template, role_names


def byte_level(
    vocabulary: dict[str, int],
    merges: Sequence[tuple[str, str]],
    settings: Mapping[str, Any],
    where: str,
    *,
    normalizer: normalizers.Normalizer | None = None,
) -> Tokenizer:
    """A byte-level BPE tokenizer around a vocabulary and its merges, with its family's template.

    ``<s>`` at the beginning means RoBERTa's, ``[CLS]`` DeBERTa's. RoBERTa's offsets leave out the space before a word.

    Args:
        vocabulary: The id of each token.
        merges: Pairs of tokens in the order in which they are merged.
        settings: May name the special tokens (``cls_token`` ...) and say ``add_prefix_space``, ``trim_offsets``.
        where: The vocabulary's place, for error messages.
        normalizer: How text is rewritten first; the published ones do not.

    Raises:
        BothwaysError: Vocabulary and merges do not fit together, or a special token is absent.
    """
    try:
        model = models.BPE(vocab=vocabulary, merges=list(merges), continuing_subword_prefix="", end_of_word_suffix="")
    except Exception as error:  # the library raises bare Exception
        raise BothwaysError(f"{where} holds a vocab.json and merges.txt that do not fit ({error})") from None
    backend = Tokenizer(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    spaced = bool(settings.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    backend.decoder = decoders.ByteLevel()
    names = role_names(vocabulary.get, settings)
    sep, cls = add_specials(backend, names, where, greedy_mask=True)
    if names["cls"] == "<s>":
        trim = bool(settings.get("trim_offsets", True))
        backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=trim, add_prefix_space=spaced)
    else:
        backend.post_processor = bert_template(sep, cls)
    return backend


def train_byte_level(
    texts: Iterable[str],
    *,
    size: int,
    special_tokens: Sequence[str],
    min_frequency: int,
    normalizer: normalizers.Normalizer,
) -> Tokenizer:
    """Trains a byte-level BPE tokenizer: of all neighbours the most frequent pair becomes a token, again and again.

    The texts are streamed; memory grows with the number of distinct words only. Every word has the space before it,
    also the first of a text.

    Args:
        texts: Paragraphs or whole documents.
        size: Tokens in the vocabulary, special tokens and the 256 bytes included. There are fewer where no pair is
            frequent enough.
        special_tokens: Tokens that stand first in the vocabulary and are never made of text.
        min_frequency: The fewest occurrences of a pair that is merged.
        normalizer: How text is rewritten first.

    Raises:
        BothwaysError: There is no text, or `size` cannot hold the special tokens and the bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if size < len(special_tokens) + len(alphabet):
        raise BothwaysError(
            f"a vocabulary of {size:,} tokens cannot hold {len(special_tokens)} special tokens and the "
            f"{len(alphabet)} bytes: ask for {len(special_tokens) + len(alphabet):,} or more"
        )
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    whole = (re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts)  # halves of pairs, as the encoder reads them
    learner.train_from_iterator(whole, trainer)
    model = json.loads(learner.to_str())["model"]
    merges = [(left, right) for left, right in model["merges"]]
    if not merges and size > len(special_tokens) + len(alphabet):
        raise BothwaysError("there is no word to train a vocabulary on: give text")
    settings = {"add_prefix_space": True}
    backend = byte_level(model["vocab"], merges, settings, "the list of special tokens", normalizer=normalizer)
    say(f"Vocabulary of {backend.get_vocab_size():,} tokens, {len(merges):,} merges")
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])  # the space put before
    return backend
