"""An exported model at work: a folder with a graph, a tokenizer and what is known of the model; torch is not needed.

The folder holds ``model.onnx`` or ``model.xml`` and ``model.bin``, the tokenizer's files, ``bothways.json``, and the
scores of a CRF in ``tables.safetensors`` where the model has one.
"""

from __future__ import annotations

import dataclasses
import platform
import warnings
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, BothwaysWarning, closest
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.run.bound import Bound, said
from bothways.run.engines.protocol import Manner
from bothways.run.engines.rectangles import RectangleEngine
from bothways.run.files import write_json
from bothways.run.folder_files import OWN_FILE, own_file
from bothways.run.known import Known
from bothways.run.machine import BF16_FEATURES, processor_features
from bothways.run.questions import Questions
from bothways.run.rounded_graph import rounded_check
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.tokenizer import Tokenizer

FORM = 2
"""Of exported folders; a higher one is read by later versions only."""
TARGETS = {"onnx": ("float32", "int8"), "openvino": ("float32",)}
"""What can be exported to, and in which precisions."""
_DOT = ("avx512_vnni", "avx_vnni")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return "exported" in own_file(folder)


def write_description(folder: Path, known: Known, config: EncoderConfig, exported: dict[str, Any]) -> None:
    """Writes all that a model folder knows, but for the weights.

    Args:
        folder: Of the exported model.
        known: What is known of the model.
        config: What its encoder is.
        exported: ``to``, ``precision``, ``needs``, layers ``kept`` in float32, a hash of the ``graph`` and the
            ``check`` of its outputs.
    """
    import bothways

    described = {
        "bothways": bothways.__version__,
        "exported": {"form": FORM, **exported},
        "max_length": known.max_length,
        "truncation": known.truncation,
        "task": known.task,
        "decoding": known.decoding,
        "sentence": dataclasses.asdict(known.sentence),
        "heads": [head.to_dict() for head in known.head_configs.values()],
        "encoder": config.to_dict(),
    }
    write_json(folder / OWN_FILE, described)


def exact_int8() -> tuple[bool, list[str]]:
    """Whether this processor sums products of 8-bit numbers without loss, and what another one needs to do so.

    Older x86 processors add pairs of products in 16 bits, which overflow where weights use all 8 bits; there a graph is
    made with weights of 7 bits, which every processor computes alike.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True, list(_DOT)
    exact = bool(set(_DOT) & set(processor_features()))
    return exact, list(_DOT) if exact else []


class NotExportedError(BothwaysError, AttributeError):
    """Something that a `Model` has and its exported graph has not; for `hasattr` it is simply not there."""


class Exported(Questions):
    """An exported model; it answers the same questions as the `Model` that it was made of.

    Args:
        folder: Where it lies.
        engine: ``"onnx"`` or ``"openvino"``, what it was exported to; None takes that.
        precision: What products are computed in: float32 is what the graph was exported in; ``"bf16"`` and ``"auto"``
            ask OpenVINO to round float32 graphs.
        truncation: What happens to texts that are too long; None does as the model was trained.
        bound: What its outputs must keep of the original's, as they were compared when it was exported.
        manner: How the engine runs.
        name: For messages.

    Attributes:
        exported: What is known of the export: ``to``, ``precision``, the check of its outputs.
        precision: What products are computed in.
        check: How like the original's what it computes is; in bf16 that of the float32 graph until the engine is made.

    Raises:
        BothwaysError: The folder is not whole, was written by a later version or for another processor, or was asked
            for what it is not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        engine: str | None = None,
        precision: str = "float32",
        truncation: str | None = None,
        bound: Bound | None = None,
        manner: Manner | None = None,
        name: str = "this model",
    ) -> None:
        own = own_file(folder)
        self.folder, self.exported = folder, own.get("exported", {})
        self._at = folder.absolute()  # wherever the process is when the first question comes
        _check_form(folder, own)
        try:
            known = _known(folder, own)
            self._config = EncoderConfig.from_dict(own["encoder"], str(folder / OWN_FILE))
        except (KeyError, TypeError, AttributeError):
            raise BothwaysError(f"{folder / OWN_FILE} is not what bothways writes; export the model again") from None
        super().__init__(known, truncation=truncation, name=name)
        self._target = _check_engine(name, self.exported["to"], engine)
        self.precision = _check_precision(name, self.exported, precision)
        _check_processor(name, self.exported)
        _check_bound(name, self.exported, bound)
        self.check: dict[str, Any] = self.exported.get("check", {})
        self._manner, self._bound, self._auto = manner, bound or Bound(), precision == "auto"
        self._engine: RectangleEngine | None = None

    @property
    def config(self) -> EncoderConfig:
        """What the encoder is."""
        return self._config

    @property
    def engine(self) -> RectangleEngine:
        """What runs it: made at the first question, and in bf16 compared with float32 first.

        Raises:
            BothwaysError: bf16 was asked for by its name and is beyond the bound.
        """
        with self._turns.compute:
            if self._engine is None:
                lowered = self.precision != self.exported["precision"]
                self._engine = self._rounding_engine() if lowered else self._engine_in(self.precision)
        return self._engine

    def _engine_in(self, precision: str) -> RectangleEngine:
        pad, graph = self._config.embeddings.pad_id, self.exported.get("graph", "")
        return _engine_class(self._target)(self._at, pad, precision, graph, self._manner)

    def _rounding_engine(self) -> RectangleEngine:
        """One that rounds a float32 graph if that stays within the bound; for ``auto`` else one that does not."""
        rounding = self._engine_in(self.precision)
        check = rounded_check(self, rounding, lambda: self._engine_in("float32"))
        if self._bound.holds(check):
            self.check = check
            return rounding
        beyond = f"{self.name} in {self.precision} is {said(check)}, beyond the bound ({self._bound})"
        if not self._auto:
            raise BothwaysError(f"{beyond}, and {self._target} rounds all layers alike; open it in float32")
        warnings.warn(BothwaysWarning(f"{beyond}; it is computed in float32"), stacklevel=4)
        self.precision = "float32"
        return self._engine_in("float32")

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_engine": None}

    def __getattr__(self, name: str) -> Any:
        if name in _OF_MODELS:
            raise NotExportedError(
                f"{self.name} is exported: it answers questions, but has no weights to read or change ({name}); open "
                "the folder that it was exported from"
            )
        raise AttributeError(name)


