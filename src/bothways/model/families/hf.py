"""Translating ``config.json`` of the Hugging Face layout: which keys mean what, which are knowingly ignored."""

from __future__ import annotations

import difflib
import warnings
from typing import Any, TypeVar

from bothways.errors import BothwaysError, BothwaysWarning, closest
from bothways.model.config import AttentionConfig, EncoderConfig

# Keys that say nothing about the encoder itself: how it was saved, generation settings every config used to carry,
# labels (read by the folder reader), and the outputs a call returns by default.
COMMON = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _name_or_path _num_labels add_cross_attention architectures
    attn_implementation bad_words_ids begin_suppress_tokens bos_token_id bothways chunk_size_feed_forward
    classifier_dropout cls_token_id cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample
    dtype early_stopping encoder_no_repeat_ngram_size eos_token_id eos_token_ids exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label is_decoder
    is_encoder_decoder label2id label_list length_penalty mask_token_id max_length max_seq_length min_length
    model_type no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences output_attentions
    output_hidden_states output_past output_scores prefix problem_type pruned_heads remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate sbert_ce_default_activation_function
    sentence_transformers sep_token_id suppress_tokens task_specific_params
    temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype
    torchscript transformers_version typical_p unk_token_id use_bfloat16 use_cache vocab_file xla_device
    """.split()  # noqa: SIM905 (a word list reads better than a quoted one)
)

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "tanh": "tanh",
}
HF_ACTIVATIONS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}

_Kind = TypeVar("_Kind", bound=AttentionConfig)

POOLINGS = {"cls": "first", "mean": "mean"}
HF_POOLINGS = {ours: theirs for theirs, ours in POOLINGS.items()}

PROBLEMS = {
    "single_label_classification": "one",
    "multi_label_classification": "several",
    "regression": "scores",
}
HF_PROBLEMS = {ours: theirs for theirs, ours in PROBLEMS.items()}


def attention_of(config: EncoderConfig, kind: type[_Kind]) -> _Kind:
    """An encoder's attention, where it is of the kind that a family's ``config.json`` describes.

    Raises:
        BothwaysError: It is of another kind, which cannot be said there.
    """
    if not isinstance(config.attention, kind):
        raise BothwaysError(
            f"the config.json of {config.family} cannot say attention of the kind {config.attention.kind}"
        )
    return config.attention


class Reader:
    """Reads keys off a ``config.json`` and complains about what nobody asked for."""

    def __init__(
        self, config: dict[str, Any], where: str = "config.json", ignored: frozenset[str] = frozenset()
    ) -> None:
        self.config, self.where, self.known = config, where, COMMON | ignored

    def get(self, key: str, default: Any = ...) -> Any:
        """The value of a key.

        Raises:
            BothwaysError: The key is missing and has no default.
        """
        self.known = self.known | {key}
        if key in self.config:
            return self.config[key]
        if default is ...:
            raise BothwaysError(f"{self.where} lacks the key {key!r}")
        return default

    def only(self, key: str, *allowed: Any) -> None:
        """Accepts a key only with values that mean what this family computes.

        Raises:
            BothwaysError: The value is another one.
        """
        value = self.get(key, allowed[0])
        if value not in allowed:
            raise BothwaysError(f"{self.where} says {key} = {value!r}, which is not supported; {allowed[0]!r} is")

    def activation(self, key: str, default: str = "gelu") -> Any:
        """The activation under a key, in our words."""
        return self.one_of(key, ACTIVATIONS, default)

    def one_of(self, key: str, words: dict[str, str], default: str) -> Any:
        """The word under a key, in our words.

        Args:
            key: Of the file.
            words: Theirs and ours.
            default: Of theirs.

        Raises:
            BothwaysError: There is no such word; those there are, are listed.
        """
        value = self.get(key, default)
        if value not in words:
            known = ", ".join(words)
            raise BothwaysError(f"{self.where} says {key} = {value!r}, which is not supported; there are {known}")
        return words[value]

    def finish(self) -> None:
        """Complains about keys that nobody asked for.

        A key close to a known one is most likely a slip that would silently change the model, so it is an error. Any
        other is somebody's own note, which published folders often carry, so it is only reported.

        Raises:
            BothwaysError: A key looks like a misspelt one; the closest known key is named.
        """
        for key in self.config.keys() - self.known:
            if difflib.get_close_matches(key, self.known, n=1, cutoff=0.8):
                raise BothwaysError(f"{self.where} has an unknown key {key!r}{closest(key, self.known)}")
            warnings.warn(BothwaysWarning(f"{self.where} has a key {key!r} that is not used here"), stacklevel=2)
