"""What every request passes first: the host it came to, the key it brings, its size; and how it is counted.

A request whose caller has left is not answered: what it asked gives its place to others.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from bothways.use.serve.replies import refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/", "/health")
"""Asked without a key: they tell nothing."""

Seen = Callable[[str, int, float], None]
"""Told of every request: its path, the status of its answer, how many seconds it took."""


@dataclass
class Gate:
    """Lets requests through to an application.

    Attributes:
        application: What answers.
        largest: The most bytes of a request.
        key: That requests bring as ``Authorization: Bearer KEY``; None for no key.
        hosts: Names that the server goes by; a page of another name, that a browser was led here by, is not answered
            (DNS rebinding). None for any.
        seen: Told of every request.
    """

    application: ASGIApp
    largest: int
    key: str | None
    hosts: tuple[str, ...] | None
    seen: Seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        begun, status = time.monotonic(), 499  # a caller who has left

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refused(scope["path"], headers)
            if refused is not None:
                await refused(scope, receive, watched)
                return
            await self._answered(scope, receive, watched)
        finally:
            self.seen(scope["path"], status, time.monotonic() - begun)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the application answer; where the caller leaves meanwhile, that ends."""
        read = asyncio.Event()
        answering = asyncio.ensure_future(self.application(scope, self._measured(receive, read), send))
        leaving = asyncio.ensure_future(_left(receive, read))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    def _refused(self, path: str, headers: dict[bytes, str]) -> ASGIApp | None:
        if self.hosts is not None and _host(headers.get(b"host", "")) not in self.hosts:
            return refusal(421, f"this server answers to {', '.join(self.hosts)} only")
        if self.key is not None and path not in _OPEN:
            kind, _, given = headers.get(b"authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.key.encode()):
                return refusal(401, "this server wants its key: the header 'Authorization: Bearer KEY'")
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > self.largest:
            return refusal(413, self._too_large)
        return None

    @property
    def _too_large(self) -> str:
        return f"the request is larger than {self.largest:,} bytes; send less at once"

    def _measured(self, receive: Receive, read: asyncio.Event) -> Receive:
        """Gives the application the request; `read` is set at its end."""
        got = 0

        async def measured() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.largest:
                raise HTTPException(413, self._too_large)
            if not message.get("more_body", False):
                read.set()
            return message

        return measured


async def _left(receive: Receive, read: asyncio.Event) -> None:
    """Ends when the caller has left; what it sends is not looked at before all of it is `read`."""
    await read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


def _host(header: str) -> str:
    """The name of a host without its port: ``[::1]:8000`` is ``::1``."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()
