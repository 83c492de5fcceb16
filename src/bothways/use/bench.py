"""How fast this machine pre-trains: each precision for some seconds, in a process of its own.

Such a process does what `bothways pretrain` does, with its loop, its data and its optimizer, and stops when its time is
over. The text may be made of random words: the speed does not depend on what they say.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.progress import progress, silent
from bothways.run.precision import check_precision

if TYPE_CHECKING:
    from bothways.learn.protocol import StepEvent
    from bothways.learn.state import Taken
    from bothways.text.documents import Source
    from bothways.text.shards import Corpus

PRECISIONS = ("float32", "bf16")
WARM, FEWEST = 2, 3
"""Steps that are not counted, because they set up kernels and memory, and the fewest that are."""
_WORDS = 300_000
"""Of the random text: more than a step takes, little enough to be prepared in a second."""
_END = "!"
"""Of every sentence: unlike a full stop it belongs to no abbreviation."""


@dataclass(frozen=True)
class Measured:
    """What one precision came to.

    Attributes:
        precision: Its name.
        tokens_per_second: In training, evaluations and checkpoints aside.
        utilisation: Share of the machine's arithmetic that was used (`bothways.learn.utilisation`).
        roof: Operations a second that the machine can do in this precision.
        waiting: Share of the time in which the next step's data were not ready.
        first_step: Seconds from the start of the process to the end of its first step.
        memory: Peak bytes: of the GPU if it trained there, else of the process; None where that is not known.
        steps: Steps that were counted.
    """

    precision: str
    tokens_per_second: float
    utilisation: float
    roof: float
    waiting: float
    first_step: float
    memory: int | None
    steps: int


def bench_pretrain(
    corpus: Source | Corpus | None = None,
    *,
    family: str = "bert",
    size: str | None = None,
    objective: str | None = None,
    max_length: int = 128,
    batch_tokens: int = 4096,
    micro_tokens: int = 16_384,
    optimizer: str | None = None,
    dropout: float | None = None,
    gradient_checkpointing: bool = False,
    vocab_size: int = 30_000,
    text: str = "text",
    precision: str = "auto",
    device: str | None = None,
    seconds: float = 30.0,
) -> list[Measured]:
    """Measures how fast pre-training goes here.

    Args:
        corpus: A prepared corpus, or raw text, which is prepared first; None makes one of random words.
        family: Of the encoder.
        size: A published size of the family; None for ``mini``, or the family's smallest.
        objective: As `bothways.pretrain` takes it; None takes those of the family's paper.
        max_length: The most tokens in a sequence.
        batch_tokens: Tokens in an optimizer step.
        micro_tokens: Tokens in one forward pass.
        optimizer: ``"adamw"`` or ``"muon"``; None takes what `bothways.pretrain` takes.
        dropout: Overrides the size's dropout everywhere.
        gradient_checkpointing: Whether layers are computed twice to hold less in memory.
        vocab_size: Of the vocabulary, where the corpus brings none.
        text: The column that holds the text, where the source has columns.
        precision: ``"float32"``, ``"bf16"``, or ``"auto"`` for both in turn.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        seconds: For which each precision is measured, after its first steps.

    Returns:
        What was measured, one a precision.

    Raises:
        BothwaysError: A setting or the corpus does not do, or the machine has too little memory.
    """
    check_precision(precision)
    if not 0 < seconds < float("inf"):
        raise BothwaysError(f"the seconds to measure must be above 0, not {seconds}")
    asked = {
        "family": family,
        "size": size,
        "objective": objective,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "micro_tokens": micro_tokens,
        "optimizer": optimizer,
        "dropout": dropout,
        "gradient_checkpointing": gradient_checkpointing,
        "device": device,
    }
    names = PRECISIONS if precision == "auto" else (precision,)
    with tempfile.TemporaryDirectory(prefix="bothways-bench-") as folder:
        place = _corpus(corpus, Path(folder), vocab_size, text, family)
        with progress("Measuring", total=len(names), unit="precisions") as bar:
            found = []
            for name in names:
                found.append(_in_process(asked | {"precision": name}, place, seconds))
                bar.advance(1, note=f"{name} {found[-1].tokens_per_second:,.0f} tokens/s")
    return found


def recommendation(found: Sequence[Measured], device: str | None = None) -> str:
    """What to choose, in a sentence."""
    from bothways.run.precision import resolve_precision

    best = max(found, key=lambda one: one.tokens_per_second)
    told = f"{best.tokens_per_second * 3600 / 1e6:,.0f} million tokens an hour in {best.precision}"
    if len(found) == 1:
        return f"{told}."
    other = min(found, key=lambda one: one.tokens_per_second)
    told += f", {best.tokens_per_second / other.tokens_per_second:.2f}× as many as in {other.precision}"
    taken = resolve_precision("auto", device or _device()).name
    if taken == best.precision:
        return f"{told}; --precision auto takes it."
    return f"{told}; --precision auto takes {taken} here, so give --precision {best.precision}."


def random_text(vocab_size: int, words: int = _WORDS) -> tuple[list[str], list[str]]:
    """Documents of made-up words, some of them frequent and most of them rare, and the vocabulary of all of them.

    Args:
        vocab_size: How many tokens the vocabulary has, special ones among them.
        words: How many words the documents have in all.
    """
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", _END]
    if vocab_size < len(specials) + 1:
        raise BothwaysError(f"a vocabulary of {vocab_size} tokens has no room for words; give at least 1,000")
    made = [_word(number) for number in range(vocab_size - len(specials))]
    draw = generator("bench", vocab_size)
    # Zipf's law: the frequency of a word is the inverse of its rank.
    ranks = np.exp(draw.random(words) * np.log(len(made) + 1)).astype(np.int64) - 1
    chosen = iter([made[rank] for rank in np.minimum(ranks, len(made) - 1)])
    sentences = []
    for length in draw.integers(5, 40, size=words // 20):
        sentence = [word for word, _ in zip(chosen, range(length), strict=False)]
        if sentence:
            sentences.append(" ".join(sentence).capitalize() + _END)
    return [" ".join(sentences[first : first + 20]) for first in range(0, len(sentences), 20)], [*specials, *made]


def _word(number: int) -> str:
    """A word for a number, in letters."""
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(97 + letter) + letters
    return letters


def _corpus(corpus: Source | Corpus | None, folder: Path, vocab_size: int, text: str, family: str) -> str:
    """The folder of a prepared corpus."""
    from bothways.learn.start import prepared_corpus
    from bothways.text.normalize import Normalization
    from bothways.text.prepare import prepare
    from bothways.text.tokenizer import Tokenizer

    if corpus is not None:
        return str(prepared_corpus(corpus, folder, None, vocab_size, True, text, family).folder.resolve())
    documents, vocabulary = random_text(vocab_size)
    tokenizer = Tokenizer.from_vocabulary(vocabulary, Normalization())
    return str(prepare(documents, tokenizer, folder / "corpus").folder)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# -- the process that is measured


def _in_process(asked: dict[str, Any], corpus: str, seconds: float) -> Measured:
    """Runs one precision in a process of its own."""
    task = {"settings": asked, "corpus": corpus, "seconds": seconds, "started": time.time()}
    done = subprocess.run([sys.executable, "-m", __name__, json.dumps(task)], capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        if done.returncode < 0:
            raise BothwaysError(
                f"training in {asked['precision']} was ended by signal {-done.returncode}, probably for want of memory;"
                " try a smaller --size, fewer --micro-tokens or --gradient-checkpointing"
            ) from None
        raise RuntimeError(f"the measured process failed:\n{done.stderr[-3000:]}") from None
    if "mistake" in answer:
        raise BothwaysError(answer["mistake"])
    return Measured(**answer)


def main() -> None:
    """What the measured process does: trains, and prints a line of JSON."""
    task = json.loads(sys.argv[1])
    try:
        answer = _measure(**task)
    except BothwaysError as mistake:
        answer = {"mistake": str(mistake)}
    print(json.dumps(answer))  # noqa: T201 - to the process that asked


def _measure(settings: dict[str, Any], corpus: str, seconds: float, started: float) -> dict[str, Any]:
    from bothways.learn.pretrain import pretrain
    from bothways.run.precision import resolve_precision
    from bothways.run.roof import roof

    silent()
    taken: list[Taken] = []
    first_step: list[float] = []
    device: list[str] = []
    memory: list[int | None] = []

    def watch(event: StepEvent) -> None:
        if not first_step:
            first_step.append(time.time() - started)
            device.append(next(event.model.parameters()).device.type)
        taken.append(event.taken)
        counted = taken[WARM:]
        if len(counted) >= FEWEST and sum(step.seconds for step in counted) >= seconds:
            memory.append(_memory(device[0]))  # here: what comes after the last step is not training
            event.stop()

    with tempfile.TemporaryDirectory(prefix="bothways-bench-") as out:
        never: dict[str, Any] = {"steps": 10**9, "evaluate_every": 10**9, "save_minutes": 10**6}
        pretrain(corpus, out=out, callbacks=[watch], **never, **settings)
    counted = taken[WARM:]
    spent = sum(step.seconds for step in counted)
    limit = roof(resolve_precision(settings["precision"], device[0]))
    return {
        "precision": settings["precision"],
        "tokens_per_second": sum(step.tokens for step in counted) / spent,
        "utilisation": 2 * sum(step.work for step in counted) / spent / limit,
        "roof": limit,
        "waiting": sum(step.waiting for step in counted) / spent,
        "first_step": first_step[0],
        "memory": memory[0],
        "steps": len(counted),
    }


def _memory(device: str) -> int | None:
    import torch

    from bothways.run.machine import peak_memory

    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()


if __name__ == "__main__":
    main()
