"""Adapting a general encoder to a domain: continued pre-training, with gain and forgetting measured.

Gururangan et al. 2020, "Don't Stop Pretraining"; the re-warmed, lower rate and the replayed share of general text as
Ibrahim et al. 2024, "Simple and Scalable Strategies to Continually Pre-train Large Language Models".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from bothways.errors import BothwaysError
from bothways.learn.adapting.bits import bits_per_character, passages
from bothways.learn.adapting.mixture import Side, mixed
from bothways.learn.adapting.vocabulary import (
    check_vocabulary,
    extended,
    with_more_tokens,
    word_counts,
)
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.pretrain import pretrain
from bothways.learn.processes import in_one_process
from bothways.learn.protocol import Callback
from bothways.learn.runs import as_typed, check_out, check_unread, one_at_a_time, read_run, replaced, will_make
from bothways.learn.settings import picked
from bothways.learn.start import check_training, configuration, suited_rate
from bothways.paths import as_path
from bothways.progress import say
from bothways.report.adaptation_page import adaptation_page
from bothways.report.page import write_page
from bothways.run.files import read_json
from bothways.run.model import Model, load
from bothways.text.documents import Source
from bothways.text.files import passes_once
from bothways.text.prepare import prepare
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer
from bothways.text.train import train_tokenizer
from bothways.whole import replace_text

RESULT, PAGE = "adaptation.json", "adaptation.html"
_PREPARED = "prepared"
_MEASURED_ON = {"domain": "held_out", "general": "general_held_out"}
"""The setting of each side that says what it is measured on."""
_OTHER = {"held_out": "measured on other text of the domain", "general_held_out": "measured on other general text"}
_SLOWER = 0.5
"""The highest rate of continued pre-training, as a share of what suits random weights."""

Vocabulary = Literal["keep", "extend", "own"]


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        model: The adapted encoder; saved in ``out/model``.
        result: What was measured, as in ``out/adaptation.json``.
        out: The folder.
    """

    model: Model
    result: dict[str, Any]
    out: Path


