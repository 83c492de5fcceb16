"""Locks in a child of this process: what another thread held at the fork, nobody would ever give back there."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """What has locks."""

    def renew(self) -> None:
        """Makes its locks anew."""
        ...


_KNOWN: WeakSet[Renewable] = WeakSet()


def renewed(one: Renewable) -> None:
    """Has an object make its locks anew in each child, as long as it is there.

    Args:
        one: The object, whose locks are made here too.
    """
    _KNOWN.add(one)
    one.renew()


def _renew_all() -> None:
    for one in list(_KNOWN):
        one.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
