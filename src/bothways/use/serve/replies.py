"""How a server replies: JSON, and every refusal as one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from bothways.errors import closest

_KINDS = {401: "authentication_error", 404: "not_found_error", 503: "overloaded_error", 500: "server_error"}


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Plain data, arrays and dataclasses as JSON; numbers that are not finite become null."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def refusal(status: int, sentence: str) -> Response:
    """What is wrong, in one sentence, in the form that OpenAI's clients read too."""
    content = {"error": {"message": sentence, "type": _KINDS.get(status, "invalid_request_error"), "code": status}}
    return reply(content, status, {"Retry-After": "1"} if status == 503 else None)


def mistake(errors: Sequence[Mapping[str, Any]], form: type[BaseModel] | None, path: str) -> str:
    """What is wrong with a request that has not the form of its question.

    Args:
        errors: As pydantic lists them.
        form: Of the question.
        path: That was asked.
    """
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    if first["type"] == "json_invalid":
        return f"the request is no JSON ({first['ctx']['error']})"
    known = form.model_fields if form else {}
    if len(first["loc"]) < 2:
        return f"the request should be a JSON object with fields of {path}: {', '.join(known)}"
    field = str(first["loc"][1])
    if field not in known:
        return f"{path} knows no field {field!r}{closest(field, known)}; it knows {', '.join(known)}"
    if first["type"] == "missing":
        return f"{path} needs the field {field!r}: {known[field].description}"
    return f"the field {field!r} of {path} is not as it should be: {known[field].description}"
