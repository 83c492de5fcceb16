"""The engine of GPUs, as far as a processor can tell: with a stand-in for its records, and who gets it."""

import warnings

import pytest
import torch

import tiny
from bothways.errors import BothwaysError
from bothways.run.engines import graphs
from bothways.run.engines.choice import Kept
from bothways.run.engines.gpu import GpuEngine
from bothways.run.engines.protocol import Output
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.model import Model
from bothways.run.precision import check_precision, resolve_precision


class Recorder:
    """In place of CUDA graphs: what is repeated is the function itself."""

    def __init__(self, monkeypatch):
        self.recorded = self.repeated = 0
        monkeypatch.setattr(graphs, "recorded", self)

    def __call__(self, run, x_TD):
        self.recorded += 1

        def again(x_TD):
            self.repeated += 1
            return run(x_TD)

        return again


def ask(engine, model, texts):
    encoded = model.encode(texts)
    ((_, values),) = engine.run([encoded.batch(range(len(texts)))], Output("vector", "mean"))
    return values


def test_lengths_that_come_again_are_recorded_and_repeated(monkeypatch):
    recorder, model = Recorder(monkeypatch), Model(tiny.saved(()))
    engine, plain = GpuEngine(model.parts, "float32"), ReferenceEngine(model.parts, "float32")
    some = [["the river runs"], ["runs river the"], ["the old river runs fast"]]
    assert len(model.encode(some[0]).token_ids) == len(model.encode(some[1]).token_ids)
    for turn in range(4):
        for texts in some:
            assert (ask(engine, model, texts) == ask(plain, model, texts)).all()
        assert recorder.recorded == (0 if turn == 0 else 1 if turn < 2 else 2)
    assert recorder.repeated == 8  # of twelve; two of the first lengths and two of the others came before
    with monkeypatch.context() as patched:
        patched.setattr(graphs, "_MOST_TOKENS", 1)
        ask(engine, model, some[0])
    assert recorder.repeated == 8
    monkeypatch.setattr(graphs, "_MOST_KEPT", 1)
    ask(engine, model, some[2])
    assert len(engine._parts.encoder.stack.seen) == 1  # the one that was asked for last
    assert type(model.encoder.stack) is not graphs.GraphedStack


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch):
    def refused(run, x_TD):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "recorded", refused)
    model = Model(tiny.saved(()))
    engine, plain = GpuEngine(model.parts, "float32"), ReferenceEngine(model.parts, "float32")
    for _ in range(5):
        assert (ask(engine, model, ["the river"]) == ask(plain, model, ["the river"])).all()
    assert list(engine._parts.encoder.stack.seen.values()) == [None]


def test_fp16_is_for_gpus_and_not_for_training():
    with pytest.raises(BothwaysError, match="fp16 is for GPUs; a processor computes in float32, bf16, int16 or int8"):
        Model(tiny.saved(()), precision="fp16").embed("a")
    with pytest.raises(BothwaysError, match="training knows no fp16"):
        check_precision("fp16")
    there = resolve_precision("fp16", "cuda")
    assert there.name == "fp16"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no GPU
        assert there.autocast().fast_dtype == torch.float16


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
