"""The web application: a route a question, others' routes beside them, and a page to try it on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import bothways
from bothways.errors import BothwaysError
from bothways.use.serve import foreign
from bothways.use.serve.calls import CALLS
from bothways.use.serve.desk import Answered, BusyError, Desk, Limits, TooMuchError
from bothways.use.serve.figures import Figures
from bothways.use.serve.gate import Gate
from bothways.use.serve.offered import Offer, Offered, path_of
from bothways.use.serve.replies import mistake, refusal, reply
from bothways.use.serve.wishes import Wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bothways.run.questions import Questions

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
"""Of the page: it loads nothing from anywhere, and talks to its own server only."""


def web_app(
    models: Mapping[str, Questions],
    limits: Limits | None = None,
    *,
    key: str | None = None,
    hosts: tuple[str, ...] | None = None,
) -> Gate:
    """An ASGI application that answers for models, for any ASGI server.

    Args:
        models: Who answers, by the names that requests call them.
        limits: What is taken on.
        key: That requests bring as ``Authorization: Bearer KEY``; None for no key.
        hosts: Names that the server goes by, such as `bothways.use.serve.running.LOOPBACK`; None for any.

    Raises:
        BothwaysError: There is no model.
    """
    limits = limits or Limits()
    figures = Figures()
    desk = Desk(Offer(models), limits, figures.answered)
    figures.waiting.set_function(lambda: desk.waiting)
    app = FastAPI(title="Bothways", version=bothways.__version__, docs_url=None, redoc_url=None)
    for question in desk.offer.questions:
        _add(app, desk, question)
    foreign.add(app, desk)
    _about(app, desk, figures)
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    figures.paths = frozenset(paths)
    _refusals(app, paths)
    return Gate(app, limits.bytes, key, hosts, figures.seen)


def _add(app: FastAPI, desk: Desk, question: str) -> None:
    make, form = CALLS[question]

    async def ask(wish: Wish) -> Response:
        return _told(question, await desk.answer(question, wish, wish.model))

    ask.__annotations__["wish"] = form
    app.add_api_route(
        path_of(question), ask, methods=["POST"], name=question, summary=make.__doc__, response_model=None
    )


def _told(question: str, found: Answered) -> Response:
    read = found.read
    results = found.results[0] if question == "rerank" and found.results else found.results
    usage = {"texts": read.all_texts, "tokens": read.all_tokens, "cut_texts": read.texts, "cut_tokens": read.tokens}
    return reply({"model": found.offered.name, "results": results, "usage": usage})


def _about(app: FastAPI, desk: Desk, figures: Figures) -> None:
    page = resources.files("bothways.use.serve").joinpath("page.html").read_text("utf-8")

    async def home() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    async def health() -> Response:
        return reply({"status": "ok"})

    async def info() -> Response:
        models = [_described(one) for one in desk.offer.models.values()]
        return reply({"bothways": bothways.__version__, "models": models, "limits": asdict(desk.limits)})

    async def metrics() -> Response:
        return Response(figures.text(), media_type="text/plain; version=0.0.4")

    routes: dict[str, tuple[Callable[[], Awaitable[Response]], str]] = {
        "/": (home, "A page to try it on."),
        "/health": (health, "Whether it runs."),
        "/info": (info, "Which models there are, and what they can be asked."),
        "/metrics": (metrics, "What was counted, for Prometheus."),
    }
    for path, (function, said) in routes.items():
        app.add_api_route(path, function, methods=["GET"], summary=said, response_model=None)


def _described(one: Offered) -> dict[str, Any]:
    model, engine = one.model, one.model.engine
    return {
        "name": one.name,
        "questions": [path_of(question) for question in one.questions],
        "labels": list(model.labels),
        "max_length": model.max_length,
        "truncation": model.truncation,
        "vector_width": model.vector_width,
        "prompts": [name for name, text in model.sentence.prompts.items() if text],
        "mask": model.tokenizer.tokens[model.tokenizer.roles["mask"]] if "mask" in model.tokenizer.roles else None,
        "engine": engine.name,
        "precision": engine.precision,
    }


def _refusals(app: FastAPI, paths: list[str]) -> None:
    forms: dict[str, type[BaseModel]] = {
        path_of(question): form for question, (_, form) in CALLS.items()
    } | foreign.FORMS

    def invalid(request: Request, error: Any) -> Response:
        if "json" not in request.headers.get("content-type", ""):
            return refusal(400, "say that the request is JSON: the header 'Content-Type: application/json'")
        return refusal(400, mistake(error.errors(), forms.get(request.url.path), request.url.path))

    def http(request: Request, error: Any) -> Response:
        path = request.url.path
        if error.status_code == 404:
            absent = f"no model here answers {path}" if path in forms else f"there is no {path} here"
            return refusal(404, f"{absent}; there are {', '.join(paths)}")
        if error.status_code == 405:
            other = "GET" if request.method == "POST" else "POST"
            return refusal(405, f"{path} is asked with {other}, not with {request.method}")
        if error.status_code == 400:
            return refusal(400, "the request cannot be read: it should be JSON in UTF-8")
        return refusal(error.status_code, str(error.detail))

    statuses: dict[type[Exception], int] = {BothwaysError: 400, TooMuchError: 413, BusyError: 503}
    for kind, status in statuses.items():
        app.add_exception_handler(kind, lambda _, error, status=status: refusal(status, str(error)))
    app.add_exception_handler(TimeoutError, lambda *_: refusal(504, "it took too long; send less at once"))
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, lambda *_: refusal(500, "something went wrong here; the server's log tells"))
