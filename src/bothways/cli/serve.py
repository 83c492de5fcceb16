"""``bothways serve``: models behind a web interface."""

from __future__ import annotations

from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    Deterministic,
    DeviceName,
    EngineName,
    EqualDecisions,
    Pin,
    RunPrecision,
    Threads,
    TrainedTruncation,
    WorstCosine,
    option,
)

EXAMPLES = [
    "bothways serve my-bert",
    "bothways serve my-embedder my-reranker my-tagger --port 9000 --precision auto",
    "bothways serve text-embedding-3-small=my-embedder",
    "BOTHWAYS_API_KEY=... bothways serve my-bert --host 0.0.0.0",
]


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model folders or hub ids; NAME=MODEL gives one a name.")
    ],
    host: Annotated[str, option("Server", "--host", "ADDRESS", "Who can come; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, option("Server", "--port", "N", "0 for any that is free.", min=0, max=65535)] = 8000,
    max_texts: Annotated[int, option("Server", "--max-texts", "N", "The most texts of a request.")] = 1024,
    max_bytes: Annotated[
        int, option("Server", "--max-bytes", "N", "The most bytes of a request, and letters made of it.")
    ] = 8_000_000,
    max_waiting: Annotated[
        int, option("Server", "--max-waiting", "TOKENS", "Beyond so many that wait, requests are refused (503).")
    ] = 262_144,
    timeout: Annotated[float, option("Server", "--timeout", "SECONDS", "The longest that a request may take.")] = 60.0,
    truncation: TrainedTruncation = None,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    worst_cosine: WorstCosine = None,
    equal_decisions: EqualDecisions = None,
    deterministic: Deterministic = False,
    pin: Pin = False,
    threads: Threads = None,
) -> None:
    """Serve models over HTTP: vectors, classes, tags, answers, rankings, whatever each can be asked; stop by Ctrl-C.

    Only this machine is served unless --host says otherwise. Where BOTHWAYS_API_KEY is set, requests bring that key.
    """
    import bothways as bw
    from bothways.use.serve import running

    running.check()
    from bothways.use.serve.desk import Limits

    limits = Limits(max_texts, max_bytes, max_waiting, timeout)
    with running.listen(host, port) as socket:
        opened = running.opened(
            models,
            lambda source: bw.load(
                source,
                device=device,
                engine=engine,
                precision=precision,
                truncation=truncation,
                worst_cosine=worst_cosine,
                equal_decisions=equal_decisions,
                deterministic=deterministic,
                pin=pin,
            ),
        )
        key = running.given_key()
        made = running.server(opened, host, limits, key)
        shown = f"[{host}]" if ":" in host else host
        output.line(running.greeting(opened, f"http://{shown}:{socket.getsockname()[1]}", key, host))
        running.run(made, socket)
    output.line("stopped")
