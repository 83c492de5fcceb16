"""Routes that clients of other servers know: OpenAI's for vectors, Cohere's and Jina's for reranking."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from bothways.use.serve.desk import Desk
from bothways.use.serve.replies import reply
from bothways.use.serve.wishes import DocumentsWish, EmbeddingsWish, EmbedWish, RerankWish

FORMS: dict[str, type[BaseModel]] = {"/v1/embeddings": EmbeddingsWish, "/v1/rerank": DocumentsWish}


def add(app: FastAPI, desk: Desk) -> None:
    """Adds the routes of what the models can be asked."""

    async def models() -> Response:
        """The models, as OpenAI's clients list them."""
        data = [{"id": name, "object": "model", "owned_by": "bothways"} for name in desk.offer.models]
        return reply({"object": "list", "data": data})

    async def embeddings(wish: EmbeddingsWish) -> Response:
        """Vectors, as OpenAI's clients ask for them."""
        own = EmbedWish(texts=wish.input, dims=wish.dimensions)
        found = await desk.answer("embed", own, wish.model)
        rows: list[Any] = list(found.results)
        if wish.encoding_format == "base64":
            rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        tokens = found.read.all_tokens - found.read.tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return reply({"object": "list", "data": data, "model": found.offered.name, "usage": usage})

    async def rerank(wish: DocumentsWish) -> Response:
        """Documents in the order in which they answer a query, as Cohere's and Jina's clients ask for it."""
        texts = [each if isinstance(each, str) else str(each.get("text", "")) for each in wish.documents]
        found = await desk.answer("rerank", RerankWish(query=wish.query, texts=texts, top=wish.top_n), wish.model)
        ranked = [{"index": one.place, "relevance_score": one.score} for one in found.results[0]]
        if wish.return_documents:
            ranked = [{**one, "document": {"text": texts[one["index"]]}} for one in ranked]
        usage = {"total_tokens": found.read.all_tokens - found.read.tokens}
        return reply({"model": found.offered.name, "results": ranked, "usage": usage})

    app.add_api_route("/v1/models", models, methods=["GET"], response_model=None)
    if "embed" in desk.offer.questions:
        app.add_api_route("/v1/embeddings", embeddings, methods=["POST"], response_model=None)
    if "rerank" in desk.offer.questions:
        app.add_api_route("/v1/rerank", rerank, methods=["POST"], response_model=None)
