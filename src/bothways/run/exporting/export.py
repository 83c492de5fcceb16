"""Exporting a model: a folder that runs without torch, checked against the original before it is there."""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bothways.errors import BothwaysError, closest, need
from bothways.paths import as_path
from bothways.run.bound import Bound, Metric
from bothways.run.check import compare_engines, real_texts
from bothways.run.engines import onnx as onnx_engine
from bothways.run.engines import openvino as openvino_engine
from bothways.run.engines.outputs import Parts
from bothways.run.engines.rectangles import TABLES_FILE
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.exported import TARGETS, Exported, exact_int8, is_exported, write_description
from bothways.run.exporting.graph import PLACES, Graph, refuse_unable
from bothways.run.exporting.kept import quantize_within
from bothways.run.files import new_folder
from bothways.run.guard import Judge
from bothways.run.sentence_folder import SentenceRecipe

if TYPE_CHECKING:
    from bothways.run.model import Model

_EXACT = 0.9999
"""The least cosine of any two vectors of a float32 graph; less means a mistake, not rounding."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        folder: Where it lies.
        to: ``"onnx"`` or ``"openvino"``.
        precision: Of the graph.
        megabytes: Of the folder.
        kept: Layers whose weights stayed float32 in an int8 graph, those that lose most first.
        check: For each output how like the original's it is.
    """

    folder: Path
    to: str
    precision: str
    megabytes: float
    kept: tuple[str, ...]
    check: dict[str, Any]


def export(
    model: Model,
    folder: str | Path,
    *,
    to: str = "onnx",
    precision: str = "float32",
    texts: Sequence[str] | None = None,
    bound: Bound | None = None,
    metric: Metric | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a model as a graph that another runtime runs; as `Model.export` says."""
    _check_wish(model, to, precision)
    folder = as_path(folder)
    if overwrite and folder.is_dir() and any(folder.iterdir()) and not is_exported(folder):
        raise BothwaysError(
            f"{folder} holds something else than an exported model, which is not replaced; choose another folder"
        )
    if model.device.type != "cpu":
        model = model.copy().to("cpu")
    parts = Parts(model.encoder, model.heads, model.head_configs)
    texts = list(texts or real_texts(model.max_length))
    with new_folder(folder, "the exported model", overwrite=overwrite) as half:
        said: dict[str, Any] = {"to": to, "precision": precision, "needs": [], "kept": []}
        plain = half if (to, precision) == ("onnx", "float32") else half / "plain"
        plain.mkdir(exist_ok=True)
        write_graph(parts, model.sentence, plain / onnx_engine.GRAPH)
        if to == "openvino":
            _to_openvino(plain, half)
        elif precision == "int8":
            exact, said["needs"] = exact_int8()
            _write_tables(model, half)  # which a metric may need
            judge = Judge(model, ReferenceEngine(parts, "float32"), texts, bound or Bound(), metric)
            said["kept"] = quantize_within(judge, parts, plain / onnx_engine.GRAPH, half, reduce_range=not exact)
        if plain != half:
            shutil.rmtree(plain)
        model.tokenizer.save(half)
        _write_tables(model, half)
        said["graph"] = _hash(half)
        write_description(half, model._known, model.config, said)
        made = Exported(half, name=str(folder))
        check = compare_engines(made, ReferenceEngine(parts, "float32"), made.engine, texts)
        if precision == "float32":
            _refuse_wrong(check, str(folder))
        write_description(half, model._known, model.config, {**said, "check": check})
        size = sum(path.stat().st_size for path in half.rglob("*") if path.is_file())
    return ExportReport(folder, to, precision, round(size / 1e6, 1), tuple(said["kept"]), check)


def _check_wish(model: Model, to: str, precision: str) -> None:
    if to not in TARGETS:
        raise BothwaysError(f"a model is exported to {' or '.join(TARGETS)}, not to {to!r}{closest(to, TARGETS)}")
    if precision not in TARGETS[to]:
        beside = "; OpenVINO computes a float32 export in bf16: bw.load(OUT, precision='bf16')" * (to == "openvino")
        raise BothwaysError(f"{to} is exported to in {' or '.join(TARGETS[to])}, not in {precision!r}{beside}")
    refuse_unable(model.config, model.name)
    if "sparse" in model.decoding:
        raise BothwaysError(f"{model.name} was trained for sparse vectors, which no exported model gives")
    for module in ("onnx", "onnxscript", "onnxruntime"):
        need(module, "onnx", "Exporting")
    if to == "openvino":
        need("openvino", "openvino", "Exporting to openvino")
    model.tokenizer  # noqa: B018  a model without one answers nothing


def write_graph(parts: Parts, recipe: SentenceRecipe, path: Path) -> None:
    """Writes a model as one ONNX graph, whose inputs and outputs `Graph` describes.

    Args:
        parts: The model's modules.
        recipe: How its texts become vectors.
        path: The file; weights lie in one beside it.
    """
    graph = Graph(parts, recipe)
    shapes = {PLACES: {0: "places"}}
    # a tensor each: where two are one, so are the graph's inputs
    given = {name: torch.ones((2,) if name == PLACES else (3, 7), dtype=torch.int64) for name in graph.inputs}
    axes = tuple(shapes.get(name, {0: "texts", 1: "tokens"}) for name in graph.inputs)
    with _silence():
        program = torch.onnx.export(
            graph,
            tuple(given.values()),
            dynamo=True,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes=(axes,),
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=True)  # which runtimes map into memory instead of reading it


@contextmanager
def _silence() -> Iterator[None]:
    """Without what torch says of its exporter on the way: notes for its developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    others = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [other.level for other in others]
    for other in others:
        other.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for other, before in zip(others, levels, strict=True):
            other.setLevel(before)


def _hash(folder: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("model.*")):
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    return found.hexdigest()


def _to_openvino(plain: Path, folder: Path) -> None:
    import openvino

    made = openvino.convert_model(plain / onnx_engine.GRAPH)
    openvino.save_model(made, folder / openvino_engine.GRAPH, compress_to_fp16=False)


def _write_tables(model: Model, folder: Path) -> None:
    """What a CRF knows, which no graph holds."""
    if "crf" in model.heads:
        from safetensors.numpy import save_file

        values = model.heads["crf"].state_dict()
        save_file(
            {f"crf.{name}": np.ascontiguousarray(value.numpy()) for name, value in values.items()}, folder / TABLES_FILE
        )


def _refuse_wrong(check: dict[str, Any], name: str) -> None:
    """Refuses a float32 graph that computes something else.

    Raises:
        BothwaysError: A vector or hidden state is another one.
    """
    worst, output = min((check[output]["worst_cosine"], output) for output in ("vector", "hidden"))
    if not worst >= _EXACT:
        raise BothwaysError(
            f"the graph of {name} does not compute what the model does (worst cosine of {output} {worst:.6f}), so "
            "nothing was exported; this is a mistake of bothways or of the runtime: please report it"
        )
