"""What Bothways says when something is wrong that its user can mend.

Every such mistake is one clear sentence: what is wrong, where, and what to do. The command line prints that sentence
and exits with code 2; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class BothwaysError(Exception):
    """A mistake that the user can mend, told in one sentence: what, where, what to do.

    Attributes:
        told_already: Whether another process of the same run has told it already.
    """

    told_already = False


class BothwaysWarning(UserWarning):
    """Something the user should know that does not stop the work, such as texts that were cut."""


def closest(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the known name closest to `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports an optional dependency.

    Args:
        module: The module to import, such as ``"torch"``.
        extra: The extra of Bothways that installs it, such as ``"torch"``.
        purpose: What needs it, as the start of a sentence: ``"Training"``.

    Raises:
        BothwaysError: The module is not installed; the sentence names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        message = f"{purpose} needs {module}, which is not installed: pip install 'bothways[{extra}]'"
        raise BothwaysError(message) from None