@in_one_process("Adapting")
@one_at_a_time
def adapt(
    base: str | Path | Model,
    corpus: Source,
    *,
    out: str | Path,
    general: Source | None = None,
    held_out: Source | None = None,
    general_held_out: Source | None = None,
    vocabulary: Vocabulary = "keep",
    new_tokens: int = 2000,
    replay: float = 0.1,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    max_length: int = 128,
    mask_rate: float | None = None,
    batch_tokens: int = 4096,
    micro_tokens: int = 16_384,
    learning_rate: float | None = None,
    schedule: str = "linear",
    warmup: float = 0.1,
    dropout: float | None = None,
    seed: int = 0,
    precision: str = "auto",
    device: str | None = None,
    text: str = "text",
    resume: bool = True,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Adapted:
    """Continues the pre-training of an encoder on text of a domain, and measures what it gains and forgets.

    Before and after, the model guesses the same masked words of held-out text of the domain and of general text; the
    measure is bits a character, which is comparable across vocabularies (`bothways.learn.adapting.bits`).

    Args:
        base: A model with a masked-token head, its folder or hub id.
        corpus: Text of the domain: files, folders, lists, frames; best cleaned before (`clean_corpus`).
        out: The folder of the run. An interrupted run in it goes on where it stopped.
        general: General text, to be replayed and to measure what is forgotten; None does neither.
        held_out: Text of the domain to be measured on; None holds out one in fifty documents of `corpus`.
        general_held_out: The same of general text.
        vocabulary: ``"keep"`` that of the base; ``"extend"`` it with words of the domain, which begin as the mean of
            their pieces; ``"own"``: a vocabulary of the domain and random weights, from scratch.
        new_tokens: How many words are added, at most.
        replay: Share of general text in what is read, in characters.
        minutes: Time for the training; or
        steps: optimizer steps; or
        epochs: passes over the text. One pass when none of the three is given.
        max_length: The most tokens in a sequence.
        mask_rate: Share of the tokens that are to be guessed; None for BERT's 15 %.
        batch_tokens: Tokens in an optimizer step.
        micro_tokens: Tokens in one forward pass.
        learning_rate: The highest rate; None takes half of what suits random weights of that width (with ``"own"``
            all of it), reached by a warm-up and left again as in the first training.
        schedule: How the rate goes on after the warm-up.
        warmup: Share of the steps in which the rate rises again.
        dropout: Overrides the model's dropout everywhere.
        seed: All randomness follows from it.
        precision: ``"auto"``, ``"float32"`` or ``"bf16"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        text: The column that holds the text, where the sources have columns.
        resume: Whether an unfinished run in `out` goes on.
        overwrite: Whether another run in `out` is thrown away.
        callbacks: Called after each step.

    Returns:
        The model and what was measured; ``out/adaptation.html`` shows it.

    Raises:
        BothwaysError: The base has no masked-token head, the vocabulary cannot be extended, a source cannot be read
            twice, or whatever `pretrain` refuses.
    """
    folder, start = as_path(out), load(base, device="cpu") if isinstance(base, str | Path) else base
    _check(start, corpus, general, vocabulary, replay, new_tokens)
    sides = {"domain": Side(corpus, text, held_out)}
    if general is not None:
        sides["general"] = Side(general, text, general_held_out)
    given = {
        "minutes": minutes,
        "steps": steps,
        "epochs": epochs,
        "max_length": max_length,
        "mask_rate": mask_rate,
        "batch_tokens": batch_tokens,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warmup": warmup,
        "dropout": dropout,
        "seed": seed,
    }
    usual = {"optimizer": None, "on_corrupt": "stop"}
    check_training({**given, "micro_tokens": micro_tokens, "precision": precision, **usual})
    picked(ObjectiveSettings, given, objective="mlm")
    configuration(start, None, None, max_length, dropout)
    held = {name: side.held_out() for name, side in sides.items()}
    measured = {name: passages(texts) for name, texts in held.items()}
    identity = {"base": start.name, "vocabulary": vocabulary, "new_tokens": new_tokens, "replay": replay, **given}
    identity |= {setting: _digest(measured.get(name)) for name, setting in _MEASURED_ON.items()}
    reads = [as_typed(one) for one in (base, corpus, general, held_out, general_held_out)]
    prepared = _begin(folder, identity, overwrite, reads)
    before = _kept(prepared / "before.json", lambda: _scores(start, measured, "before", seed))
    tokenizer, check, model = _vocabulary(start, sides, held, vocabulary, new_tokens, prepared)
    say(str(check["verdict"]))
    shards = prepare(mixed(sides["domain"], sides.get("general"), replay), tokenizer, prepared / "corpus")
    own = vocabulary == "own"
    rate = learning_rate or suited_rate(start.config.width, "muon" if own else "adamw") * (1.0 if own else _SLOWER)
    trained, taken = _after(
        model,
        shards,
        base=start,
        folder=folder,
        given={
            **given,
            "learning_rate": rate,
            "micro_tokens": micro_tokens,
            "precision": precision,
            "device": device,
            "resume": resume,
            "overwrite": overwrite,
            "callbacks": callbacks,
        },
    )
    result = {
        **identity,
        "tokens": shards.tokens,
        "learning_rate": rate,
        **taken,
        "check": check,
        "before": before,
        "after": _scores(trained, measured, "after", seed),
    }
    _write(folder / RESULT, result)
    write_page(folder / PAGE, adaptation_page(result))
    return Adapted(trained, result, folder)


def _check(
    start: Model, corpus: Source, general: Source | None, vocabulary: str, replay: float, new_tokens: int
) -> None:
    start.head("mlm", "adapt")
    if vocabulary not in ("keep", "extend", "own"):
        raise BothwaysError(f"vocabulary must be keep, extend or own, not {vocabulary!r}")
    if not 0 <= replay < 1:
        raise BothwaysError(f"replay must be a share from 0 to below 1, not {replay!r}")
    if new_tokens < 1:
        raise BothwaysError(f"new_tokens must be 1 or more, not {new_tokens}")
    for source in (corpus, general):
        if isinstance(source, str | Path) and not Path(source).is_dir() and passes_once(source):
            raise BothwaysError(f"{source} can be read only once, but is read several times here; give a file")
        if isinstance(source, str | Path) and (Path(source) / "index.json").is_file():
            raise BothwaysError(f"{source} is a prepared corpus, of another vocabulary; give the text it was made from")
        if hasattr(source, "__next__"):
            raise BothwaysError("the text is read several times here; give a list or a file, not an iterator")


def _digest(texts: Sequence[str] | None) -> str | None:
    """What tells some texts from others."""
    if texts is None:
        return None
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _begin(folder: Path, identity: dict[str, Any], overwrite: bool, reads: Sequence[Any]) -> Path:
    """The folder of what is prepared, once it is sure that it belongs to the same adaptation."""
    prepared = folder / _PREPARED
    known = prepared / "identity.json"
    if overwrite:
        check_unread([prepared, *replaced(folder)], reads)
        if prepared.exists() and not known.is_file():
            raise BothwaysError(f"{prepared} holds something else than what was prepared: choose another --out")
        shutil.rmtree(prepared, ignore_errors=True)
    elif not known.is_file():
        check_out(folder, resume=False)  # a run that is there was not begun by an adaptation
    before = read_json(known) if known.is_file() else identity
    other = [name for name in identity if before.get(name) != identity[name]]
    if other:
        told = [_OTHER.get(name, f"{name} {before.get(name)!r}") for name in other]
        raise BothwaysError(
            f"{folder} was begun otherwise ({', '.join(told)}); give the same, another --out, or --overwrite"
        )
    will_make(folder, _PREPARED)
    prepared.mkdir(exist_ok=True)
    if not known.is_file():
        _write(known, identity)
    return prepared


def _write(path: Path, value: Any) -> None:
    """Writes a JSON file that is whole whenever it is there: half of one would keep the run from going on."""
    replace_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _kept(path: Path, make: Any) -> Any:
    """What was measured before an interruption, or is measured now."""
    if not path.is_file():
        _write(path, make())
    return read_json(path)


def _scores(model: Model, held: dict[str, list[str]], when: str, seed: int) -> dict[str, Any]:
    found = {name: bits_per_character(model, texts, seed=seed).to_json() for name, texts in held.items()}
    told = ", ".join(f"{name} {score['bits_per_character']:.3f}" for name, score in found.items())
    say(f"Bits a character {when}: {told}")
    return found


def _vocabulary(
    start: Model, sides: dict[str, Side], held: dict[str, list[str]], vocabulary: str, new_tokens: int, prepared: Path
) -> tuple[Tokenizer, dict[str, Any], Model | None]:
    """The tokenizer to go on with, what the check says, and the model to begin with; none to begin at random."""
    base = start.tokenizer

    def paragraphs() -> Any:
        return (paragraph for document in sides["domain"].training() for paragraph in document.paragraphs)

    counts = word_counts(base, paragraphs())
    if (prepared / "own").exists():
        own = Tokenizer.load(prepared / "own")
    else:
        own = train_tokenizer(paragraphs(), vocab_size=base.size, lowercase=base.lowercase, out=prepared / "own")
    check = check_vocabulary(base, own, held["domain"], held.get("general", []), counts).to_json()
    if vocabulary == "own":
        return own, check, None
    if vocabulary == "keep":
        return base, check, start
    made, pieces = extended(base, counts, new_tokens)
    check |= {
        "added": len(pieces),
        "examples": [made.tokens[base.size + place] for place in range(min(20, len(pieces)))],
    }
    encoded = made.encode(held["domain"], special_tokens=False)
    check["extended"] = len(encoded.token_ids) / max(sum(len(one.split()) for one in held["domain"]), 1)
    return made, check, with_more_tokens(start, made, pieces)


def _after(
    model: Model | None, shards: Corpus, *, base: Model, folder: Path, given: dict[str, Any]
) -> tuple[Model, dict[str, Any]]:
    """The adapted model, which may have been trained by an earlier call, and its steps and seconds."""
    known = read_run(folder).get("results") if (folder / "run.json").is_file() else None
    if known is not None and given["resume"] and not given["overwrite"]:
        return load(folder / "model", device=given["device"]), {name: known.get(name) for name in ("steps", "seconds")}
    begin = {"base": model} if model is not None else {"family": base.config.family, "size": _published_size(base)}
    done = pretrain(shards, out=folder, objective="mlm", **begin, **given)
    return done.model, {"steps": done.history.steps, "seconds": done.history.seconds}


def _published_size(base: Model) -> str:
    """The published size that a model has, so that one from scratch is as large.

    Raises:
        BothwaysError: It has none of them.
    """
    from bothways.model.families import family

    for name, config in family(base.config.family).sizes.items():
        if (config.layers, config.width) == (base.config.layers, base.config.width):
            return name
    raise BothwaysError(
        f"{base.name} has no published size, so none can be trained from scratch for it; use bothways pretrain with "
        "settings of your own"
    )
