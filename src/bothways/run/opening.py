"""Opening a saved model, whatever it is: one with weights needs torch, an exported one does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from bothways.errors import BothwaysError
from bothways.run.exported import Exported, is_exported

if TYPE_CHECKING:
    from bothways.run.model import Model


def load(
    source: str | Path,
    *,
    device: str | None = None,
    precision: str = "float32",
    engine: str | None = None,
    offline: bool = False,
    truncation: str | None = None,
    adapter: str | Path | None = None,
) -> Model:
    """Opens a saved model.

    Args:
        source: A model folder, the output folder of a run, an exported folder, or a hub id. A path never touches the
            network.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU if there is one. Exported models run on the CPU.
        precision: ``"float32"`` (exact), ``"bf16"``, or ``"auto"`` (bf16 where the device multiplies it natively). An
            exported model is computed in what it was exported in; OpenVINO computes its float32 graphs in bf16 too.
        engine: What runs it: ``"packed"`` (the fastest on a processor), ``"reference"`` (plain torch); ``"onnx"`` or
            ``"openvino"`` for what was exported to it; None takes the fastest for the device.
        offline: Keeps hub ids to what was downloaded before.
        truncation: What happens to texts that are too long: ``warn``, ``error``, ``head``, ``head_tail`` or ``window``;
            None does as the model was trained.
        adapter: The folder of a LoRA adapter, of `finetune` or of the library `peft`, that is merged into the weights.

    Returns:
        A `Model`, or for an exported folder an `Exported`, which is asked the same questions but cannot be changed.

    Raises:
        BothwaysError: There is no such model, its family is not supported, or its files do not fit together; the
            adapter was made for another model; or an exported folder was made for another version, processor, engine
            or precision.
    """
    folder = Path(source).expanduser()
    if is_exported(folder):
        _refuse(source, device, adapter)
        opened = Exported(folder, engine=engine, precision=precision, truncation=truncation, name=str(source))
        return cast("Model", opened)
    if engine in ("onnx", "openvino"):
        raise BothwaysError(
            f"{source} is not an exported folder, which the engine {engine!r} needs; make one: bothways export "
            f"{source} OUT --to {engine}"
        )
    from bothways.run.model import load as load_weights

    return load_weights(
        source,
        device=device,
        precision=precision,
        engine=engine or "auto",
        offline=offline,
        truncation=truncation,
        adapter=adapter,
    )


def _refuse(source: str | Path, device: str | None, adapter: str | Path | None) -> None:
    if device not in (None, "cpu"):
        raise BothwaysError(f"{source} is exported and runs on the CPU, not on {device!r}; open the original there")
    if adapter is not None:
        raise BothwaysError(f"{source} is exported, so no adapter can be merged into it; merge it, then export again")
