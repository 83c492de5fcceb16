"""What special tokens are for: their usual names, the templates that set them around texts, and how both are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from bothways.errors import BothwaysError
from bothways.text.encoded import FIRST, SECOND, SPECIAL, Piece, Template

ROLES = ("pad", "unk", "cls", "sep", "mask")
BERT_NAMES = dict(zip(ROLES, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), strict=True))
ROBERTA_NAMES = dict(zip(ROLES, ("<pad>", "<unk>", "<s>", "</s>", "<mask>"), strict=True))


def role_names(id_of: Callable[[str], int | None], settings: Mapping[str, Any]) -> dict[str, str]:
    """What the special token of each role is called: as the settings say, else in BERT's or RoBERTa's way.

    Some families mix both: MPNet has RoBERTa's names but ``[UNK]``, ALBERT has BERT's but ``<pad>`` and ``<unk>``.

    Args:
        id_of: Gives a token's id, None where there is no such token. A whole vocabulary is slow to be had from the
            `tokenizers` library, a token is not.
        settings: What ``tokenizer_config.json`` says.
    """
    usual_names = (*BERT_NAMES.values(), *ROBERTA_NAMES.values())
    known = {name: place for name in usual_names if (place := id_of(name)) is not None}
    roberta = known.get("<s>") == 0 or ("<s>" in known and "[CLS]" not in known)
    usual, other = (ROBERTA_NAMES, BERT_NAMES) if roberta else (BERT_NAMES, ROBERTA_NAMES)
    names = {role: other[role] if name not in known and other[role] in known else name for role, name in usual.items()}
    if roberta and "[UNK]" in known:
        names["unk"] = "[UNK]"
    for role in ROLES:
        stated = settings.get(f"{role}_token")
        if isinstance(stated, str):
            names[role] = stated
    return names


def add_specials(
    backend: Tokenizer, names: Mapping[str, str], where: str, *, greedy_mask: bool
) -> tuple[tuple[str, int], tuple[str, int]]:
    """Makes the special tokens of a vocabulary special: found in text as they stand, never cut.

    Args:
        backend: The tokenizer, with its vocabulary.
        names: The token of each role.
        where: The vocabulary's place, for error messages.
        greedy_mask: Whether the mask token takes the spaces before it, as RoBERTa's does.

    Returns:
        The token that ends a text and the one that begins it, each with its id.

    Raises:
        BothwaysError: One that every tokenizer needs is absent.
    """
    vocabulary = backend.get_vocab()
    require(names, vocabulary, where)
    present = [role for role in ROLES if names[role] in vocabulary]
    backend.add_special_tokens(
        [AddedToken(names[role], normalized=False, lstrip=greedy_mask and role == "mask") for role in present]
    )
    return (names["sep"], vocabulary[names["sep"]]), (names["cls"], vocabulary[names["cls"]])


def require(names: Mapping[str, str], vocabulary: Mapping[str, int], where: str) -> None:
    """Raises a BothwaysError when a vocabulary lacks a special token that every tokenizer needs."""
    for role in ("unk", "cls", "sep"):
        if names[role] not in vocabulary:
            raise BothwaysError(f"{where} has no {names[role]}; is it a vocabulary with one token a line?")


def bert_template(sep: tuple[str, int], cls: tuple[str, int]) -> processors.PostProcessor:
    """``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]``, the last two parts in segment 1."""
    return processors.TemplateProcessing(
        single=f"{cls[0]}:0 $A:0 {sep[0]}:0",
        pair=f"{cls[0]}:0 $A:0 {sep[0]}:0 $B:1 {sep[0]}:1",
        special_tokens=[cls, sep],
    )


def roberta_template(sep: tuple[str, int], cls: tuple[str, int]) -> processors.PostProcessor:
    """``<s> A </s>`` and ``<s> A </s></s> B </s>``, segment 0 throughout."""
    return processors.TemplateProcessing(
        single=f"{cls[0]} $A {sep[0]}",
        pair=f"{cls[0]} $A {sep[0]} {sep[0]} $B {sep[0]}",
        special_tokens=[cls, sep],
    )


def find_roles(backend: Tokenizer, settings: Mapping[str, Any], template: Template) -> dict[str, int]:
    """The id of each special token: from the settings, else from the template's ends, else by its usual name."""
    names = role_names(backend.token_to_id, settings)
    roles = {role: place for role, name in names.items() if (place := backend.token_to_id(name)) is not None}
    specials = [piece.token_id for piece in template if piece.source == SPECIAL]
    if specials and "cls_token" not in settings:
        roles["cls"] = specials[0]
    if specials and "sep_token" not in settings:
        roles["sep"] = specials[-1]
    unknown = getattr(backend.model, "unk_token", None)
    if isinstance(unknown, str) and "unk_token" not in settings:
        place = backend.token_to_id(unknown)
        roles |= {} if place is None else {"unk": place}
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

    def texts() -> Iterator[str]:
        yield "a"
        yield from backend.get_vocab(with_added_tokens=False)  # slow, and hardly ever needed

    for text in texts():
        if backend.encode(text, add_special_tokens=False).ids:
            return text
    raise BothwaysError("the tokenizer has no token for any text")
