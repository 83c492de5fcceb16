"""Which precision and which packed engine a model is given: what was asked for, what is known, what holds."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, BothwaysWarning, closest
from bothways.model.kernels.compiled import describe_kernels
from bothways.run.bound import Bound, note, remembered, usual_precision
from bothways.run.compared import keep, recall
from bothways.run.engines.packed.engine import PackedEngine, fast_precision
from bothways.run.engines.packed.int8 import can_int8
from bothways.run.engines.packed.int16 import can_int16
from bothways.run.precision import native_bf16, resolve_precision
from bothways.run.processor import processor_kind

if TYPE_CHECKING:
    from bothways.run.model import Model

PLAIN = ("bf16", "int16")
"""Lower precisions that need nothing but the weights."""
_ALL = ("auto", "float32", *PLAIN, "fp16", "int8")


def precision_for(model: Model, asked: str) -> str:
    """The precision itself; for ``auto`` what was found fastest on this kind of processor, else `fast_precision`.

    Raises:
        BothwaysError: There is no such precision.
    """
    if asked not in _ALL:
        raise BothwaysError(f"there is no precision {asked!r}; there are {', '.join(_ALL)}{closest(asked, _ALL)}")
    if asked in ("int8", "int16"):
        return asked
    if asked == "auto" and model.device.type == "cpu" and model._asked != "reference":
        return usual_precision(model._known.lower, processor_kind(), model._bound) or fast_precision()
    return resolve_precision(asked, model.device).name


def packed_for(model: Model) -> PackedEngine:
    """The packed engine in the model's precision.

    Lower precision is compared with float32 before it is taken, of models that read texts. Where it is too far, layers
    stay in higher precision; ``auto`` goes on to a higher one for all, also where it is slower.

    Raises:
        BothwaysError: It does not stay within the bound, and was asked for by its name.
    """
    precision = model.precision
    if not model._auto and precision == "bf16" and not (native := native_bf16("cpu"))[0]:
        warnings.warn(BothwaysWarning(f"bf16 is slower here than float32: {native[1]}"), stacklevel=2)
    untold = precision in PLAIN and model._known.tokenizer is None  # there is no text to compare by
    if untold or precision == "float32":
        return PackedEngine(model.parts, precision, manner=model._manner)
    beyond = None
    try:
        if (engine := _compared(model, precision)) is not None:
            return engine
    except BothwaysError as error:
        if not model._auto:
            raise
        beyond = error
    if precision != "int16" and can_int16():
        model.precision = "int16"
        return packed_for(model)
    if beyond is not None:
        warnings.warn(BothwaysWarning(f"{beyond}, as is done now"), stacklevel=2)
    model.precision = "float32"
    return packed_for(model)


def _compared(model: Model, precision: str) -> PackedEngine | None:
    """The engine of a lower precision, by what is known of it, or compared now; None for ``auto`` where it is slower.

    Raises:
        BothwaysError: It does not stay within the bound, or is int8 where that is not computed rightly.
    """
    if precision == "int8" and not can_int8():  # also where another machine found what is remembered
        raise BothwaysError("this processor, or this torch, has no fast int8 products; use float32 or bf16")
    parts, manner, lower = model.parts, model._manner, model._known.lower
    known, rounded = remembered(lower, precision, model._bound), model._saved.rounded
    if known is None and precision in PLAIN and (before := recall(precision, _depends_on(model))) is not None:
        found, bound = before
        if found.pop("gain") < 1 and model._auto:
            return None
        if not (model._auto and found["kept"]):  # all layers in another precision are faster
            note(lower, precision, found | {"weights": parts.fingerprint()}, bound)
            known = remembered(lower, precision, model._bound)
    if known is not None and (rounded or precision in PLAIN) and known.get("weights") == parts.fingerprint():
        from bothways.run.engines.packed.calibrate import from_tensors

        if precision == "int8":
            return PackedEngine(parts, precision, rounded=from_tensors(rounded), manner=manner)
        return PackedEngine(parts, precision, manner=manner, kept=known["kept"])
    from bothways.run.guard import checked
    from bothways.run.lower import gain, remember

    looked = checked(model, parts, precision, model._bound, manner=manner, search=not model._auto)
    remember(model, precision, looked, model._bound or Bound())
    if precision in PLAIN:
        timed = {"gain": gain(model, looked.engine)}
        keep(precision, _depends_on(model), looked.noted() | timed, model._bound or Bound())
        if model._auto and timed["gain"] < 1:
            return None
    return looked.engine


def _depends_on(model: Model) -> tuple[object, ...]:
    """What the numbers of a precision depend on."""
    parts = model.parts
    return (
        *(parts.fingerprint(), parts.encoder.config, sorted(parts.head_configs.items()), model.sentence),
        *(model.tokenizer.fingerprint, model.max_length, describe_kernels(), version("torch")),
    )
