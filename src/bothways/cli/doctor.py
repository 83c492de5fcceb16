"""``bothways doctor``: what this machine is, what will be made of it, and where a model's start goes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bothways.cli import output
from bothways.cli.options import Json, RunPrecision

EXAMPLES = ["bothways doctor", "bothways doctor quickstart/classifier", "bothways doctor --json > machine.json"]
_MODEL = "A model whose start is taken apart: a model folder, a run's folder, or a hub id."


def doctor(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help=_MODEL)] = None,
    precision: RunPrecision = "float32",
    json: Json = False,
) -> None:
    """Describe the machine: processor, threads, torch, GPU, and the precision that training takes and why.

    With a MODEL also where the time goes until its first answer, in the precision that is asked for.
    """
    import time

    from bothways import __version__
    from bothways.run.machine import describe_machine

    began = time.perf_counter()
    seconds = _import_torch(began)
    machine = {"bothways": __version__, **describe_machine(), "torch_import_seconds": seconds}
    if model is not None:
        from bothways.use.start import start_times

        machine["start"] = start_times(model, precision=precision)
    if json:
        output.as_json(machine)
        return
    output.facts(_readable(machine))
    if model is not None:
        output.line("")
        output.table(("start of a process", "seconds"), _parts(machine["start"]))


def _import_torch(began: float) -> float | None:
    import importlib
    import time
    from contextlib import suppress

    with suppress(ImportError, OSError):  # what is wrong with it is told below
        importlib.import_module("torch")
        return round(time.perf_counter() - began, 3)
    return None


def _readable(machine: dict[str, Any]) -> dict[str, Any]:
    processor, threads, memory = machine["processor"], machine["threads"], machine["memory"]
    torch = machine["torch"] or f"{machine['torch_problem']}: pip install 'bothways[torch]'"
    seconds, precision = machine["torch_import_seconds"], machine["precision"]
    return {
        "bothways": machine["bothways"],
        "Python": machine["python"],
        "system": machine["system"],
        "processor": f"{processor['name']} ({processor['architecture']}), {processor['cores']} cores",
        "features": processor["features"] or "none that matter here",
        "threads": f"{threads['allowed']} ({threads['why']})",
        "memory": _gigabytes(memory["bytes"])
        + (f", limited to {_gigabytes(limit)}" if (limit := memory["limit"]) else ""),
        "torch": torch + (f", imported in {seconds:.1f} s" if seconds is not None else ""),
        "GPU": machine["gpus"] or "none",
        "training in": f"{precision['name']} ({precision['reason']})" if precision else None,
        "own kernels": machine["kernels"],
    }


def _parts(start: dict[str, float]) -> list[tuple[str, float]]:
    told = {"python": "Python", "bothways": "bothways and NumPy", "model": "model opened", "start": "in all"}
    return [(told.get(name, name), seconds) for name, seconds in start.items()]


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"
