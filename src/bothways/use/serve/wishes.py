"""What a server is asked: the body of each request, as JSON. What a field means, the method of the model says too."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bothways.text.tables import without_halves

Listed = Annotated[list[str], Field(fail_fast=True)]
"""Strings; the first entry that is none ends the reading, so that a million of them are not a million errors."""
Lists = Annotated[list[Listed], Field(fail_fast=True)]
Texts = str | Listed
_FIELDS = 64
"""That no request has."""


class Form(BaseModel):
    """Any request."""

    @model_validator(mode="before")
    @classmethod
    def _sound(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > _FIELDS:
            raise ValueError(f"a request has {_FIELDS} fields at most, not {len(given):,}")
        return without_halves(given)  # which no reply could repeat


class Wish(Form):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Which model, by its name; needed where several could answer.")


class TextWish(Wish):
    """A question about texts."""

    texts: Texts = Field(description="One text, or a list of them.")


class EmbedWish(TextWish):
    """Texts that become vectors."""

    pooling: str | None = Field(default=None, description="mean, cls, max, ...; as the model was trained.")
    normalize: bool | None = Field(default=None, description="Whether vectors have length 1; as the model was trained.")
    prompt: str | None = Field(default=None, description="What is put before texts: query, document, or a text.")
    dims: int | None = Field(default=None, ge=1, description="Keep the first values of each vector (Matryoshka).")


class PairWish(TextWish):
    """Texts, or pairs of them."""

    pairs: Texts | None = Field(default=None, description="The second text of each pair, for models of pairs.")


class ZeroShotWish(TextWish):
    """Texts, and the classes that they may belong to."""

    labels: Listed = Field(min_length=1, description="The classes in words.")
    template: str = Field(default="This text is about {}.", description="A sentence with {} where a class goes.")
    several: bool = Field(default=False, description="Whether a text may have several classes.")


class TagWish(Wish):
    """Texts whose words are tagged."""

    texts: Texts | Lists = Field(description="One text, a list of them, or lists of words.")


class AnswerWish(Wish):
    """Questions, each with the text that may answer it."""

    question: Texts = Field(description="One question, or a list of them.")
    context: Texts = Field(description="The text of each question; one text serves all questions.")
    top: int = Field(default=1, ge=1, le=100, description="How many candidates to list.")


class ChooseWish(Wish):
    """Prompts, each with the texts to choose from."""

    prompt: Texts = Field(description="One prompt, or a list of them.")
    choices: Listed | Lists = Field(description="The choices; of several prompts a list of such lists.")


class RerankWish(Wish):
    """A query, and texts to put in order."""

    query: str = Field(description="What is looked for.")
    texts: Listed = Field(description="The texts to put in order.")
    top: int | None = Field(default=None, ge=1, description="How many are wanted; all.")


class FillWish(TextWish):
    """Texts with masked places."""

    top: int = Field(default=5, ge=1, le=100, description="How many words for each place, likeliest first.")


class SparseWish(TextWish):
    """Texts that become words with weights."""

    top: int = Field(default=5, ge=1, le=1000, description="How many words of each text, heaviest first.")


class ForeignWish(Form):
    """What a client of another interface sends: fields that mean nothing here are left alone."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, description="Which model, by its name.")


class EmbeddingsWish(ForeignWish):
    """As OpenAI's clients ask for vectors."""

    input: Texts = Field(
        description="A text or a list of texts; token ids of another vocabulary mean nothing here (LangChain sends "
        "texts with check_embedding_ctx_length=False)."
    )
    encoding_format: str = Field(default="float", pattern="^(float|base64)$", description="float or base64.")
    dimensions: int | None = Field(default=None, ge=1, description="Keep the first values of each vector.")


class DocumentsWish(ForeignWish):
    """As Cohere's and Jina's clients ask for an order."""

    query: str = Field(description="What is looked for.")
    documents: Annotated[list[str | dict[str, Any]], Field(fail_fast=True)] = Field(
        description="Texts, or objects with a text each."
    )
    top_n: int | None = Field(default=None, ge=1, description="How many are wanted; all.")
    return_documents: bool = Field(default=False, description="Whether texts are sent back.")
