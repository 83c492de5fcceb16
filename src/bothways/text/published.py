"""Tokenizers as they are published: ``tokenizer.json``, ``vocab.txt``, ``vocab.json`` with ``merges.txt``.

Each reader gives a `tokenizers` object and the settings that lay beside it (``tokenizer_config.json`` and
``special_tokens_map.json``); what a special token is for is found from the settings, the template or its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from bothways.errors import BothwaysError, closest
from bothways.text.encoded import FIRST, SECOND, SPECIAL, Piece, Template
from bothways.text.normalize import Normalization

ROLES = ("pad", "unk", "cls", "sep", "mask")
BERT_NAMES = dict(zip(ROLES, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), strict=True))
ROBERTA_NAMES = dict(zip(ROLES, ("<pad>", "<unk>", "<s>", "</s>", "<mask>"), strict=True))
LEFT_BEHIND = ("name_or_path", "tokenizer_file", "full_tokenizer_file", "special_tokens_map_file")  # where it once lay
MOST_LETTERS = 100  # a longer word is [UNK], as in the published BERT


class Published(NamedTuple):
    """A tokenizer as read: the `tokenizers` object and the settings beside it (empty when there are none)."""

    backend: Tokenizer
    settings: dict[str, Any]


def read_published(source: str | Path, lowercase: bool | None = None) -> Published:
    """Reads a published tokenizer.

    Args:
        source: A folder, a ``vocab.txt`` or a ``tokenizer.json``.
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
    if path.suffix == ".json":
        return _read_json(path, {}, lowercase)
    if path.suffix == ".txt":
        return _read_vocabulary(path, {}, lowercase)
    raise BothwaysError(f"{path} is neither a folder, a vocab.txt nor a tokenizer.json")


def _read_folder(folder: Path, lowercase: bool | None) -> Published:
    stated = {**_json_object(folder / "special_tokens_map.json"), **_json_object(folder / "tokenizer_config.json")}
    settings = {key: _plain(value) for key, value in stated.items() if key not in LEFT_BEHIND}
    if (folder / "tokenizer.json").exists():
        return _read_json(folder / "tokenizer.json", settings, lowercase)
    if (folder / "vocab.txt").exists():
        return _read_vocabulary(folder / "vocab.txt", settings, lowercase)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return _read_merges(folder, settings)
    foreign = sorted(path.name for path in folder.glob("*.model"))
    hint = f"; {foreign[0]} is a SentencePiece file: save it as tokenizer.json first" if foreign else ""
    raise BothwaysError(f"{folder} holds no tokenizer (tokenizer.json, vocab.txt, or vocab.json and merges.txt){hint}")


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
        backend = Tokenizer.from_file(str(path))
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
    vocabulary = backend.get_vocab()
    names = _names(vocabulary, settings)
    sep, cls = names["sep"], names["cls"]
    if sep in vocabulary and cls in vocabulary:
        backend.post_processor = bert_template((sep, vocabulary[sep]), (cls, vocabulary[cls]))


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


def _read_merges(folder: Path, settings: dict[str, Any]) -> Published:
    vocabulary = _json_object(folder / "vocab.json")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.partition(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(left, right) for left, _, right in pairs]
        model = models.BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix="")
    except Exception as error:  # the library raises bare Exception
        raise BothwaysError(f"{folder} holds a vocab.json and merges.txt that do not fit ({error})") from None
    backend = Tokenizer(model)
    spaced = bool(settings.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    backend.decoder = decoders.ByteLevel()
    names = _names(vocabulary, settings)
    _add_specials(backend, names, vocabulary, str(folder / "vocab.json"))
    sep, cls = [(names[role], vocabulary[names[role]]) for role in ("sep", "cls")]
    backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=spaced)
    return Published(backend, settings)


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
    names = _names(vocabulary, settings)
    model = models.WordPiece(vocab=vocabulary, unk_token=names["unk"], max_input_chars_per_word=MOST_LETTERS)
    backend = Tokenizer(model)
    backend.normalizer = normalization.normalizer()
    backend.pre_tokenizer = normalization.splitter()
    backend.decoder = decoders.WordPiece(prefix="##")
    _add_specials(backend, names, vocabulary, where)
    sep, cls = [(names[role], vocabulary[names[role]]) for role in ("sep", "cls")]
    if names["cls"] == "<s>":  # MPNet: RoBERTa's template around BERT's vocabulary
        backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    else:
        backend.post_processor = bert_template(sep, cls)
    return backend


