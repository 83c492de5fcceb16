"""SentencePiece models (ALBERT, XLM-R, CamemBERT, DeBERTa-v2 and v3, BigBird) as tokenizers.

The file holds pieces, their scores and how characters are rewritten. How a family sets its special tokens and ids
around the pieces is not in it: `LAYOUTS` says that, chosen by the tokenizer class or the model type in the JSON files
beside it. The ids are those that the SentencePiece library gives, bytes of unknown characters included.

Source: Kudo and Richardson, SentencePiece (2018); the papers of the families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from bothways.errors import BothwaysError
from bothways.text.model_proto import ModelProto, Use, VocabularyPiece, read_model_proto
from bothways.text.normalize import PlainNormalization
from bothways.text.roles import ROBERTA_NAMES, ROLES, add_specials, bert_template, roberta_template, role_names

_NEVER = -1000.0  # the score of a piece that is not made of text
_SPACES = Regex(" {2,}")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a family's ids lie around the pieces of its SentencePiece file.

    Attributes:
        names: The special token of each role.
        front: Tokens that take the place of the file's first `replaced` pieces.
        replaced: How many pieces they replace.
        mask_behind: Whether the mask token follows the pieces; else it is one of them.
        greedy_mask: Whether the mask token takes the spaces before it, when the files beside do not say.
        roberta: Whether the template is RoBERTa's; else BERT's, with segments.
        lowercase: Whether text is lower-cased, when the files beside do not say.
        cleans: Whether quotes are made plain and accents removed, as ALBERT does unless ``keep_accents`` is set.
        covers_space: Whether the offsets of a word cover the space before it.
    """

    names: Mapping[str, str]
    front: tuple[str, ...] = ()
    replaced: int = 0
    mask_behind: bool = False
    greedy_mask: bool = False
    roberta: bool = False
    lowercase: bool = False
    cleans: bool = False
    covers_space: bool = False


def _named(pad: str, unk: str, cls: str = "[CLS]", sep: str = "[SEP]", mask: str = "[MASK]") -> dict[str, str]:
    return dict(zip(ROLES, (pad, unk, cls, sep, mask), strict=True))


LAYOUTS = {
    "albert": Layout(names=_named("<pad>", "<unk>"), lowercase=True, cleans=True),
    "big-bird": Layout(names=_named("<pad>", "<unk>"), greedy_mask=True, covers_space=True),
    "camembert": Layout(
        names=ROBERTA_NAMES,
        front=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"),
        replaced=1,
        mask_behind=True,
        greedy_mask=True,
        roberta=True,
    ),
    "deberta-v2": Layout(names=_named("[PAD]", "[UNK]"), mask_behind=True, covers_space=True),
    "xlm-roberta": Layout(
        names=ROBERTA_NAMES, front=("<s>", "<pad>", "</s>", "<unk>"), replaced=3, mask_behind=True, roberta=True
    ),
}
"""By the model type of the family whose tokenizer it is."""


def read_sentencepiece(
    path: Path, settings: Mapping[str, Any], lowercase: bool | None, greedy: bool | None
) -> tuple[Tokenizer, dict[str, str]]:
    """Reads a SentencePiece file and sets its family's special tokens around it.

    Args:
        path: The file.
        settings: What lies beside it: ``tokenizer_class`` or ``model_type`` say which family's it is;
            ``do_lower_case``, ``keep_accents``, ``split_by_punct`` and names of special tokens are heeded.
        lowercase: Overrides what the files say.
        greedy: Whether the mask token takes the spaces before it, where the files say so.

    Returns:
        The tokenizer, and the special token of each role.

    Raises:
        BothwaysError: It is no SentencePiece file, of a kind or for a family that is not known, or the special tokens
            do not fit.
    """
    proto = read_model_proto(path)
    layout = _layout(path, settings)
    if proto.algorithm not in ("unigram", "bpe") or proto.space_behind or not proto.escape_spaces:
        kind = proto.algorithm if proto.algorithm in ("word", "char") else "with spaces kept or behind words"
        raise BothwaysError(f"{path} is a SentencePiece model of a kind that is not read here: {kind}")
    names = {role: settings.get(f"{role}_token") or name for role, name in layout.names.items()}
    pieces = _pieces(proto, layout, names)
    backend = Tokenizer(_unigram(proto, pieces, layout) if proto.algorithm == "unigram" else _bpe(proto, pieces))
    lower = bool(settings.get("do_lower_case", layout.lowercase)) if lowercase is None else lowercase
    backend.normalizer = _normalizer(proto, layout, lower, bool(settings.get("keep_accents", False)))
    _set_spaces(backend, proto, layout, bool(settings.get("split_by_punct", False)))
    _add_tokens(backend, pieces, names, layout.greedy_mask if greedy is None else greedy, proto.algorithm == "bpe")
    vocabulary = backend.get_vocab()
    absent = [names[role] for role in ("unk", "cls", "sep") if names[role] not in vocabulary]
    if absent:
        raise BothwaysError(f"{path} has no {absent[0]}, which its family needs: the files beside it name another one")
    sep, cls = [(names[role], vocabulary[names[role]]) for role in ("sep", "cls")]
    backend.post_processor = roberta_template(sep, cls) if layout.roberta else bert_template(sep, cls)
    return backend, names


def _layout(path: Path, settings: Mapping[str, Any]) -> Layout:
    """The layout of the family that the files beside a SentencePiece file name."""
    known = {name.replace("-", ""): layout for name, layout in LAYOUTS.items()}
    stated = [str(settings[key]) for key in ("tokenizer_class", "model_type") if settings.get(key)]
    for name in stated:
        plain = name.removesuffix("Fast").removesuffix("Tokenizer").lower().replace("-", "").replace("_", "")
        if plain in known:
            return known[plain]
    families = ", ".join(LAYOUTS)
    if stated:
        raise BothwaysError(
            f"{path} belongs to {stated[0]}, whose special tokens are not known here, only those of {families}: "
            "save it as tokenizer.json first"
        )
    raise BothwaysError(
        f"{path} does not say whose tokenizer it is: put a config.json with its model_type ({families}), or its "
        "tokenizer_config.json, beside it"
    )


