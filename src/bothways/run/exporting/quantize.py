"""A graph with 8-bit weights, by ONNX Runtime's dynamic quantization: what they multiply is rounded call by call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def quantize(path: Path, *, reduce_range: bool) -> None:
    """Puts a graph with 8-bit weights, a scale for each column, in a graph's place.

    Args:
        path: The ONNX file; weights lie in one beside it.
        reduce_range: Whether weights use 7 bits, for processors that add up in 16.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    draft, beside = path.with_name("quantized.onnx"), path.with_name(f"{path.name}.data")
    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes that do not hold any more
    _split_products(model.graph)
    with _without_advice():
        quantize_dynamic(
            model,
            draft,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
    beside.unlink()
    onnx.save(onnx.load(draft), path, save_as_external_data=True, location=beside.name)
    draft.unlink()


def _split_products(graph: Any) -> None:
    """Writes products with a bias as a product and a sum, which are what the quantizer knows.

    It would do so itself, but turns a weight round once for each node that reads it, and a model may share weights.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    turned: set[str] = set()
    nodes = []
    for node in graph.node:
        flags = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type != "Gemm" or not flags.get("transB") or node.input[1] not in weights:
            nodes.append(node)
            continue
        name, product = f"{node.input[1]}.turned", f"{node.output[0]}.product"
        if name not in turned:
            turned.add(name)
            values = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[1]]).T)
            graph.initializer.append(numpy_helper.from_array(values, name))
        last = node.output[0] if len(node.input) < 3 else product
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [last], name=f"{node.name}.product"))
        if len(node.input) > 2:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=node.name))
    graph.ClearField("node")
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without what the quantizer logs for those who call it by hand."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
