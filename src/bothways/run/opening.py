"""Opening a saved model, whatever it is: one with weights needs torch, an exported one does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from bothways.errors import BothwaysError
from bothways.run.bound import asked_bound
from bothways.run.engines.protocol import Manner
from bothways.run.exported import Exported, is_exported
from bothways.run.hub import find

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
    worst_cosine: float | None = None,
    equal_decisions: float | None = None,
    deterministic: bool = False,
    pin: bool = False,
) -> Model:
    """Opens a saved model.

    Args:
        source: A model folder, the output folder of a run, an exported folder, or a hub id. A path never touches the
            network.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU if there is one. Exported models run on the CPU.
        precision: ``"float32"`` (exact), ``"bf16"``, ``"int16"`` (as fast, with nearly the digits of float32),
            ``"int8"``, or ``"auto"``: what `Model.quantize` or ``bothways bench embed --keep`` found fastest on this
            kind of processor, else bf16 where the device multiplies it natively, else int16 where it has VNNI. An
            exported model is computed in what it was exported in; OpenVINO computes its float32 graphs in bf16 too.
        engine: What runs it: ``"packed"`` (the fastest on a processor), ``"reference"`` (plain torch); ``"onnx"`` or
            ``"openvino"`` for what was exported to it; None takes the fastest for the device.
        offline: Keeps hub ids to what was downloaded before.
        truncation: What happens to texts that are too long: ``warn``, ``error``, ``head``, ``head_tail`` or ``window``;
            None does as the model was trained.
        adapter: The folder of a LoRA adapter, of `finetune` or of the library `peft`, that is merged into the weights.
        worst_cosine: What lower precision must keep of every vector, compared with float32; layers that lose most stay
            in higher precision until it does. None: what the model was quantized for, else 0.999.
        equal_decisions: The share of equal decisions that lower precision must keep, of each head; None: as above,
            else 0.995.
        deterministic: Whether each text is computed alone by one thread: slower, but the same to the bit whatever else
            is asked, in whatever order and by how many threads.
        pin: Whether each thread of the engine ``"packed"`` keeps to a core of its own.

    Returns:
        A `Model`, or for an exported folder an `Exported`, which is asked the same questions but cannot be changed.

    Raises:
        BothwaysError: There is no such model, its family is not supported, or its files do not fit together; the
            adapter was made for another model; or an exported folder was made for another version, processor, engine
            or precision.
    """
    bound, manner = asked_bound(worst_cosine, equal_decisions), Manner(deterministic, pin)
    folder = find(source, offline)
    if is_exported(folder):
        _refuse(source, device, adapter, pin)
        opened = Exported(
            folder,
            engine=engine,
            precision=precision,
            truncation=truncation,
            bound=bound,
            manner=manner,
            name=str(source),
        )
        return cast("Model", opened)
    if engine in ("onnx", "openvino"):
        raise BothwaysError(
            f"{source} is not an exported folder, which the engine {engine!r} needs; make one: bothways export "
            f"{source} OUT --to {engine}"
        )
    from bothways.run.model import load as load_weights

    return load_weights(
        folder,
        device=device,
        precision=precision,
        engine=engine or "auto",
        offline=offline,
        truncation=truncation,
        adapter=adapter,
        bound=bound,
        manner=manner,
        name=str(source),
    )


def _refuse(source: str | Path, device: str | None, adapter: str | Path | None, pin: bool) -> None:
    if device not in (None, "cpu"):
        raise BothwaysError(f"{source} is exported and runs on the CPU, not on {device!r}; open the original there")
    if adapter is not None:
        raise BothwaysError(f"{source} is exported, so no adapter can be merged into it; merge it, then export again")
    if pin:
        raise BothwaysError(f"{source} is exported, and its runtime places its threads itself; leave pin out")