def _pieces(proto: ModelProto, layout: Layout, names: Mapping[str, str]) -> list[VocabularyPiece]:
    """The vocabulary in the order of the family's ids."""
    front = [VocabularyPiece(name, 0.0, Use.CONTROL) for name in layout.front]
    pieces = front + proto.pieces[layout.replaced :]
    if layout.mask_behind and all(piece.text != names["mask"] for piece in pieces):
        pieces.append(VocabularyPiece(names["mask"], 0.0, Use.CONTROL))
    return pieces


def _unigram(proto: ModelProto, pieces: Sequence[VocabularyPiece], layout: Layout) -> models.Model:
    texts = [piece.text for piece in pieces]
    unknown = texts.index(proto.pieces[proto.unknown_id].text)
    best = max((piece.score for piece in pieces if piece.use is Use.NORMAL), default=0.0)
    vocabulary = [(piece.text, _score(piece, best, layout)) for piece in pieces]
    return models.Unigram(vocabulary, unk_id=unknown, byte_fallback=proto.byte_fallback)


def _score(piece: VocabularyPiece, best: float, layout: Layout) -> float:
    if piece.use is Use.USER_DEFINED:
        return len(piece.text.encode()) * best - 0.1  # so that it is always taken, as in SentencePiece
    if piece.use is not Use.NORMAL:
        return _NEVER
    if layout.cleans and piece.text.endswith(",") and piece.text[-2:-1].isdigit():
        return piece.score - 100  # ALBERT cuts "9," into "9" and ","
    return piece.score


def _bpe(proto: ModelProto, pieces: Sequence[VocabularyPiece]) -> models.Model:
    """BPE with the merges that the scores imply: of all pairs of neighbours the one whose union has the best score."""
    vocabulary = {piece.text: place for place, piece in enumerate(pieces)}
    parts = {piece.text for piece in pieces if piece.use in (Use.NORMAL, Use.UNUSED)}
    ranked = sorted((piece for piece in pieces if piece.text in parts), key=lambda piece: -piece.score)
    merges = [
        (piece.text[:cut], piece.text[cut:])
        for piece in ranked
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in parts and piece.text[cut:] in parts
    ]
    unknown = proto.pieces[proto.unknown_id].text
    return models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=proto.byte_fallback)


def _normalizer(proto: ModelProto, layout: Layout, lowercase: bool, keep_accents: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if layout.cleans:
        steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if not keep_accents:
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    if proto.charsmap:
        steps.append(normalizers.Precompiled(proto.charsmap))
    if proto.squeeze_spaces:
        steps += [normalizers.Replace(_SPACES, " "), normalizers.Strip(left=False)]  # "▁" stands for one at the left
    return normalizers.Sequence(steps)


def _set_spaces(backend: Tokenizer, proto: ModelProto, layout: Layout, at_punctuation: bool) -> None:
    """Words are cut at spaces, which become "▁" before them, and spaces again in decoding."""
    scheme = "always" if proto.leading_space else "never"
    steps: list[pre_tokenizers.PreTokenizer] = []
    if at_punctuation:
        steps.append(pre_tokenizers.Punctuation(behavior="isolated"))
    if not layout.covers_space and proto.squeeze_spaces and proto.leading_space:
        steps.append(pre_tokenizers.WhitespaceSplit())
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.Metaspace("▁", scheme)])
    spaces = decoders.Metaspace("▁", scheme)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), spaces]) if proto.byte_fallback else spaces


def _add_tokens(
    backend: Tokenizer, pieces: Sequence[VocabularyPiece], names: Mapping[str, str], greedy: bool, bpe: bool
) -> None:
    """Special tokens are found in text as they stand; so are user-defined symbols, which BPE could cut."""
    special = {piece.text for piece in pieces if piece.use is Use.CONTROL} | set(names.values())
    listed = [piece.text for piece in pieces if piece.text in special]
    mask = names["mask"]
    backend.add_special_tokens([AddedToken(text, normalized=False, lstrip=greedy and text == mask) for text in listed])
    if bpe:
        symbols = [piece.text for piece in pieces if piece.use is Use.USER_DEFINED]
        backend.add_tokens([AddedToken(text, normalized=False) for text in symbols])


def unigram(
    pieces: Sequence[tuple[str, float]], special_tokens: Sequence[str], normalization: PlainNormalization
) -> Tokenizer:
    """A Unigram tokenizer around pieces that were trained here.

    Args:
        pieces: With their log-probabilities.
        special_tokens: First in the vocabulary. BERT's names of the tokens at a text's ends mean its template.
        normalization: How text is rewritten and split.

    Raises:
        BothwaysError: A special token that every tokenizer needs is absent.
    """
    vocabulary = [*((token, _NEVER) for token in special_tokens), *pieces]
    names = role_names({token: place for place, (token, _) in enumerate(vocabulary)}.get, {})
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=list(special_tokens).index(names["unk"])))
    backend.normalizer = normalization.normalizer()
    backend.pre_tokenizer = normalization.splitter()
    backend.decoder = decoders.Metaspace("▁", "always")
    sep, cls = add_specials(backend, names, "the list of special tokens", greedy_mask=True)
    backend.post_processor = roberta_template(sep, cls) if names["cls"] == "<s>" else bert_template(sep, cls)
    return backend
