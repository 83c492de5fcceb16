"""The address of a server of PostgreSQL's, with the index that is meant on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from bothways.errors import BothwaysError, need

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DEFAULT = "bothways"
_SECONDS = 10  # to wait for a server


def driver() -> Any:
    """The library that talks to PostgreSQL."""
    return need("psycopg", "postgres", "An index on PostgreSQL")


class Address:
    """Where a server is, and which index on it.

    Attributes:
        name: Of the index.
        table: Of its passages.
        shown: The address without its password.

    Raises:
        BothwaysError: The name behind ``#`` is none.
    """

    def __init__(self, url: str) -> None:
        self._url, _, name = url.partition("#")
        self.name = name or _DEFAULT
        if not _NAME.fullmatch(self.name):
            raise BothwaysError(
                f"{self.name!r} cannot name an index; small letters, digits and _ can, as in postgresql://host/db#papers"
            )
        self.table = f"bothways_{self.name}"
        password = urlsplit(self._url).password
        shown = self._url.replace(f":{password}@", "@") if password else self._url
        self.shown = f"{shown}#{self.name}"

    def connect(self) -> Any:
        """A connection.

        Raises:
            BothwaysError: The server cannot be reached; the sentence names the address.
        """
        psycopg = driver()
        try:
            return psycopg.connect(self._url, connect_timeout=_SECONDS)
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise BothwaysError(f"the server {self.shown} cannot be reached ({reason:.200})") from error

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A connection for one transaction."""
        psycopg = driver()
        with self.connect() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                raise self.wrong(error) from error

    def wrong(self, error: Exception) -> BothwaysError:
        """What a server says, in a sentence."""
        reason = " ".join(str(error).split())
        kept = "what was added before is kept, and the same command goes on after it"
        return BothwaysError(f"the server {self.shown} gave up ({reason:.200}); {kept}")
