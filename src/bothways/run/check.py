"""Whether an exported model computes what the original does, on real texts of many lengths."""

from __future__ import annotations

import itertools
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bothways.chance import generator
from bothways.model.config import HeadConfig
from bothways.run.engines.protocol import DENSE, HIDDEN, VECTOR, Engine, Output
from bothways.run.likeness import Likeness, decisions_alike, together, vectors_alike
from bothways.run.runner import Runner
from bothways.text.everyday import everyday_sentences

_TEXTS, _LONGEST, _TOKENS = 64, 512, 512
"""How many texts of each kind are compared, the most words of one, and how many tokens run at a time."""
_READ, _OTHERS = ("email", "json", "logging"), ("asyncio", "http", "importlib", "tkinter", "unittest", "xml")
_NO_SOURCE = "This installation of Python has no source to read, so the same few words are said again and again."


def real_texts(longest: int | None = None, *, others: bool = False) -> list[str]:
    """English texts of 1 to `longest` words, the same on every call, in a shuffled order.

    Half of them are the documentation of this Python, cut, and half short sentences as people write them: what lower
    precision does to captions, names and questions, technical prose does not show.

    Args:
        longest: Words; 512 where nothing sets a limit.
        others: Whether texts that the usual ones do not hold are wanted, and three times as many.
    """
    from bothways.text.pydocs import python_documentation

    longest = min(longest or _LONGEST, _LONGEST)
    standard, count = Path(sysconfig.get_path("stdlib")), 3 * _TEXTS if others else _TEXTS
    found = python_documentation(folders=[standard / name for name in (_OTHERS if others else _READ)])
    words = " ".join(text for document in found for text in document.paragraphs).split()
    stream = itertools.cycle(words or _NO_SOURCE.split())
    steps = [round(longest ** (place / (count - 1))) for place in range(count)]
    texts = [" ".join(itertools.islice(stream, step)) for step in steps]
    texts += everyday_sentences(_TEXTS + count)[-count:] if others else everyday_sentences(count)
    return [texts[place] for place in generator("real texts", 0).permutation(len(texts))]


def compare_engines(model: Runner, exact: Engine, found: Engine, texts: Sequence[str]) -> dict[str, Any]:
    """Compares all that two engines give for texts.

    Args:
        model: Its tokenizer and heads.
        exact: What is to be computed.
        found: What is computed.
        texts: Texts of many lengths; those that are too long are cut.

    Returns:
        Plain data: ``texts``, ``tokens``, and for each output its `Likeness` as a dictionary.
    """
    encoded = model.tokenizer.encode(list(texts), None, max_length=model.max_length, truncation="head")
    said: dict[str, Any] = {"texts": len(texts), "tokens": len(encoded.token_ids)}
    for output, head in _outputs(model, int(encoded.token_ids[-1])):
        parts: list[Likeness] = []
        for batch in encoded.batches(_TOKENS):
            (_, wanted), (_, got) = next(iter(exact.run([batch], output))), next(iter(found.run([batch], output)))
            alike = vectors_alike(got, wanted) if head is None else decisions_alike(got, wanted, head, batch)
            parts.append(alike)
        said[output.kind] = {name: value for name, value in together(parts)._asdict().items() if value is not None}
    return said


def _outputs(model: Runner, token: int) -> Iterator[tuple[Output, HeadConfig | None]]:
    """Everything a model can be asked for; masked words at the places of a token that all texts have."""
    yield Output(HIDDEN), None
    yield Output(VECTOR, model.sentence.pooling, dense=DENSE in model.head_configs), None
    for kind, head in model.head_configs.items():
        if kind == "mlm":
            yield Output("mlm", token=token), head
        elif kind not in ("crf", DENSE):
            yield Output(kind), head
