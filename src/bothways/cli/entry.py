"""Where the command line begins and ends: every outcome becomes an exit code and at most one sentence."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import typer

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.progress import speaks

UNEXPECTED, MISTAKE, INTERRUPTED, NOBODY_READS, TERMINATED = 1, 2, 130, 141, 143

# optional dependencies, and the extra that installs each
_EXTRAS = {
    "torch": "torch",
    "sklearn": "torch",
    "jinja2": "torch",
    "matplotlib": "torch",
    "huggingface_hub": "hub",
    "tensorboard": "tensorboard",
    "optuna": "tune",
    "ray": "ray",
    "lancedb": "search",
    "bm25s": "search",
    "Stemmer": "search",
    "psycopg": "postgres",
    "pgvector": "postgres",
    "fastapi": "serve",
    "uvicorn": "serve",
    "orjson": "serve",
    "prometheus_client": "serve",
    "rensa": "corpus",
    "py3langid": "corpus",
}

# what takes less of a GPU's memory, by the option that it is asked for with
_SMALLER = {
    "--micro-tokens": "fewer --micro-tokens",
    "--batch-tokens": "fewer --batch-tokens",
    "--gradient-checkpointing": "--gradient-checkpointing",
    "--device": "--device cpu",
}

# typer brings its own copy of click's exceptions in some versions and not in others; this one is public in all
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What was typed after ``bothways``; the process's own arguments when not given.

    Returns:
        The exit code: 0; 2 after a mistake that the user can mend (one sentence on stderr); 130 after Ctrl-C; after
        SIGTERM in training 0 once it is saved, 143 where there is nothing to save to; 141 when nobody reads the output
        any more; 1 after anything unexpected. With ``--debug`` a traceback is printed too.
    """
    # Threads that wait for each other spin for some 10 microseconds, then sleep. Spinning on, as is usual, makes a busy
    # machine several times slower; sleeping at once makes batches of short texts half as slow again on a quiet one.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if "RANK" in os.environ:  # or else each process of a run tells on stderr how torch adds up gradients
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    _open_closed()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in typed
    with _notes():
        try:
            from bothways.cli.commands import command

            status = command().main(typed, prog_name="bothways", standalone_mode=False)
            sys.stdout.flush()
            if status == INTERRUPTED:  # typer has met the KeyboardInterrupt
                return _say("stopped", INTERRUPTED, debug=False)
            return status if isinstance(status, int) else 0
        except (BrokenPipeError, SystemExit) as end:
            if isinstance(end, SystemExit) and end.code in (0, TERMINATED):  # training has said where it stopped
                return int(end.code)
            _stop_writing()  # typer exits like this when nobody reads the output
            return NOBODY_READS
        except (KeyboardInterrupt, typer.Abort):
            return _say("stopped", INTERRUPTED, debug)
        except BothwaysError as error:
            return MISTAKE if error.told_already else _say(str(error), MISTAKE, debug)
        except _UsageError as error:
            return _say(_usage(error).replace(": Value error, ", ": "), MISTAKE, debug)
        except ModuleNotFoundError as error:
            return _say(_absent(error), MISTAKE if _extra(error) else UNEXPECTED, debug)
        except OSError as error:
            if error.filename is None:
                return _say(f"{error.strerror or error}", MISTAKE, debug)
            return _say(f"{error.filename}: {error.strerror}", MISTAKE, debug)
        except Exception as error:
            if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):  # torch's, not imported for it
                return _say(_too_large(typed), MISTAKE, debug)
            hint = "" if debug else " (not expected; run again with --debug for the traceback)"
            return _say(f"{type(error).__name__}: {error}{hint}", UNEXPECTED, debug)


def _too_large(typed: list[str]) -> str:
    """What to do where a GPU has no room, by the options of the command that was typed."""
    from bothways.cli.commands import application

    command: Any = typer.main.get_command(application())
    for word in typed:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
    known = {name for parameter in command.params for name in parameter.opts}
    ways = [way for name, way in _SMALLER.items() if name in known]
    *most, last = ways or [""]
    what = f"; try {', '.join(most)}{' or ' if most else ''}{last}" if ways else ""
    return f"the GPU has not enough free memory for this{what}"


def _extra(error: ModuleNotFoundError) -> str | None:
    return _EXTRAS.get((error.name or "").partition(".")[0])


def _absent(error: ModuleNotFoundError) -> str:
    extra = _extra(error)
    if extra is None:
        return f"{error} (not expected; is the installation whole?)"
    return f"this command needs {error.name}, which is not installed: pip install 'bothways[{extra}]'"


def _say(sentence: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    own = "" if speaks() else f"process {os.environ['RANK']}: "
    print(f"bothways: {own}" + " ".join(sentence.split()), file=sys.stderr)
    return status


def _usage(error: Any) -> str:
    sentence = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return sentence
    return (
        f"{sentence} See {context.command_path} --help"
        if sentence.endswith("?")
        else (f"{sentence}; see {context.command_path} --help")
    )


def _open_closed() -> None:
    """Gives what is written to a stream that the shell has closed (``>&-``) to nobody, rather than failing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


def _stop_writing() -> None:
    """Lets nothing more be written to a pipe that nobody reads, also not by the interpreter as it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Shows each warning of ours as one line, once; those of other libraries as they are."""
    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", BothwaysWarning)
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, BothwaysWarning):
                others(message, category, filename, lineno, file, line)
            elif str(message) not in said:
                said.add(str(message))
                print("note: " + " ".join(str(message).split()), file=sys.stderr, flush=True)

        warnings.showwarning = show
        yield
