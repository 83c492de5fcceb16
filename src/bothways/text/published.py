"""Tokenizers as they are published.

That is ``tokenizer.json``, ``vocab.txt``, ``vocab.json`` with ``merges.txt``, and models of SentencePiece.

Each reader gives a `tokenizers` object and the settings that lay beside it (``tokenizer_config.json`` and
``special_tokens_map.json``); what a special token is for is found from the settings, the template or its name.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from bothways.errors import BothwaysError, closest
from bothways.text.byte_level import byte_level
from bothways.text.normalize import Normalization
from bothways.text.roles import add_specials, bert_template, role_names

LEFT_BEHIND = ("name_or_path", "tokenizer_file", "full_tokenizer_file", "special_tokens_map_file")  # where it once lay
MOST_LETTERS = 100  # a longer word is [UNK], as in the published BERT


_OWN_WAYS = ("BertJapaneseTokenizer", "BertweetTokenizer", "HerbertTokenizer", "PhobertTokenizer", "RoFormerTokenizer")
"""Classes of `transformers` that read a vocabulary otherwise than its name says: after a parser of words, by merges."""


class Published(NamedTuple):
    """A tokenizer as read: the `tokenizers` object and the settings beside it (empty when there are none)."""

    backend: Tokenizer
    settings: dict[str, Any]


def read_published(source: str | Path, lowercase: bool | None = None) -> Published:
    """Reads a published tokenizer.

    Args:
        source: A folder, or one of the files that say all: ``tokenizer.json``, ``vocab.txt``, a SentencePiece model
            with the JSON files of its family beside it.
        lowercase: Overrides what the files say. When they say nothing, a vocabulary without capital letters means a
            lower-casing tokenizer.

    Raises:
        BothwaysError: Nothing is there, or it is not a tokenizer.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, lowercase)
    if not path.exists():
        near = closest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise BothwaysError(f"there is no tokenizer at {path}{near}")
    if path.name.endswith((".json", ".json.gz")):
        return _read_json(path, {}, lowercase)
    if path.suffix == ".txt":
        return _read_vocabulary(path, {}, lowercase)
    if path.suffix == ".model":
        return _read_model(path, _settings(path.parent), lowercase)
    raise BothwaysError(f"{path} is neither a folder, a tokenizer.json, a vocab.txt nor a SentencePiece model")


def tokenizer_file(folder: Path) -> Path | None:
    """The file of a folder that a tokenizer is read from, the most telling one first; None if there is none."""
    for name in ("tokenizer.json", "tokenizer.json.gz", "vocab.txt"):
        if (folder / name).is_file():
            return folder / name
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return folder / "vocab.json"
    return min(folder.glob("*.model"), default=None)


def _read_folder(folder: Path, lowercase: bool | None) -> Published:
    path, settings = tokenizer_file(folder), _settings(folder)
    if path is None:
        pickled = "; bpe_encoder.bin is a pickle, which is not opened: save it as tokenizer.json first"
        raise BothwaysError(
            f"{folder} holds no tokenizer (tokenizer.json, vocab.txt, vocab.json and merges.txt, or a SentencePiece "
            f"model){pickled if (folder / 'bpe_encoder.bin').exists() else ''}"
        )
    if path.suffix == ".model":
        return _read_model(path, settings, lowercase)
    if path.name not in ("vocab.txt", "vocab.json"):
        return _read_json(path, settings, lowercase)
    _refuse_own_ways(path, settings)
    read = _read_vocabulary if path.name == "vocab.txt" else _read_merges
    published = read(path, settings, lowercase)
    _add_tokens(published.backend, path, settings)
    return published


