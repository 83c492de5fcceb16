"""Exported graphs compute what the model computes: every family and head, lengths from 1 to the longest, any batch."""

import numpy as np
import openvino
import pytest
import torch

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model.families import families
from bothways.run.engines.onnx import OnnxEngine
from bothways.run.engines.openvino import OpenVinoEngine
from bothways.run.engines.outputs import Parts
from bothways.run.engines.protocol import Output
from bothways.run.engines.rectangles import RectangleEngine, cut
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.exporting.export import write_graph
from bothways.run.exporting.graph import Graph
from bothways.run.exporting.quantize import quantize
from bothways.run.pooling import POOLINGS, normalize
from bothways.run.sentence_folder import SentenceRecipe
from cases import case
from test_families import ours_of

UNABLE = ("longformer", "big_bird")
FAMILIES = [name for name in families() if name not in UNABLE]
SAME_MODULES = ("camembert", "distilbert", "xlm-roberta")
"""Families whose graph has nothing that BERT's or RoBERTa's has not; what is exported of them is compared in torch."""
LONGEST = 600
"""Tokens, where a family takes longer texts: beyond every window and bucket."""
ALTERNATING = ("albert", "modernbert")
"""Families whose second layer is not computed as the first one is, or with its weights."""
ASKED = 7
"""The token at whose places masked words are asked."""
RECIPE = SentenceRecipe("mean", normalize=True)


class Eager(RectangleEngine):
    """The module that is exported, in torch: what a graph should compute."""

    name = "eager"

    def __init__(self, parts):
        super().__init__(None, parts.encoder.config.embeddings.pad_id, "float32")
        self.graph_module = Graph(parts, RECIPE)
        self.inputs = tuple(self.graph_module.inputs)

    def compute(self, names, given):
        with torch.inference_mode():
            found = self.graph_module(*(torch.from_numpy(given[one]) for one in self.inputs))
        return [found[self.graph_module.outputs.index(name)].numpy() for name in names]


def parts_of(name, **changes):
    """A random model with all heads of its family."""
    saved = ours_of(tiny.config(name, **changes), families()[name].heads)
    return Parts(saved.encoder, saved.heads, saved.head_configs)


def batch_of(parts, lengths, seed=0):
    """Random texts; the token that is asked stands at places, none or several, in each."""
    draw = np.random.default_rng(seed)
    tables = parts.encoder.config.embeddings
    ids = [draw.integers(0, tables.vocab_size, length) for length in lengths]
    for one in ids[::2]:
        one[draw.integers(0, len(one), 3)] = ASKED
    return make_batch(ids, [np.sort(draw.integers(0, max(1, tables.segments), length)) for length in lengths])


def lengths_of(parts):
    longest = min(parts.encoder.config.longest or LONGEST, LONGEST)
    return (9, 1, longest, 2, 33, 9, longest - 1, 2, 60)


def outputs_of(parts):
    """Everything that an engine can be asked for."""
    yield Output("hidden")
    yield from (Output("vector", pooling) for pooling in (*POOLINGS, "last+cls"))
    yield from (Output(kind, token=ASKED) for kind in parts.heads)


def differences(parts, engines, lengths):
    """The largest difference of each output of each engine from the reference; texts together and some alone."""
    exact = ReferenceEngine(parts, "float32")
    found = {}
    for some in (lengths, (1,), (2,), (max(lengths),)):
        batch = batch_of(parts, some)
        for output in outputs_of(parts):
            ((_, wanted),) = exact.run([batch], output)
            for engine in engines:
                ((same, got),) = engine.run([batch], output)
                assert same is batch
                assert got.shape == wanted.shape, output
                assert got.dtype == np.float32
                assert np.isfinite(got).all(), output
                difference = np.abs(got - wanted).max(initial=0.0)
                key = (engine.name, output.kind, output.pooling)
                found[key] = max(found.get(key, 0.0), float(difference))
    return found


