"""What is known of a saved model besides its weights: plain data and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bothways.model.config import HeadConfig
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.tokenizer import Tokenizer


@dataclass(kw_only=True)
class Known:
    """What a model folder says of its model.

    Attributes:
        head_configs: The heads' configurations by kind.
        tokenizer: The tokenizer, or None for a folder of weights alone.
        sentence: How texts become vectors.
        max_length: The longest text in tokens that it was made for, special tokens included; None: the encoder's limit.
        truncation: What happens to longer texts, as in training: a policy of `Tokenizer.encode`.
        task: What it was fine-tuned for.
        decoding: How numbers of heads become answers, by kind of head; plain data.
        lower: By precision what a comparison with float32 found: which layers are ``kept`` in higher precision, how
            like the outputs are (``check``), and the ``bound`` that was asked; and the fastest precision of kinds of
            processors (`bothways.run.bound`). Plain data, empty where nothing was compared.
    """

    head_configs: dict[str, HeadConfig]
    tokenizer: Tokenizer | None
    sentence: SentenceRecipe = field(default_factory=SentenceRecipe)
    max_length: int | None = None
    truncation: str = "warn"
    task: str | None = None
    decoding: dict[str, dict[str, Any]] = field(default_factory=dict)
    lower: dict[str, Any] = field(default_factory=dict)
