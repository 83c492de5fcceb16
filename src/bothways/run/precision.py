"""Which numbers to multiply with: float32, or bf16 where the processor or GPU multiplies it natively.

bf16 keeps float32's range with fewer digits, so the loss needs no scaling. Parameters stay float32 (the master
weights): `Precision.autocast` rounds only what goes into matrix products. Where bf16 is not native it is emulated,
slower than float32, so "auto" asks the hardware first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bothways.errors import BothwaysError, closest
from bothways.run.machine import BF16_FEATURES, processor_features
from bothways.run.processor import CAP, used_features

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "float32", "bf16")
_HALF = "fp16"


@dataclass(frozen=True)
class Precision:
    """What matrix products are computed in.

    Attributes:
        name: ``"float32"``, ``"bf16"``, or ``"fp16"``.
        reason: Why, in words.
        device: The kind of device it holds for: ``"cpu"``, ``"cuda"``, ...
    """

    name: str
    reason: str
    device: str

    def autocast(self, *, keeps: bool = True) -> torch.autocast:
        """A context in which matrix products are computed in this precision.

        Args:
            keeps: Whether a weight that was rounded is kept until the context ends.
        """
        import torch

        dtype = torch.float16 if self.name == _HALF else torch.bfloat16
        return torch.autocast(self.device, dtype=dtype, enabled=self.name != "float32", cache_enabled=keeps)


def check_precision(name: str) -> None:
    """Refuses a precision that does not exist.

    Raises:
        BothwaysError: It is not one of `PRECISIONS`.
    """
    if name == _HALF:
        raise BothwaysError("training knows no fp16, in which small gradients become 0; take bf16")
    if name not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise BothwaysError(f"there is no precision {name!r}; there are {known}{closest(name, PRECISIONS)}")


def resolve_precision(precision: str, device: torch.device | str) -> Precision:
    """Decides on a precision.

    Args:
        precision: ``"float32"``, ``"bf16"``, ``"fp16"`` on a GPU, for answers only, or ``"auto"``: bf16 where the
            device multiplies it natively.
        device: Where the model runs.

    Raises:
        BothwaysError: There is no such precision.
    """
    kind = str(device).partition(":")[0]
    if precision == _HALF:
        if kind == "cpu":
            raise BothwaysError("fp16 is for GPUs; a processor computes in float32, bf16, int16 or int8")
        return Precision(_HALF, "asked for", kind)
    check_precision(precision)
    if precision == "float32":
        return Precision("float32", "asked for", kind)
    native, reason = native_bf16(kind)
    if precision == "bf16":
        return Precision("bf16", f"asked for; {reason}", kind)
    return Precision("bf16" if native else "float32", reason, kind)


def native_bf16(kind: str) -> tuple[bool, str]:
    """Whether a kind of device multiplies bf16 natively, and how that is known."""
    if kind == "cuda":
        return _native_on_gpu()
    if kind == "cpu":
        return _native_on_processor()
    return False, f"native bf16 is not probed on {kind!r} devices"


def _native_on_gpu() -> tuple[bool, str]:
    import torch

    if not torch.cuda.is_available():
        return False, "no GPU can be used"
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return True, f"{name} multiplies bf16 natively"
    return False, f"{name} does not multiply bf16 natively"


def _native_on_processor() -> tuple[bool, str]:
    import torch

    instructions = [feature for feature in used_features() if feature in BF16_FEATURES]
    if not instructions:
        if set(processor_features()) & set(BF16_FEATURES):
            return False, f"{CAP}={os.environ[CAP]} keeps torch from the processor's bf16"
        return False, "the processor has no instructions for bf16 that are known here"
    has = f"the processor has {' and '.join(instructions)}"
    try:
        usable = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a torch built without oneDNN lacks the question
        usable = False
    return usable, has if usable else f"{has}, but this torch does not use them"
