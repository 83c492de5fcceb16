"""Which precision and which packed engine a model is given: what was asked for, what is known, what holds."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run.bound import Bound, note, remembered, usual_precision
from bothways.run.compared import keep, recall
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.precision import native_bf16, processor_kind, resolve_precision

if TYPE_CHECKING:
    from bothways.run.model import Model


def precision_for(model: Model, asked: str) -> str:
    """The precision itself; for ``auto`` what was found fastest on this kind of processor, else bf16 where native.

    Raises:
        BothwaysError: There is no such precision.
    """
    if asked == "int8":
        return asked
    if asked == "auto" and model.device.type == "cpu" and model._asked != "reference":
        known = usual_precision(model._known.lower, processor_kind(), model._bound)
        if known is not None:
            return known
    return resolve_precision(asked, model.device).name


def packed_for(model: Model) -> PackedEngine:
    """The packed engine in the model's precision.

    Lower precision, unless bf16 was asked for as it is, is compared with float32 before it is taken.

    Raises:
        BothwaysError: It does not stay within the bound, and was asked for by its name.
    """
    parts, manner, precision = model.parts, model._manner, model.precision
    as_asked = precision == "bf16" and not model._auto and model._bound is None
    if as_asked:
        native, reason = native_bf16("cpu")
        if not native:
            warnings.warn(BothwaysWarning(f"bf16 is slower here than float32: {reason}"), stacklevel=2)
    if as_asked or precision == "float32":
        return PackedEngine(parts, precision, manner=manner)
    lower = model._known.lower
    known, rounded = remembered(lower, precision, model._bound), model._saved.rounded
    if known is None and precision == "bf16" and (before := recall(model)) is not None:
        note(lower, precision, before | {"weights": parts.fingerprint()}, model._bound or Bound())
        known = remembered(lower, precision, model._bound)
    if known is not None and (rounded or precision == "bf16") and known.get("weights") == parts.fingerprint():
        from bothways.run.engines.packed.calibrate import from_tensors

        return PackedEngine(
            parts, precision, rounded=from_tensors(rounded) if precision == "int8" else None, manner=manner
        )
    from bothways.run.guard import checked
    from bothways.run.lower import remember

    try:
        found = checked(model, parts, precision, model._bound, manner=manner)
    except BothwaysError as error:
        if not model._auto:
            raise
        warnings.warn(BothwaysWarning(f"{error}, as is done now"), stacklevel=2)
        model.precision = "float32"
        return PackedEngine(parts, "float32", manner=manner)
    remember(model, precision, found, model._bound or Bound())
    if precision == "bf16":
        keep(model, found.check)
    return found.engine