@pytest.mark.parametrize("which", ["narrow", "odd"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_rectangle_gives_what_packed_tokens_give(name, which):
    parts = parts_of(name, **(case(name).ODD if which == "odd" else {}))
    found = differences(parts, [Eager(parts)], lengths_of(parts))
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in SAME_MODULES])
def test_graphs_in_both_runtimes_give_what_the_model_gives(name, tmp_path):
    parts = parts_of(name, layers=2 if name in ALTERNATING else 1)
    pad_id = parts.encoder.config.embeddings.pad_id
    write_graph(parts, RECIPE, tmp_path / "model.onnx")
    openvino.save_model(openvino.convert_model(tmp_path / "model.onnx"), tmp_path / "model.xml", compress_to_fp16=False)
    engines = [made(tmp_path, pad_id, "float32") for made in (OnnxEngine, OpenVinoEngine)]
    found = differences(parts, engines, lengths_of(parts))
    assert {name for name, *_ in found} == {"onnx", "openvino"}
    assert max(found.values()) < 1e-4, found


def test_the_vector_of_a_graph_is_the_models_own_and_normalised(tmp_path):
    """For those who run the graph without Bothways."""
    parts = parts_of("bert")
    batch = batch_of(parts, (5, 9))
    rectangle = {"input_ids": np.zeros((2, 9), dtype=np.int64), "attention_mask": np.zeros((2, 9), dtype=np.int64)}
    for row, (a, b) in enumerate(zip(batch.starts[:-1], batch.starts[1:], strict=True)):
        rectangle["input_ids"][row, : b - a] = batch.token_ids[a:b]
        rectangle["attention_mask"][row, : b - a] = 1
    engine = Eager(parts)
    given = {**rectangle, "token_type_ids": np.zeros((2, 9), dtype=np.int64), "places": np.zeros(0, dtype=np.int64)}
    plain = make_batch([batch.token_ids[a:b] for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True)])
    ((_, wanted),) = ReferenceEngine(parts, "float32").run([plain], Output("vector", "mean"))
    assert np.abs(engine.compute(("vector",), given)[0] - normalize(wanted)).max() < 1e-5


@pytest.mark.parametrize("name", ["albert"])
def test_eight_bit_weights_stay_close_where_blocks_and_tables_are_shared(name, tmp_path):
    parts = parts_of(name, layers=2)
    plain, small = tmp_path / "plain", tmp_path / "small"
    plain.mkdir(), small.mkdir()
    write_graph(parts, RECIPE, plain / "model.onnx")
    quantize(plain / "model.onnx", small / "model.onnx", reduce_range=True)
    sizes = [(folder / "model.onnx.data").stat().st_size for folder in (small, plain)]
    assert sizes[0] < sizes[1]
    assert sorted(path.name for path in small.iterdir()) == ["model.onnx", "model.onnx.data"]
    quantize(plain / "model.onnx", small / "model.onnx", reduce_range=True)  # nothing of the first time is kept
    assert (small / "model.onnx.data").stat().st_size == sizes[0]
    engine, exact = OnnxEngine(small, 0, "int8"), ReferenceEngine(parts, "float32")
    batch = batch_of(parts, (5, 9, 30, 40))
    for output in outputs_of(parts):
        ((_, got),), ((_, wanted),) = engine.run([batch], output), exact.run([batch], output)
        assert np.abs(got - wanted).max() > 0, "nothing was rounded"
        assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.99, output


@pytest.mark.parametrize("name", UNABLE)
def test_attention_that_is_not_full_is_refused_in_a_sentence(name, tmp_path):
    model = tiny.model(("mlm",), name=name)
    with pytest.raises(BothwaysError, match=r"has .*\((Longformer|BigBird)\), which cannot be exported"):
        model.export(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_is_cut_into_rectangles_with_little_padding(seed):
    lengths = np.sort(np.random.default_rng(seed).integers(1, 400, 200))
    pieces = cut(lengths)
    assert [first for first, _ in pieces] == [0, *(last for _, last in pieces[:-1])]
    assert pieces[-1][1] == len(lengths)
    for first, last in pieces:
        assert (lengths[last - 1] * (last - first) - lengths[first:last].sum()) <= max(
            64, lengths[first:last].sum() / 7
        )
    assert len(pieces) < 40
    assert cut(np.full(50, 7)) == [(0, 50)]
    assert cut(np.array([], dtype=int)) == []
