"""A graph with 8-bit weights, by ONNX Runtime's dynamic quantization: what they multiply is rounded call by call."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def quantize(path: Path, out: Path, *, reduce_range: bool, kept: Collection[str] = ()) -> None:
    """Writes a graph with 8-bit weights, a scale for each column.

    Args:
        path: The ONNX file; weights lie in one beside it.
        out: The file that is made, in another folder, with its weights beside it.
        reduce_range: Whether weights use 7 bits, for processors that add up in 16.
        kept: Weights, as `products` names them, that stay as they are.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    draft = out.with_name("draft.onnx")
    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes that do not hold any more
    weights = _split_products(model.graph)
    with _without_advice():
        quantize_dynamic(
            model,
            draft,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node for node, weight in weights.items() if weight in kept],
        )
    data = out.with_name(f"{out.name}.data")
    data.unlink(missing_ok=True)  # to what is there already it would be added
    onnx.save(onnx.load(draft), out, save_as_external_data=True, location=data.name)
    draft.unlink()


def products(path: Path) -> list[str]:
    """The names of the weights that a graph multiplies with, each once."""
    import onnx

    return list(dict.fromkeys(_split_products(onnx.load(path).graph).values()))


def _split_products(graph: Any) -> dict[str, str]:
    """Writes products with a bias as a product and a sum, which are what the quantizer knows.

    It would do so itself, but turns a weight round once for each node that reads it, and a model may share weights.

    Returns:
        The products' names and that of the weight of each.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    turned: set[str] = set()
    found: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        flags = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type != "Gemm" or not flags.get("transB") or node.input[1] not in weights:
            nodes.append(node)
            if node.op_type == "MatMul" and node.input[1] in weights:
                found[node.name] = node.input[1].removesuffix(".weight")
            continue
        name, product = f"{node.input[1]}.turned", f"{node.output[0]}.product"
        if name not in turned:
            turned.add(name)
            values = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[1]]).T)
            graph.initializer.append(numpy_helper.from_array(values, name))
        last = node.output[0] if len(node.input) < 3 else product
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [last], name=f"{node.name}.product"))
        found[nodes[-1].name] = node.input[1].removesuffix(".weight")
        if len(node.input) > 2:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=node.name))
    graph.ClearField("node")
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    return found


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without what the quantizer logs for those who call it by hand."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