def bert_template(sep: tuple[str, int], cls: tuple[str, int]) -> processors.PostProcessor:
    """``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]``, the last two parts in segment 1."""
    return processors.TemplateProcessing(
        single=f"{cls[0]}:0 $A:0 {sep[0]}:0",
        pair=f"{cls[0]}:0 $A:0 {sep[0]}:0 $B:1 {sep[0]}:1",
        special_tokens=[cls, sep],
    )


def _names(vocabulary: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, str]:
    """What the special token of each role is called: as the settings say, else in BERT's or RoBERTa's way."""
    roberta = vocabulary.get("<s>") == 0 or ("<s>" in vocabulary and "[CLS]" not in vocabulary)
    names = dict(ROBERTA_NAMES if roberta else BERT_NAMES)
    if roberta and "[UNK]" in vocabulary:  # MPNet keeps BERT's [UNK]
        names["unk"] = "[UNK]"
    for role in ROLES:
        stated = settings.get(f"{role}_token")
        if isinstance(stated, str):
            names[role] = stated
    return names


def _add_specials(backend: Tokenizer, names: Mapping[str, str], vocabulary: Mapping[str, int], where: str) -> None:
    for role in ("unk", "cls", "sep"):
        if names[role] not in vocabulary:
            raise BothwaysError(f"{where} has no {names[role]}; is it a vocabulary with one token a line?")
    present = [role for role in ROLES if names[role] in vocabulary]
    greedy = names["cls"] == "<s>"  # RoBERTa's <mask> takes the space before it
    backend.add_special_tokens(
        [AddedToken(names[role], normalized=False, lstrip=greedy and role == "mask") for role in present]
    )


def find_roles(backend: Tokenizer, settings: Mapping[str, Any], template: Template) -> dict[str, int]:
    """The id of each special token: from the settings, else from the template's ends, else by its usual name."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    names = _names(vocabulary, settings)
    roles = {role: vocabulary[name] for role, name in names.items() if name in vocabulary}
    specials = [piece.token_id for piece in template if piece.source == SPECIAL]
    if specials and "cls_token" not in settings:
        roles["cls"] = specials[0]
    if specials and "sep_token" not in settings:
        roles["sep"] = specials[-1]
    unknown = getattr(backend.model, "unk_token", None)
    if isinstance(unknown, str) and "unk_token" not in settings and unknown in vocabulary:
        roles["unk"] = vocabulary[unknown]
    return roles


def find_template(backend: Tokenizer, pair: bool) -> Template:
    """The order of special tokens and texts, read off an encoded example."""
    text = _known_text(backend)
    example = backend.encode(text, text if pair else None)
    pieces: list[Piece] = []
    rows = zip(example.sequence_ids, example.ids, example.type_ids, strict=True)
    for sequence, token, segment in rows:
        if sequence is None:
            pieces.append(Piece(SPECIAL, token, segment))
        elif not pieces or pieces[-1].source != sequence:
            pieces.append(Piece(SECOND if sequence else FIRST, -1, segment))
    return tuple(pieces)


def _known_text(backend: Tokenizer) -> str:
    """A text that has tokens; where there is no [UNK], a letter outside the vocabulary has none."""
    for text in chain("a", backend.get_vocab(with_added_tokens=False)):
        if backend.encode(text, add_special_tokens=False).ids:
            return text
    raise BothwaysError("the tokenizer has no token for any text")
