"""A server at work: a socket, the application, and a clean end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, need
from bothways.use.serve.offered import Offer, path_of

if TYPE_CHECKING:
    import uvicorn

    from bothways.run.questions import Questions
    from bothways.use.serve.desk import Limits

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of the machine itself."""
KEY = "BOTHWAYS_API_KEY"
"""The variable of the environment that holds the key; an argument would be seen by all users of the machine."""
_PATIENCE = 30
"""Seconds that requests under way have to end, once the server is asked to stop."""


def check() -> None:
    """Makes sure that what serves is installed, before anything is opened.

    Raises:
        BothwaysError: Something is not; the sentence says how to install it.
    """
    for module in ("fastapi", "uvicorn", "orjson", "prometheus_client"):
        need(module, "serve", "Serving")


def opened(sources: Sequence[str], load: Callable[[str], Questions]) -> dict[str, Questions]:
    """Models by name, warm, so that no caller waits for what is made once.

    Args:
        sources: Folders and hub ids, as they are or as ``NAME=MODEL``; without a name they are called as the folder.
        load: Opens one.

    Raises:
        BothwaysError: One cannot be opened, or two have one name.
    """
    models: dict[str, Questions] = {}
    for source in sources:
        name, equals, rest = source.partition("=")
        if not equals or Path(source).exists():
            name, rest = _named(source), source
        if name in models:
            raise BothwaysError(f"two models are called {name!r}; give one another name: NAME=MODEL")
        models[name] = load(rest).warm_up()
    return models


def _named(source: str) -> str:
    """What a model is called: its folder's name, without the ``model`` of a run's folder."""
    parts = [part for part in Path(source).resolve().parts if part != "model"] if Path(source).exists() else [source]
    return parts[-1].rsplit("/", 1)[-1]


def listen(host: str, port: int) -> socket.socket:
    """A socket that callers can come to.

    Raises:
        BothwaysError: The port is taken, or the host is not of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=2048)
        # asyncio leaves this aside for sockets that it is given: answers then wait 40 ms for an acknowledgement
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except (OSError, OverflowError) as error:
        reason = str(error) if isinstance(error, OverflowError) or not error.errno else os.strerror(error.errno)
        raise BothwaysError(f"nobody can be served at {host}, port {port} ({reason}); choose another --port") from None


def server(models: Mapping[str, Questions], host: str, limits: Limits, key: str | None) -> uvicorn.Server:
    """A server that is ready to run.

    Args:
        models: Who answers.
        host: The address it is bound to; of the machine itself, only requests to its own names are answered.
        limits: What is taken on.
        key: That requests bring; None for no key.
    """
    import uvicorn

    from bothways.use.serve.app import web_app

    app = web_app(models, limits, key=key, hosts=LOOPBACK if host in LOOPBACK else None)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=_PATIENCE, ws="none"
    )
    return uvicorn.Server(config)


def greeting(models: Mapping[str, Questions], place: str, key: str | None, host: str) -> str:
    """What is served where, and who can come, for people.

    Args:
        models: Who answers.
        place: ``http://127.0.0.1:8000``.
        key: That requests bring.
        host: The address that the server is bound to.
    """
    offered = Offer(models).models.values()
    lines = [f"{one.name} answers {', '.join(map(path_of, one.questions))}" for one in offered]
    lines.append(f"listening at {place} (a page to try it on; Ctrl-C stops)")
    if host not in LOOPBACK and key is None:
        lines.append(f"note: whoever reaches this machine can ask; set {KEY} to demand a key")
    return "\n".join(lines)


def run(made: uvicorn.Server, listening: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM; what is under way is answered first."""
    with _quiet_end():
        made.run(sockets=[listening])


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Lets uvicorn end the server at SIGINT and SIGTERM, and nothing else happen: that is how a server ends."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def given_key() -> str | None:
    """The key that requests must bring, of the environment; None where there is none."""
    return os.environ.get(KEY) or None
