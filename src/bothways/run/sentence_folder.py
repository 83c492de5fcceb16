"""The files of `sentence-transformers` in a model folder: how texts become vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.run.files import read_json, write_json

_POOLING_KEYS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
}


_OTHER_NAMES = {"query": (), "document": ("passage", "corpus")}
"""What any model can be asked for, and what else published models call it."""


@dataclass(frozen=True)
class SentenceRecipe:
    """How texts become vectors.

    Attributes:
        pooling: A name of `bothways.run.pooling.POOLINGS`, or several joined by ``+``.
        normalize: Whether vectors are scaled to length 1.
        stated: Whether the folder says so, rather than this being the default.
        prompts: What is put before a text, by name, such as ``{"query": "query: "}``.
        default_prompt: The name of the one that is put before texts for which none is named.
        similarity: How two vectors are compared: a name of `bothways.run.similarity.SIMILARITIES`.
    """

    pooling: str = "mean"
    normalize: bool = False
    stated: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"

    def prompt(self, wanted: str | None) -> str:
        """The text that is put before texts.

        Args:
            wanted: A prompt's name or the text itself; None for the default one. A model without prompts for queries
                and documents puts nothing before them, so ``"query"`` and ``"document"`` can always be asked for.

        Raises:
            BothwaysError: `wanted` looks like a name, a single word, and there is no prompt of that name.
        """
        name = self.default_prompt if wanted is None else wanted
        if not name:
            return ""
        for known in (name, *_OTHER_NAMES.get(name, ())):
            if known in self.prompts:
                return self.prompts[known]
        if name in _OTHER_NAMES:
            return ""
        if name.isidentifier():
            names = sorted({*self.prompts, *_OTHER_NAMES})
            raise BothwaysError(
                f"there is no prompt named {name!r}; there are {', '.join(names)}{closest(name, names)} (the text of a "
                "prompt itself ends with a space or a sign)"
            )
        return name


def encoder_folder(folder: Path) -> Path:
    """Where the encoder lies: early `sentence-transformers` put it into a folder of its own, such as ``0_BERT``."""
    if (folder / "modules.json").is_file():
        for kind, path in _modules(folder).items():
            if kind == "Transformer":
                return folder / path
    return folder


def _modules(folder: Path) -> dict[str, str]:
    """The kinds of modules that ``modules.json`` lists, with their folders' names."""
    path = folder / "modules.json"
    try:
        # only a name is taken: a path that leads out of the folder is not followed
        return {module["type"].rsplit(".", 1)[-1]: Path(module["path"]).name for module in read_json(path)}
    except (TypeError, KeyError, AttributeError):
        raise BothwaysError(f"{path} is not a list of modules with type and path") from None


def read(folder: Path) -> SentenceRecipe:
    """The recipe a folder states, or the default: the mean over tokens, not normalised.

    Raises:
        BothwaysError: The folder states something that is not supported.
    """
    if not (folder / "modules.json").is_file():
        return SentenceRecipe()
    kinds = _modules(folder)
    for kind in kinds.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise BothwaysError(f"{folder / 'modules.json'} asks for the module {kind}, which is not supported")
    pooling = "mean"
    if "Pooling" in kinds:
        pooling = _pooling(folder / kinds["Pooling"] / "config.json")
    return SentenceRecipe(pooling, "Normalize" in kinds, stated=True)


def read_max_length(folder: Path) -> int | None:
    """The longest text in tokens that the folder states for sentence vectors, if it does."""
    limit: int | None = _text_settings(folder).get("max_seq_length")
    return limit


def lowercases(folder: Path) -> bool:
    """Whether the folder wants texts in lower case, whatever its tokenizer does."""
    return bool(_text_settings(folder).get("do_lower_case"))


def _text_settings(folder: Path) -> dict[str, Any]:
    """What is said of texts before they become tokens."""
    path = folder / "sentence_bert_config.json"
    return read_json(path) if path.is_file() else {}


def _pooling(path: Path) -> str:
    config = read_json(path)
    # sentence-transformers 5.4 and later write one word; earlier ones a flag for each way
    chosen = [config["pooling_mode"]] if "pooling_mode" in config else []
    chosen += [ours for ours, key in _POOLING_KEYS.items() if config.get(key)]
    others = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _POOLING_KEYS or set(others) - set(_POOLING_KEYS.values()):
        raise BothwaysError(
            f"{path} asks for the pooling {chosen or others}; one of {', '.join(_POOLING_KEYS)} is supported"
        )
    return str(chosen[0])


def write(recipe: SentenceRecipe, folder: Path, width: int, max_length: int | None) -> None:
    """Writes the recipe if it was stated; `sentence-transformers` takes the mean of a folder that states nothing.

    Args:
        recipe: How texts become vectors.
        folder: The model's.
        width: Of the vectors.
        max_length: The longest text in tokens.
    """
    if not recipe.stated:
        return
    modules = ["Transformer", "Pooling", *(["Normalize"] if recipe.normalize else [])]
    paths = ["" if kind == "Transformer" else f"{place}_{kind}" for place, kind in enumerate(modules)]
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(zip(modules, paths, strict=True))
    ]
    for path in paths[1:]:
        (folder / path).mkdir()
    flags = {key: ours == recipe.pooling for ours, key in _POOLING_KEYS.items()}
    write_json(folder / "modules.json", listed)
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **flags})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
