"""The engine of GPUs, as far as a processor can tell: with a stand-in for its kernel, and who gets it."""

import pytest
import torch

import tiny
from bothways.errors import BothwaysError
from bothways.model.parts.attend import attend_one_by_one
from bothways.run.engines import gpu
from bothways.run.engines.choice import Kept
from bothways.run.engines.gpu import GpuEngine
from bothways.run.engines.protocol import Output
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.model import Model


def ran(engine, model):
    ((_, values),) = engine.run([model.encode(tiny.sentences(9)).batch(range(9))], Output("hidden"))
    return values


def test_sequences_go_to_the_kernel_with_their_edges(monkeypatch):
    calls = []

    def kernel(q, k, v, starts, same, longest, also, *, scale=None):
        calls.append(longest)
        assert starts is same
        assert starts.dtype == torch.int32
        assert longest == also == int(starts.diff().max())
        return attend_one_by_one(q, k, v, starts.tolist(), scale=scale)

    monkeypatch.setattr(gpu, "varlen_kernel", lambda: kernel)
    model = Model(tiny.saved(()))
    engine = GpuEngine(model.parts, "bf16")
    exact = ran(ReferenceEngine(model.parts, "float32"), model)
    assert abs(ran(engine, model) - exact).max() < 0.1 * abs(exact).max()
    assert len(calls) == model.config.layers
    assert engine.describe()["engine"] == "gpu"
    assert type(model.encoder.stack.blocks[0].attention) is not gpu.VarlenAttention  # the model keeps its own


def test_without_the_kernel_or_in_float32_rectangles_do(monkeypatch):
    model = Model(tiny.saved(()))
    exact = ran(ReferenceEngine(model.parts, "float32"), model)
    assert (ran(GpuEngine(model.parts, "float32"), model) == exact).all()
    monkeypatch.setattr(gpu, "varlen_kernel", lambda: None)
    assert abs(ran(GpuEngine(model.parts, "bf16"), model) - exact).max() < 0.1 * abs(exact).max()


def test_a_gpu_gets_it_and_a_processor_does_not():
    class There:
        class encoder:  # noqa: N801
            device = torch.device("cuda")

    with pytest.raises(BothwaysError, match="'packed' runs on a processor, not on 'cuda'"):
        Kept().engine(There, "packed", "bf16", None)
    with pytest.raises(BothwaysError, match="the engine 'gpu' runs on a GPU, not on 'cpu'"):
        Model(tiny.saved(()), engine="gpu").embed("a")
    with pytest.raises(BothwaysError, match="'reference' does not compute in int8"):
        Model(tiny.saved(()), engine="reference", precision="int8").embed("a")
