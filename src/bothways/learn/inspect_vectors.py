"""Looking at the vectors of models: why a raw encoder's say little of similarity, and what training changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.measures.evaluate import vectors_of
from bothways.learn.measures.geometry import alignment, geometry, whitening
from bothways.learn.measures.pairs import correlation
from bothways.learn.vectors.data import VectorData, read_vectors
from bothways.model.build import build_head
from bothways.model.config import HeadConfig
from bothways.report.page import write_page
from bothways.report.vectors_page import inspected_page
from bothways.report.writing import check_page
from bothways.run.model import Model, load
from bothways.run.pooling import check_pooling
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.pydocs import python_documentation

_OWN_TEXTS = 1000
"""Paragraphs of Python's documentation that are looked at where nothing is given."""
_NEAR = 0.8
"""Pairs with so much of the highest score count as belonging together, as from 4 of 5 on for Gao et al. 2021."""


def inspect_vectors(
    model: str | Path | Model,
    data: Any = None,
    *,
    against: Sequence[str | Path | Model] = (),
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    pooling: str | None = None,
    whiten: bool = False,
    dims: int | None = None,
    save: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Looks at how the vectors of one or several models lie.

    Args:
        model: A model, its folder, or a hub id.
        data: Texts, best in pairs that belong together or have scores: what `finetune` takes for ``embed``. None takes
            the documentation of this Python.
        against: Other models, on the same texts.
        text: The column of (first) texts; None finds it, as the next two.
        text_pair: The column of second texts.
        label: The column of scores or labels.
        pooling: How tokens become a vector, for all models; None: as each was trained.
        whiten: Whether each model is also looked at with whitened vectors. They are fitted to the same texts, without
            their scores.
        dims: How many directions whitening keeps; None for all.
        save: A folder that gets the first model with whitening as its dense layer.
        out: The page to write, a ``.html`` file.
        overwrite: Whether `out` and `save` are replaced.
        seed: Of what is drawn where there are many texts.
        device: Where it is computed.

    Returns:
        For each model, and each way of looking at it, plain data: ``name``, ``texts``, what `geometry` says, and where
        the data tells what belongs together what `alignment` says, and for scores ``spearman``.

    Raises:
        BothwaysError: There are too few texts, or something cannot be read or written.
    """
    if out is not None:
        check_page(out, overwrite)
    if not whiten and (dims is not None or save is not None):
        raise BothwaysError("dims and save are for whitened vectors: say --whiten too (in Python whiten=True)")
    read = _own_texts() if data is None else read_vectors(data, text, text_pair, None, label)
    _, first, number_S = np.unique(read.ids, return_index=True, return_inverse=True)
    texts = [read.texts[place] for place in first]
    if len(texts) < 3:
        raise BothwaysError(
            f"{read.name} holds {len(texts)} different texts; to see how vectors lie takes at least three"
        )
    found: list[dict[str, Any]] = []
    for place, asked in enumerate((model, *against)):
        opened = asked if isinstance(asked, Model) else load(asked, device=device)
        looks = [(opened.name, opened, pooling)]
        if whiten:
            white = whitened(opened, texts, pooling=pooling, dims=dims)
            looks.append((f"{opened.name}, whitened", white, None))
            if save is not None and place == 0:
                white.save(save, overwrite=overwrite)
        for name, one, way in looks:
            vectors = vectors_of(one, way, None)(texts, "")
            found.append({"name": name, "texts": len(texts), **_looked_at(read, vectors, number_S, seed)})
    if out is not None:
        write_page(out, inspected_page(read.name, found))
    return found


def _own_texts() -> VectorData:
    paragraphs = itertools.chain.from_iterable(document.paragraphs for document in python_documentation())
    texts = list(itertools.islice((text for text in paragraphs if len(text.split()) > 3), _OWN_TEXTS))
    return VectorData("texts", texts, np.arange(len(texts) + 1), (), "the documentation of this Python")


def _looked_at(read: VectorData, vectors_UE: np.ndarray, number_S: np.ndarray, seed: int) -> dict[str, Any]:
    said: dict[str, Any] = geometry(vectors_UE, seed)
    if read.form in ("texts", "classes"):
        return said
    one, other = vectors_UE[number_S[read.starts[:-1]]], vectors_UE[number_S[read.starts[:-1] + 1]]
    belong = np.ones(len(read), dtype=bool)
    if read.form in ("scored", "labelled"):
        scores = read.scores()
        belong = scores >= _NEAR * scores.max()
        said["spearman"] = correlation(read, one, other)
    return said | (alignment(one[belong], other[belong]) if belong.any() else {})


def whitened(model: Model, texts: Sequence[str], *, pooling: str | None = None, dims: int | None = None) -> Model:
    """A model whose vectors are whitened by a dense layer, which `sentence-transformers` opens too.

    Su et al. 2021, "Whitening Sentence Representations for Better Semantics and Faster Retrieval".

    Args:
        model: Any without a dense layer of its own.
        texts: Like those to come; some thousands.
        pooling: How tokens become a vector; None: as the model has it.
        dims: How many directions are kept; None for all that hold any variance among the texts.

    Raises:
        BothwaysError: The model has a dense layer already.
    """
    if "dense" in model.head_configs:
        raise BothwaysError(f"{model.name} has a dense layer already, and whitening would be a second one")
    way = check_pooling(pooling or model.sentence.pooling)
    weights_EK, bias_K = whitening(model.embed(list(texts), way, normalize=False), dims)
    made = model.copy()
    head = HeadConfig(kind="dense", inputs=weights_EK.shape[0], outputs=weights_EK.shape[1])
    layer = build_head(head, made.config)
    layer.load_state_dict({"output.weight": _tensor(weights_EK.T), "output.bias": _tensor(bias_K)})
    made.heads["dense"], made.head_configs["dense"] = layer.to(made.device).eval(), head
    said = model.sentence
    made.sentence = SentenceRecipe(way, True, True, said.prompts, said.default_prompt, said.similarity)
    return made


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values))
