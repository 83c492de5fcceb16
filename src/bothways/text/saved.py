"""A tokenizer's files: ``tokenizer.json``, ``tokenizer_config.json`` and, for WordPiece, ``vocab.txt``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import models, pre_tokenizers

from bothways.errors import BothwaysError
from bothways.text.files import replacing
from bothways.text.roles import BERT_NAMES

if TYPE_CHECKING:
    from bothways.text.tokenizer import Tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
_AS_FILED = "PreTrainedTokenizerFast"  # the class elsewhere that takes tokenizer.json as it is


def write_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes a tokenizer's files; each appears whole or not at all.

    Raises:
        BothwaysError: The folder cannot be written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BothwaysError(f"the folder {path} cannot be made ({error.strerror})") from None
    with replacing(path / "tokenizer.json") as target:
        target.write_text(tokenizer.backend.to_str(pretty=True), encoding="utf-8")
    with replacing(path / "tokenizer_config.json") as target:
        settings = json.dumps(_settings(tokenizer), indent=2, ensure_ascii=False)
        target.write_text(settings + "\n", encoding="utf-8")
    if isinstance(tokenizer.backend.model, models.WordPiece):
        with replacing(path / "vocab.txt") as target:
            target.write_text("".join(f"{token}\n" for token in tokenizer.tokens), encoding="utf-8", newline="\n")
    else:
        (path / "vocab.txt").unlink(missing_ok=True)  # of a tokenizer that was there before


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    settings = {key: value for key, value in tokenizer.settings.items() if key != "model_max_length"}
    normalization = tokenizer.normalization
    if normalization is not None:
        settings["do_lower_case"] = normalization.lowercase
        settings["strip_accents"] = normalization.strip_accents
        settings["tokenize_chinese_chars"] = normalization.chinese_characters
    splitter = tokenizer.backend.pre_tokenizer
    if isinstance(splitter, pre_tokenizers.ByteLevel):
        settings["add_prefix_space"] = splitter.add_prefix_space
    if tokenizer.max_length is not None:
        settings["model_max_length"] = tokenizer.max_length
    settings["tokenizer_class"] = _class_elsewhere(tokenizer)
    for role, place in tokenizer.roles.items():
        settings.setdefault(f"{role}_token", tokenizer.tokens[place])
    return dict(sorted(settings.items()))


def _class_elsewhere(tokenizer: Tokenizer) -> str:
    """The class of `transformers` that gives this tokenizer again.

    Its classes of the families build their own normaliser, and for SentencePiece models not the published one; so for
    all but WordPiece and plain byte-level BPE the class is named that takes ``tokenizer.json`` as it is.
    """
    backend = tokenizer.backend
    stated = tokenizer.settings.get("tokenizer_class")
    if isinstance(backend.model, models.WordPiece):
        names = [tokenizer.tokens[place] for place in tokenizer.roles.values()]
        plain = tokenizer.normalization is not None and tokenizer.normalization.clean_text
        return stated or ("BertTokenizer" if names == list(BERT_NAMES.values()) and plain else _AS_FILED)
    as_built = isinstance(backend.model, models.BPE) and backend.normalizer is None
    return stated if as_built and stated else _AS_FILED
