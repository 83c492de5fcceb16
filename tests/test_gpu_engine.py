"""The engine of GPUs, as far as a processor can tell: with a stand-in for its records, and who gets it."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

import tiny
from bothways.errors import BothwaysError
from bothways.run.engines import graphs
from bothways.run.engines.choice import Kept, usual_device
from bothways.run.engines.gpu import GpuEngine
from bothways.run.engines.protocol import Output
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.model import Model
from bothways.run.precision import check_precision, resolve_precision
from cases import case


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
    assert type(model.encoder.stack) is not graphs.GraphedStack


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch):
    def refused(run, x_TD):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "recorded", refused)
    model = Model(tiny.saved(()))
    engine, plain = GpuEngine(model.parts, "float32"), ReferenceEngine(model.parts, "float32")
    for _ in range(5):
        assert (ask(engine, model, ["the river"]) == ask(plain, model, ["the river"])).all()
    assert list(engine._parts.encoder.stack.records.values()) == [None]


def test_records_are_kept_and_no_more_are_made_than_may_be(monkeypatch):
    recorder, model = Recorder(monkeypatch), Model(tiny.saved(()))
    monkeypatch.setattr(graphs, "_MOST_KEPT", 2)
    monkeypatch.setattr(graphs, "_MOST_COUNTED", 2)
    engine = GpuEngine(model.parts, "float32")
    words = ["river", "old", "stone", "bridge"]
    for _ in range(4):
        for count in range(1, 5):
            ask(engine, model, [" ".join(words[:count])])
    assert recorder.recorded == 0  # four shapes in turn, of which two are counted
    for count in (1, 1, 1, 2, 2, 2, 3, 3, 3, 1, 2):
        ask(engine, model, [" ".join(words[:count])])
    assert recorder.recorded == 2
    stack = engine._parts.encoder.stack
    assert len(stack.records) == 2
    assert len(stack.seen) <= 2


@pytest.mark.parametrize("name", ["big_bird", "deberta-v2"])
def test_layers_that_take_numbers_from_the_host_are_not_recorded(name, monkeypatch):
    recorder = Recorder(monkeypatch)
    model = Model(tiny.saved((), name=name, **case(name).ODD | {"embeddings__vocab_size": 211}))
    engine, plain = GpuEngine(model.parts, "float32"), ReferenceEngine(model.parts, "float32")
    sparse = name == "big_bird"
    assert sparse or model.encoder.stack.convolution is not None
    longest = model.encoder.stack.blocks[0].attention.longest_full if sparse else 0
    text = "river " * (longest + 1)
    for _ in range(4):
        assert (ask(engine, model, [text]) == ask(plain, model, [text])).all()
    assert recorder.recorded == 0
    for _ in range(3):
        ask(engine, model, ["the river"])
    assert recorder.recorded == sparse


class Cuda:
    """In place of `torch.cuda`: which device and stream are current, and what is recorded where."""

    def __init__(self, monkeypatch):
        self.now, self.captures = ("cuda:0", "usual"), []
        for name in ("device", "stream", "graph", "current_stream", "Stream", "CUDAGraph"):
            monkeypatch.setattr(graphs.torch.cuda, name, getattr(self, name))

    @contextmanager
    def device(self, device):
        before, self.now = self.now, (device.type, "usual")
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def stream(self, stream):
        before, self.now = self.now, (stream.device, stream)
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        self.captures.append((self.now, stream, capture_error_mode))
        yield  # as torch's own, which does not go back to the stream before where the block fails

    def current_stream(self):
        return self.Stream()

    def Stream(self):
        return SimpleNamespace(device=self.now[0], wait_stream=lambda other: None)

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: None)


def test_a_record_is_made_on_the_device_of_its_values_and_the_thread_goes_back(monkeypatch):
    there, ran = Cuda(monkeypatch), []

    def run(x):
        ran.append(there.now)
        return x + 1

    def fails(x):
        raise RuntimeError("operation not permitted when stream is capturing")

    x = torch.zeros(2, 3)  # on "cpu", which is another device than the current one
    assert (graphs.recorded(run, x)(x) == 1).all()
    ((now, stream, mode),) = there.captures
    assert now == (x.device.type, stream)
    assert mode == "thread_local"
    assert ran == [now] * 3
    with pytest.raises(RuntimeError, match="not permitted"):
        graphs.recorded(fails, x)
    assert there.now == ("cuda:0", "usual")
    assert not graphs._ONE_AT_A_TIME.locked()


def test_weights_are_rounded_once_and_the_model_keeps_its_own():
    model = Model(tiny.saved(()))
    engine, plain = GpuEngine(model.parts, "bf16"), ReferenceEngine(model.parts, "bf16")
    assert (ask(engine, model, ["the river runs"]) == ask(plain, model, ["the river runs"])).all()
    rounded = {part.weight.dtype for part in engine._parts.encoder.modules() if isinstance(part, torch.nn.Linear)}
    assert rounded == {torch.bfloat16}
    assert {value.dtype for value in model.encoder.parameters()} == {torch.float32}


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


def test_what_only_a_processor_computes_lies_there_without_being_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = [("packed", "float32"), ("auto", "int8"), ("auto", "int16"), ("auto", "float32"), ("gpu", "int8")]
    assert [usual_device(*one) for one in asked] == ["cpu", "cpu", "cpu", "cuda", "cuda"]
    assert Model(tiny.saved(()), engine="packed").device.type == "cpu"
    assert Model(tiny.saved(()), engine="auto", precision="int16").device.type == "cpu"
