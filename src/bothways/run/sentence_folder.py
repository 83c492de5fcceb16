"""The files of `sentence-transformers` in a model folder: how texts become vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.run.files import read_json, write_json
from bothways.run.similarity import check_similarity

_POOLINGS = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "max": ("max", "pooling_mode_max_tokens"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "mean_sqrt": ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    "weighted_mean": ("weightedmean", "pooling_mode_weightedmean_tokens"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}
"""Our poolings, in the order in which theirs stand side by side, with their word and the flag of earlier versions."""
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
"""The modules that are understood, in the one order in which they can follow each other."""
MODULES_FILE, SETTINGS_FILE = "modules.json", "config_sentence_transformers.json"
_OURS = "SentenceTransformer"
_NO_LIMIT = 1 << 20
"""A length in tokens beyond which a tokenizer's limit means that there is none."""
_OUTPUTS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "fill-mask": ("logits", "token_embeddings"),
}
"""For each task of an encoder what is taken of it, and what that is called."""
_SAME_TOKENS = ("padding", "pad_to_multiple_of", "return_tensors")
"""What a folder may say of calling its tokenizer without changing a token."""
_LENGTHS = ("query_length", "document_length", "query_expansion")
"""What a folder says where queries are read in another way than documents."""
_OTHER_NAMES: dict[str, tuple[str, ...]] = {"query": (), "document": ("passage", "corpus")}
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
    return folder / modules(folder).get("Transformer", "")


def modules(folder: Path) -> dict[str, str]:
    """The kinds of modules that ``modules.json`` lists, in order, with their folders' names; empty without the file.

    Raises:
        BothwaysError: The file is not such a list, or lists a kind twice.
    """
    path = folder / MODULES_FILE
    if not path.is_file():
        return {}
    try:
        # only a name is taken: a path that leads out of the folder is not followed
        listed = [(str(module["type"]).rsplit(".", 1)[-1], Path(module["path"]).name) for module in read_json(path)]
        if any(name == ".." for _, name in listed):
            raise BothwaysError(f"{path} names a folder outside its own; copy the model again")
    except (TypeError, KeyError, AttributeError):
        raise BothwaysError(f"{path} is not a list of modules with type and path") from None
    if twice := [kind for kind, count in Counter(kind for kind, _ in listed).items() if count > 1]:
        raise BothwaysError(f"{path} asks for the module {twice[0]} twice, which is not supported")
    return dict(listed)


def read(folder: Path) -> SentenceRecipe:
    """The recipe a folder states, or the default: the mean over tokens, not normalised.

    Raises:
        BothwaysError: The folder states something that is not supported.
    """
    kinds, said = modules(folder), _settings(folder)
    if not kinds or said.get("model_type", _OURS) != _OURS:  # a folder of cross-encoders and the like says other things
        return SentenceRecipe()
    check_reading(folder)
    path = folder / MODULES_FILE
    for kind in kinds.keys() - set(_ORDER):
        raise BothwaysError(f"{path} asks for the module {kind}, which is not supported; {', '.join(_ORDER)} are")
    if list(kinds) != [kind for kind in _ORDER if kind in kinds]:
        raise BothwaysError(f"{path} asks for {', '.join(kinds)}, but only the order {', '.join(_ORDER)} is supported")
    prompts = said.get("prompts") or {}
    default = said.get("default_prompt_name")
    if not isinstance(prompts, dict) or (default is not None and default not in prompts):
        raise BothwaysError(
            f"{folder / SETTINGS_FILE} names the default prompt {default!r}, which is not among its prompts"
        )
    return SentenceRecipe(
        _pooling(folder / kinds["Pooling"] / "config.json") if "Pooling" in kinds else "mean",
        "Normalize" in kinds,
        stated=True,
        prompts={str(name): str(text or "") for name, text in prompts.items()},
        default_prompt=default,
        similarity=check_similarity(str(said.get("similarity_fn_name") or "cosine")),
    )


def check_reading(root: Path, task: str = "feature-extraction", *, queries: bool = False) -> None:
    """Refuses a folder whose encoder gets other tokens, or of which something else is taken, than here.

    Args:
        root: The folder of the whole model.
        task: What the model is for, as `sentence-transformers` calls the task of its encoder.
        queries: Whether queries may be read in another way than documents.

    Raises:
        BothwaysError: It is such a folder.
    """
    folder = encoder_folder(root)
    said = _text_settings(folder)
    output, name = _OUTPUTS[task]
    wanted = {"transformer_task": task, "method": "forward", "method_output_name": output, "module_output_name": name}
    kinds = said.get("modality_config")
    asked = said if kinds is None else {**said, **kinds.get("text", {"method": None})}
    for key, value in wanted.items():
        if asked.get(key, value) != value:
            raise BothwaysError(f"{folder} asks for the {key} {asked[key]!r}, which is not supported; {value!r} is")
    calling = _calling(said)
    same = [*_SAME_TOKENS, *([] if queries else ["max_length"]), *(["truncation"] if calling.get("truncation") else [])]
    other = [key for key in calling if key not in same]
    other += [] if queries else [key for key in _LENGTHS if said.get(key) is not None]
    if other:
        raise BothwaysError(f"{folder} asks for a {', '.join(other)} of its own for texts, which is not supported")


