"""Encoders that the tables pre-train: BERT-mini and its like, on Wikipedia and books."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from cells import Result, Room

BODY = {"layers": "4", "width": "256", "embeddings.width": "256", "attention.heads": "4", "feed_forward.width": "1024"}
LENGTH, BATCH, TOKENS, MASKED, MEASURED = 64, 2048, 10_000_000, 0.3, 40
"""Tokens in a sequence, in a step and in all; the share that is masked: small encoders leave the plateau of word
frequencies sooner with more than 15 % (Wettig et al. 2023); and steps in which memory is measured."""


def corpus(room: Room, every: int = 1) -> Path:
    """Wikipedia and books, cut into tokens; of them each document, or one of `every`."""
    import bothways as bw
    from bothways.text.documents import read_documents
    from bothways.text.prepare import prepare

    sources = [str(room.data / name / "train.txt.gz") for name in ("wikipedia-en-slice", "gutenberg-books")]

    def tokenizer(folder: Path) -> None:
        bw.train_tokenizer(sources, vocab_size=8000, out=folder)

    def cut(folder: Path) -> None:
        tokens = bw.Tokenizer.load(room.made("tokenizer", tokenizer, sign="tokenizer.json"))
        documents = [document for source in sources for document in read_documents(source)]
        prepare(documents[::every], tokens, folder)

    return room.made("corpus" if every == 1 else f"corpus-{every}", cut, sign="index.json")


def encoder(room: Room, name: str, *, tokens: int = TOKENS, every: int = 1, **settings: Any) -> Path:
    """The folder of an encoder, which is pre-trained if it is not there; an interrupted training goes on.

    Args:
        room: Where it lies.
        name: Its folder.
        tokens: Read in training, repetitions counted.
        every: Takes one document of so many.
        settings: What differs: of `bothways.pretrain`; and ``family``, ``body``, ``attention_start``.
    """
    if not (room.work / f"encoder-{name}" / "model").exists():
        text, options = _recipe(room, name, every, settings)
        room.made(f"encoder-{name}", lambda folder: _pretrain(text, folder, tokens, options))
    return room.work / f"encoder-{name}"


def _recipe(room: Room, name: str, every: int, settings: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The corpus, and what `bothways.pretrain` is told, with the encoder before its training."""
    import bothways as bw
    from bothways.text.shards import Corpus

    text, settings = corpus(room, every), dict(settings)
    family, body = settings.pop("family", "bert"), settings.pop("body", BODY)
    begins = settings.pop("attention_start", None)
    options = {"objective": "mlm", "mask_rate": MASKED, "batch_tokens": BATCH, "max_length": LENGTH, **settings}

    def start(folder: Path) -> None:
        heads = () if "rtd" in options["objective"] else ("mlm",)
        words = Corpus.open(text).tokenizer
        bw.new(family, vocab=words, settings=body, heads=heads, attention_start=begins).save(folder)

    return text, options | {"base": room.made(f"start-{name}", start, sign="config.json")}


def _pretrain(text: Path, folder: Path, tokens: int, options: dict[str, Any]) -> None:
    import bothways as bw

    steps = round(tokens / options["batch_tokens"])
    bw.pretrain(text, out=folder, steps=steps, optimizer="muon", dropout=0.0, **options)


def pretrained(room: Room, name: str, **settings: Any) -> Result:
    """The cell of a pre-training: its steps, losses and accuracies, and its size."""
    import bothways as bw

    folder = encoder(room, name, **settings)
    run = json.loads((folder / "run.json").read_text())["results"]
    kept = ("steps", "tokens", "seconds", "loss")
    told = {key: value for key, value in run.items() if key in kept or key.startswith(("accuracy.", "loss."))}
    return told | {"parameters": bw.load(folder).parameters, "encoder": weights(folder)}


def memory(room: Room, name: str, **settings: Any) -> Result:
    """What so many steps of a pre-training need, in a process that does nothing else."""
    from bothways.run.machine import peak_memory

    text, options = _recipe(room, name, 1, settings)
    with tempfile.TemporaryDirectory() as folder:
        _pretrain(text, Path(folder) / "run", MEASURED * BATCH, options)
    return {"memory": peak_memory()}


def weights(folder: Path) -> str:
    """A name of an encoder's weights, by which cells of one pre-training are told from those of another."""
    path = folder / "model" if (folder / "model").is_dir() else folder
    return hashlib.blake2b((path / "model.safetensors").read_bytes(), digest_size=4).hexdigest()


def untrained(folder: Path, seed: int) -> Any:
    """The same encoder with random weights."""
    import bothways as bw
    from bothways.run.model import Model

    model = bw.load(folder)
    return Model.random(model.config, model.tokenizer, seed=seed)
