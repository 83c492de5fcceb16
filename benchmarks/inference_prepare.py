"""The models of `inference.py` as its peers want them, each made by the library's own helper.

A script of its own, which runs where the peers are installed; it makes a folder whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        kind: One of `KINDS`, also the name of the folder.
        model: The published folder.
        folder: Where all kinds of this model lie.
        calibration: A folder with a JSON lines file of texts, for the quantisation that wants some.
        length: The most tokens of a text.
        processor: As the helper of ONNX quantisation calls it, such as ``"avx512_vnni"``.
    """

    kind: str
    model: str
    folder: str
    calibration: str
    length: int
    processor: str


def onnx(order: Order, out: Path) -> None:
    """ONNX by sentence-transformers, in float32 and, by its dynamic quantisation for this processor, in int8."""
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    model = SentenceTransformer(order.model, device="cpu", backend="onnx", model_kwargs={"export": True})
    model.save_pretrained(str(out))
    export_dynamic_quantized_onnx_model(model, order.processor, str(out), file_suffix="int8")


def openvino(order: Order, out: Path) -> None:
    """OpenVINO by sentence-transformers, in float32 and, by its quantisation calibrated on 300 texts, in int8."""
    from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

    model = SentenceTransformer(order.model, device="cpu", backend="openvino", model_kwargs={"export": True})
    model.save_pretrained(str(out))
    export_static_quantized_openvino_model(
        model,
        None,
        str(out),
        dataset_name=order.calibration,
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
        file_suffix="int8",
    )


def fastembed(order: Order, out: Path) -> None:
    """The ONNX file of sentence-transformers with the tokenizer's files beside it, which say where texts are cut."""
    out.mkdir()
    shutil.copy(Path(order.folder) / "onnx" / "onnx" / "model.onnx", out / "model.onnx")
    for name in ("config.json", "special_tokens_map.json", "tokenizer.json"):
        shutil.copy(Path(order.model) / name, out / name)
    settings = json.loads((Path(order.model) / "tokenizer_config.json").read_text())
    settings |= {"model_max_length": order.length, "max_length": order.length}
    (out / "tokenizer_config.json").write_text(json.dumps(settings))


def ctranslate2(order: Order, out: Path, precision: str) -> None:
    """CTranslate2's own form by its converter."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(order.model).convert(str(out), quantization=precision)


def quantized(order: Order, out: Path, bound: float) -> None:
    """Ours: as much int8 as a worst cosine allows, the others' being 0.98 to 0.99."""
    import bothways as bw

    model = bw.load(order.model)
    model.quantize("int8", worst_cosine=bound)
    model.save(out)


KINDS: dict[str, Callable[[Order, Path], None]] = {
    "onnx": onnx,
    "openvino": openvino,
    "fastembed": fastembed,
    "ctranslate2-float32": partial(ctranslate2, precision="float32"),
    "ctranslate2-int8": partial(ctranslate2, precision="int8"),
    **{f"within-{bound}": partial(quantized, bound=bound) for bound in (0.9995, 0.999, 0.99)},
}
"""In this order: fastembed takes what was made for ONNX."""


def main() -> None:
    """Makes one kind under another name, then gives it its own."""
    order = Order(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory(dir=order.folder) as beside:
        made = Path(beside) / order.kind
        KINDS[order.kind](order, made)
        made.rename(Path(order.folder) / order.kind)
    print(json.dumps({"made": order.kind}))


if __name__ == "__main__":
    main()
