"""A model as `mteb` wants it: the Massive Text Embedding Benchmark runs any Bothways model as it is.

Muennighoff et al. 2023, "MTEB: Massive Text Embedding Benchmark".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import need
from bothways.run.opening import load
from bothways.run.questions import Questions
from bothways.run.similarity import paired
from bothways.use.identity import identity_of


class MtebModel:
    """What `mteb.evaluate` takes: ``mteb.evaluate(bw.mteb_model("my-model"), tasks)``.

    Args:
        model: Makes the vectors.

    Attributes:
        model: The model.
    """

    def __init__(self, model: Questions) -> None:
        self.model = model

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **settings: Any,
    ) -> np.ndarray:
        """``(texts, E)`` vectors of batches of texts, with the prompt that the model has for the task.

        Args:
            inputs: Batches, each with a list of texts under ``text``.
            task_metadata: The task: its ``name`` and ``type``.
            hf_split: Not looked at, as the next one and all further settings.
            hf_subset: A part of the task.
            prompt_type: Whether the texts are queries or documents; None where the task has only one kind.
            settings: How others make batches, which is decided here by tokens.
        """
        texts = (text for batch in inputs for text in batch["text"])
        vectors = list(self.model.embed(texts, prompt=self._prompt(task_metadata, prompt_type)))
        return np.stack(vectors) if vectors else np.empty((0, self.model.vector_width), dtype=np.float32)

    def _prompt(self, task: Any, kind: Any) -> str | None:
        """The name of the prompt, the most particular first: of a task and kind, a task, a kind of tasks, a kind."""
        role = None if kind is None else str(getattr(kind, "value", kind))
        for named in _names(task):
            for name in (f"{named}-{role}", named) if role else (named,):
                if name in self.model.sentence.prompts:
                    return name
        return role

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """As `Questions.similarity`."""
        return self.model.similarity(np.asarray(embeddings1), np.asarray(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """``(N,)`` each vector with the one in its place, by the model's own measure."""
        return paired(np.asarray(embeddings1), np.asarray(embeddings2), self.model.sentence.similarity)

    @property
    def mteb_model_meta(self) -> Any:
        """What `mteb` writes down of the model: its name, a hash of what it computes, widths and limits."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        facts = {
            "name": f"bothways/{Path(self.model.name).name}",
            "revision": identity_of(self.model),
            "embed_dim": self.model.vector_width,
            "max_tokens": self.model.max_length,
            "similarity_fn_name": ScoringFunction(self.model.sentence.similarity),
        }
        return ModelMeta.create_empty(facts)


def _names(task: Any) -> Iterator[str]:
    for name in (getattr(task, "name", None), getattr(task, "type", None)):
        if name:
            yield str(name)


def mteb_model(model: str | Path | Questions, **settings: Any) -> MtebModel:
    """A model for `mteb`.

    Args:
        model: A model, its folder, or a hub id.
        settings: As for `bothways.load`.

    Raises:
        BothwaysError: `mteb` is not installed, or there is no such model.
    """
    need("mteb", "mteb", "Running MTEB")
    return MtebModel(model if isinstance(model, Questions) else load(model, **settings))
