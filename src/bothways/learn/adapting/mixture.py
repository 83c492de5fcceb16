"""What an adapted model reads: text of the domain, some general text so that it forgets less, and what is held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bothways.errors import BothwaysError
from bothways.text.documents import Document, Source, read_documents

HELD_OUT = 1000
"""Documents of each side that are held out, at most; one in so many:"""
ONE_IN = 50


@dataclass(frozen=True)
class Side:
    """Documents, and those of them that are held out.

    Attributes:
        source: All documents; read several times.
        text: The column that holds the text.
        held: Documents to be measured on, where they lie apart; None holds out one in fifty.
    """

    source: Source
    text: str = "text"
    held: Source | None = None

    def training(self) -> Iterator[Document]:
        """The documents to learn from."""
        for number, document in enumerate(read_documents(self.source, self.text)):
            if self.held is not None or not _is_held_out(number):
                yield document

    def held_out(self) -> list[str]:
        """The documents to be measured on.

        Raises:
            BothwaysError: There are none.
        """
        texts = []
        source = self.source if self.held is None else self.held
        for number, document in enumerate(read_documents(source, self.text)):
            if self.held is not None or _is_held_out(number):
                texts.append(" ".join(document.paragraphs))
            if len(texts) == HELD_OUT:
                break
        if not texts:
            raise BothwaysError(f"of fewer than {ONE_IN} documents none can be held out; give held-out text apart")
        return texts


def _is_held_out(number: int) -> bool:
    return number % ONE_IN == ONE_IN - 1 and number < ONE_IN * HELD_OUT


def mixed(domain: Side, general: Side | None, replay: float) -> Iterator[Document]:
    """The domain's documents, and between them as many general ones as make their share of the text.

    Args:
        domain: All of it is read, once.
        general: Read as far as it is needed, or as it goes.
        replay: The share of general text, in characters.
    """
    others = iter(()) if general is None or not replay else general.training()
    read = replayed = 0
    for document in domain.training():
        yield document
        read += sum(map(len, document.paragraphs))
        while replayed < replay / (1 - replay) * read and (other := next(others, None)) is not None:
            yield other
            replayed += sum(map(len, other.paragraphs))