def _refuse_own_ways(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuses a vocabulary that a class, or code of the folder's own, reads in another way than is done here."""
    config = _json_object(path.parent / "config.json")
    stated = str(settings.get("tokenizer_class") or config.get("tokenizer_class")).removesuffix("Fast")
    code = settings.get("auto_map")
    if stated in _OWN_WAYS or (isinstance(code, dict) and "AutoTokenizer" in code):
        raise BothwaysError(
            f"{path.parent} says that {stated} reads its {path.name}, in a way of its own that is not known here, so "
            "the tokens would be others; a tokenizer.json says all, where that tokenizer can be saved as one"
        )


def _settings(folder: Path) -> dict[str, Any]:
    stated = {**_json_object(folder / "special_tokens_map.json"), **_json_object(folder / "tokenizer_config.json")}
    return {key: _plain(value) for key, value in stated.items() if key not in LEFT_BEHIND}


def _json_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BothwaysError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise BothwaysError(f"{path} should hold a JSON object")
    return value


def _plain(value: Any) -> Any:
    """A token written with its options becomes its name; the options stand in tokenizer.json."""
    return value["content"] if isinstance(value, dict) and "content" in value else value


def _read_json(path: Path, settings: dict[str, Any], lowercase: bool | None) -> Published:
    try:
        raw = path.read_bytes()
        backend = Tokenizer.from_buffer(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except Exception as error:  # the library raises bare Exception
        raise BothwaysError(f"{path} is not a tokenizer.json that can be read ({error})") from None
    backend.no_truncation()  # lengths and padding stored in the file are not part of the tokenizer
    backend.no_padding()
    if backend.post_processor is None:
        _add_template(backend, settings)
    stated = {} if _generic(settings) else dict(settings)  # a named class builds its normaliser from the settings
    if lowercase is not None:
        stated["do_lower_case"] = lowercase
    present = find_normalization(backend)
    if present is not None:
        backend.normalizer = _normalization(stated, present).normalizer()
    elif lowercase is not None:
        raise BothwaysError(f"lowercase={lowercase} cannot be set: {path} has no BERT normaliser")
    return Published(backend, settings)


def _add_template(backend: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Gives BERT's template to a tokenizer that was saved without one but has [CLS] and [SEP]."""
    names = role_names(backend.token_to_id, settings)
    sep, cls = backend.token_to_id(names["sep"]), backend.token_to_id(names["cls"])
    if sep is not None and cls is not None:
        backend.post_processor = bert_template((names["sep"], sep), (names["cls"], cls))


def _generic(settings: Mapping[str, Any]) -> bool:
    return settings.get("tokenizer_class") in (None, "PreTrainedTokenizerFast", "TokenizersBackend")


def find_normalization(backend: Tokenizer) -> Normalization | None:
    """The settings of a tokenizer's BERT normaliser; None when it has another one."""
    normalizer = backend.normalizer
    if not isinstance(normalizer, normalizers.BertNormalizer):
        return None
    return Normalization(
        lowercase=normalizer.lowercase,
        strip_accents=normalizer.strip_accents,
        chinese_characters=normalizer.handle_chinese_chars,
        clean_text=normalizer.clean_text,
    )


def lowercasing(backend: Tokenizer) -> Tokenizer:
    """A tokenizer that makes letters lower case: the same one if it does already; what it does with accents stays."""
    if backend.normalizer is not None and backend.normalizer.normalize_str("A") == "a":
        return backend
    made, present = Tokenizer.from_str(backend.to_str()), find_normalization(backend)
    if present is not None:
        made.normalizer = replace(present, lowercase=True, strip_accents=bool(present.strip_accents)).normalizer()
    else:
        steps = [normalizers.Lowercase(), *([made.normalizer] if made.normalizer is not None else [])]
        made.normalizer = normalizers.Sequence(steps)
    return made


def _normalization(settings: Mapping[str, Any], default: Normalization) -> Normalization:
    return Normalization(
        lowercase=settings.get("do_lower_case", default.lowercase),
        strip_accents=settings.get("strip_accents", default.strip_accents),
        chinese_characters=settings.get("tokenize_chinese_chars", default.chinese_characters),
        clean_text=default.clean_text,
    )


def _read_vocabulary(path: Path, settings: dict[str, Any], lowercase: bool | None) -> Published:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            tokens = [line.rstrip("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise BothwaysError(f"{path} is not UTF-8 text ({error})") from None
    if not any(tokens):
        raise BothwaysError(f"{path} is empty: a vocabulary has one token a line")
    stated = settings if lowercase is None else {**settings, "do_lower_case": lowercase}
    normalization = _normalization(stated, Normalization(lowercase=seems_uncased(tokens)))
    return Published(wordpiece(tokens, normalization, settings, str(path)), settings)


def _read_merges(path: Path, settings: dict[str, Any], lowercase: bool | None) -> Published:
    folder = path.parent
    if lowercase:
        raise BothwaysError(f"lowercase={lowercase} cannot be set: {folder} holds byte-level BPE, which keeps capitals")
    vocabulary = _json_object(path)
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BothwaysError(f"{folder / 'merges.txt'} is not UTF-8 text ({error})") from None
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#version")]
    merges = [(left, right) for left, _, right in pairs]
    return Published(byte_level(vocabulary, merges, settings, str(folder)), settings)


def _read_model(path: Path, settings: dict[str, Any], lowercase: bool | None) -> Published:
    """A SentencePiece model; what else its family needs is in the JSON files beside it."""
    from bothways.text.sentencepiece import read_sentencepiece

    family = {"model_type": _json_object(path.parent / "config.json").get("model_type")}
    greedy = _takes_spaces(path.parent, str(settings.get("mask_token", "")))
    backend, names = read_sentencepiece(path, {**family, **settings}, lowercase, greedy)
    named = {f"{role}_token": name for role, name in names.items()}
    _add_tokens(backend, path, {**named, **settings})
    return Published(backend, {**named, **settings})


def _add_tokens(backend: Tokenizer, path: Path, settings: Mapping[str, Any]) -> None:
    """Adds the tokens that the files beside a vocabulary name: found in text as they stand, never cut.

    As in `transformers`, BERT's normaliser rewrites those that are no special tokens as it does the text.

    Args:
        backend: The tokenizer; it is changed.
        path: The vocabulary, beside which ``added_tokens.json`` may lie.
        settings: May say ``added_tokens_decoder`` and ``additional_special_tokens``, and names the special tokens.

    Raises:
        BothwaysError: A token gets another number than the files say.
    """
    extra = [_plain(token) for token in settings.get("additional_special_tokens") or []]
    special = {*extra, *role_names(backend.token_to_id, settings).values()}
    bert = find_normalization(backend) is not None  # SentencePiece's would leave a "▁" for a space before them
    added = {
        place: AddedToken(text, normalized=bert and text not in special, special=text in special)
        for text, place in _json_object(path.parent / "added_tokens.json").items()
    }
    for place, options in (settings.get("added_tokens_decoder") or {}).items():
        added[int(place)] = AddedToken(**options)
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for place, token in sorted(added.items(), key=lambda entry: entry[0]):
        if token.content not in known:
            backend.add_tokens([token])
        if (found := backend.token_to_id(token.content)) != place:
            raise BothwaysError(
                f"{path} makes {token.content} number {found}, but the files beside it say {place}: they belong to "
                "different tokenizers"
            )
    known |= {token.content for token in added.values()}
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in extra if text not in known])


def _takes_spaces(folder: Path, mask: str) -> bool | None:
    """Whether the files of a folder let the mask token take the spaces before it; None when they do not say."""
    config = _json_object(folder / "tokenizer_config.json")
    stated = [_json_object(folder / "special_tokens_map.json").get("mask_token"), config.get("mask_token")]
    stated += [token for token in config.get("added_tokens_decoder", {}).values() if _plain(token) == mask]
    options = [token["lstrip"] for token in stated if isinstance(token, dict) and "lstrip" in token]
    return bool(options[-1]) if options else None


def seems_uncased(tokens: Sequence[str]) -> bool:
    """Whether a vocabulary was made from lower-cased text: capitals in fewer than one token in a hundred.

    Not simply "no capitals": the published uncased SciBERT has some 150 among 31,000 tokens. Names in brackets, such
    as ``[CLS]``, do not count.
    """
    plain = [token for token in tokens if not re.fullmatch(r"\[.+\]|<.+>", token)]
    return sum(token != token.lower() for token in plain) * 100 < max(len(plain), 1)


def wordpiece(
    tokens: Sequence[str], normalization: Normalization, settings: Mapping[str, Any], where: str
) -> Tokenizer:
    """A WordPiece tokenizer around a vocabulary, with BERT's pre-splitting and its family's template.

    Args:
        tokens: The vocabulary in the order of ids.
        normalization: How text is normalised.
        settings: May name the special tokens (``cls_token`` ...).
        where: The vocabulary's place, for error messages.

    Raises:
        BothwaysError: A special token is not in the vocabulary.
    """
    vocabulary = {token: place for place, token in enumerate(tokens)}
    names = role_names(vocabulary.get, settings)
    model = models.WordPiece(vocab=vocabulary, unk_token=names["unk"], max_input_chars_per_word=MOST_LETTERS)
    backend = Tokenizer(model)
    backend.normalizer = normalization.normalizer()
    backend.pre_tokenizer = normalization.splitter()
    backend.decoder = decoders.WordPiece(prefix="##")
    sep, cls = add_specials(backend, names, where, greedy_mask=names["cls"] == "<s>")
    if names["cls"] == "<s>":  # MPNet: RoBERTa's template around BERT's vocabulary
        backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    else:
        backend.post_processor = bert_template(sep, cls)
    return backend