def left_to_ask(folder: Path) -> str:
    """What a folder states that is done only for those who ask for it, in a sentence for them; empty: nothing."""
    said = _settings(folder)
    advice = {}
    if said.get("truncate_dim") is not None:
        advice["truncate_dim"] = "vectors are given whole; ask for fewer values with dims"
    if said.get("max_active_dims") is not None:
        advice["max_active_dims"] = "all words are given; ask for fewer with top"
    if said.get("model_type", _OURS) != _OURS and said.get("default_prompt_name") is not None:
        advice["default_prompt_name"] = "nothing is put before texts here; put its prompt before them yourself"
    told = (f"it says {name} = {said[name]!r}, but {what}" for name, what in advice.items())
    return f"{folder / SETTINGS_FILE}: {'; '.join(told)}" if advice else ""


def _settings(folder: Path) -> dict[str, Any]:
    """What a folder says of prompts and similarity."""
    said = read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    if not isinstance(said, dict):
        raise BothwaysError(f"{folder / SETTINGS_FILE} does not hold settings by name")
    return said


def read_max_length(root: Path) -> int | None:
    """The longest text in tokens that a folder states for sentence vectors, if it does.

    Where a folder of `sentence-transformers` does not, that library goes by the tokenizer's settings.

    Args:
        root: The folder of the whole model.

    Raises:
        BothwaysError: What it states is no number of tokens.
    """
    folder = encoder_folder(root)
    said, path = _text_settings(folder), folder / "tokenizer_config.json"
    limit = _calling(said).get("max_length", said.get("max_seq_length"))
    if limit is None and (root / MODULES_FILE).is_file() and path.is_file():
        limit = read_json(path).get("model_max_length")
        limit = None if isinstance(limit, int | float) and limit > _NO_LIMIT else limit
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 1:
        raise BothwaysError(f"{folder} says that texts have {limit!r} tokens at most; a whole number is wanted there")
    return int(limit)


def lowercases(folder: Path) -> bool:
    """Whether the folder wants texts in lower case, whatever its tokenizer does."""
    return bool(_text_settings(folder).get("do_lower_case"))


def _text_settings(folder: Path) -> dict[str, Any]:
    """What is said of texts before they become tokens; early versions named the file after the family."""
    for path in (folder / "sentence_bert_config.json", *sorted(folder.glob("sentence_*_config.json"))):
        if path.is_file():
            said: dict[str, Any] = read_json(path)
            return said
    return {}


def _calling(said: Mapping[str, Any]) -> dict[str, Any]:
    """How a tokenizer is called for texts, by what is said of them."""
    calling = said.get("processing_kwargs") or {}
    return {**(calling.get("common") or {}), **(calling.get("text") or {})}


def _pooling(path: Path) -> str:
    config = read_json(path)
    flags = {flag: ours for ours, (_, flag) in _POOLINGS.items()}
    words = {word: ours for ours, (word, _) in _POOLINGS.items()} | {"attention": "attention"}
    if "pooling_mode" in config:  # sentence-transformers 5.4 and later: one word or several
        said = config["pooling_mode"]
        asked = [said] if isinstance(said, str) else list(said)
        found = [words.get(word) for word in asked]
    else:
        asked = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
        found = [flags[flag] for flag in flags if flag in asked] if set(asked) <= flags.keys() else [None]
        found = found or ["mean"]
    if None in found:
        raise BothwaysError(f"{path} asks for the pooling {', '.join(map(str, asked))}; there are {', '.join(words)}")
    if config.get("include_prompt") is False:
        raise BothwaysError(f"{path} leaves prompts out of the pooling (include_prompt), which is not supported")
    return "+".join(map(str, found))


def write(recipe: SentenceRecipe, folder: Path, width: int, max_length: int | None, *, dense: bool = False) -> None:
    """Writes the recipe if it was stated; `sentence-transformers` takes the mean of a folder that states nothing.

    Args:
        recipe: How texts become vectors.
        folder: The model's.
        width: Of the hidden states.
        max_length: The longest text in tokens.
        dense: Whether a dense layer follows the pooling; its folder is written by `bothways.run.sentence_dense`.
    """
    if not recipe.stated and not dense:
        return
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if recipe.normalize else [])]
    paths = ["" if kind == "Transformer" else f"{place}_{kind}" for place, kind in enumerate(kinds)]
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    for path in paths[1:]:
        (folder / path).mkdir()
    write_json(folder / MODULES_FILE, listed)
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **_said(recipe.pooling)})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    settings = {
        "model_type": _OURS,
        "prompts": dict(recipe.prompts),
        "default_prompt_name": recipe.default_prompt,
        "similarity_fn_name": recipe.similarity,
    }
    write_json(folder / SETTINGS_FILE, settings)


def _said(pooling: str) -> dict[str, Any]:
    """A pooling in flags, which every version reads; in words where flags cannot say it.

    Attention has no word there: `sentence-transformers` refuses a folder that asks for it, rather than taking the mean.
    """
    ways = pooling.split("+")
    if "attention" not in ways and ways == [way for way in _POOLINGS if way in ways]:
        return {flag: way in ways for way, (_, flag) in _POOLINGS.items()}
    words = [_POOLINGS[way][0] if way in _POOLINGS else way for way in ways]
    return {"pooling_mode": words[0] if len(words) == 1 else words}