_OF_MODELS = (
    "encoder",
    "heads",
    "save",
    "save_adapter",
    "copy",
    "to",
    "with_encoder",
    "attentions",
    "export",
    "quantize",
)
"""What a `Model` has and an exported one cannot."""


def _engine_class(target: str) -> type[RectangleEngine]:
    if target == "onnx":
        from bothways.run.engines.onnx import OnnxEngine

        return OnnxEngine
    from bothways.run.engines.openvino import OpenVinoEngine

    return OpenVinoEngine


def _known(folder: Path, own: dict[str, Any]) -> Known:
    heads = [HeadConfig.from_dict(head, str(folder / OWN_FILE)) for head in own["heads"]]
    return Known(
        head_configs={str(head.kind): head for head in heads},
        tokenizer=Tokenizer.load(folder),
        sentence=SentenceRecipe(**own["sentence"]),
        max_length=own["max_length"],
        truncation=own["truncation"],
        task=own["task"],
        decoding=own["decoding"],
    )


def _check_form(folder: Path, own: dict[str, Any]) -> None:
    exported = own.get("exported")
    if not isinstance(exported, dict) or exported.get("to") not in TARGETS:
        raise BothwaysError(f"{folder} is not an exported model; make one: bothways export MODEL {folder} --to onnx")
    if exported.get("form") != FORM:
        import bothways

        raise BothwaysError(
            f"{folder} was exported by bothways {own.get('bothways')} in form {exported.get('form')}, and this version "
            f"({bothways.__version__}) reads form {FORM}; export the model again with this version"
        )


def _check_engine(name: str, target: str, engine: str | None) -> str:
    if engine not in (None, "auto", target):
        raise BothwaysError(
            f"{name} was exported to {target} and cannot run on the engine {engine!r}{closest(str(engine), [target])}; "
            "leave engine out, or export the model again"
        )
    return target


def _check_precision(name: str, exported: dict[str, Any], precision: str) -> str:
    """The precision to compute in: that of the graph, or bf16 where it is asked for and the processor has it."""
    made = str(exported["precision"])
    if (exported["to"], made) == ("openvino", "float32") and precision in ("auto", "bf16"):
        if set(BF16_FEATURES) & set(processor_features()):
            return "bf16"
        if precision == "bf16":
            raise BothwaysError(f"this processor does not multiply bf16 natively; open {name} in float32")
    if precision in ("auto", "float32", made):
        return made
    raise BothwaysError(
        f"{name} was exported to {exported['to']} in {made}, and is not computed in {precision}; leave precision out, "
        "or export the model again"
    )


def _check_bound(name: str, exported: dict[str, Any], bound: Bound | None) -> None:
    if bound is not None and "check" in exported and not bound.holds(exported["check"]):
        raise BothwaysError(
            f"{name} was exported in {exported['precision']}, which is beyond the bound ({bound}); export the model "
            "again with --worst-cosine and --equal-decisions as they are asked here, or in float32"
        )


def _check_processor(name: str, exported: dict[str, Any]) -> None:
    needed = exported.get("needs", [])
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if needed and x86 and not set(needed) & set(processor_features()):
        raise BothwaysError(
            f"{name} was exported in {exported['precision']} for processors with {' or '.join(needed)}, and this one "
            "would compute other numbers; export the model again on this machine, or in float32"
        )
