"""What only GPUs do, as far as a processor can tell: stand-ins take the place of torch's kernels and compiler."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from bothways.batch import make_batch
from bothways.learn import loop, parallel
from bothways.learn.pretrain import _pays_to_compile
from bothways.learn.processes import Processes
from bothways.learn.settings import LoopSettings
from bothways.learn.tuning.passes import same_masks
from bothways.learn.used_rows import UsedRows
from bothways.learn.vectors import in_parts
from bothways.model.parts import compiling, varlen
from bothways.model.parts.attend import attend, attend_one_by_one
from bothways.model.parts.block import compile_layers
from bothways.model.parts.windowed import attend_window, attend_window_one_by_one
from bothways.run.engines.gpu import GpuEngine
from bothways.run.engines.protocol import Output
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.model import Model
from bothways.run.precision import resolve_precision
from bothways.use import bench_side, cluster


@pytest.fixture
def calls(monkeypatch):
    """The longest sequence of each call of a stand-in that goes from sequence to sequence."""
    seen = []

    def kernel(q, k, v, starts, same, longest, also, dropout, causal, shown, *, scale, window_size_left, **right):
        assert (dropout, causal, shown) == (0.0, False, False)
        assert right == {"window_size_right": window_size_left}
        seen.append(longest)
        assert starts is same
        assert starts.dtype == torch.int32
        assert longest == also == int(starts.diff().max())
        if window_size_left < 0:
            return (attend_one_by_one(q, k, v, starts.tolist(), scale=scale),)
        return (attend_window_one_by_one(q, k, v, starts.tolist(), window_size_left, scale),)

    monkeypatch.setattr(varlen, "kernel", lambda: kernel)
    monkeypatch.setattr(varlen, "has_kernel", lambda device: True)
    return seen


def ran(engine, model):
    ((_, values),) = engine.run([model.encode(tiny.sentences(9)).batch(range(9))], Output("hidden"))
    return values


def test_sequences_go_to_the_kernel_with_their_edges(calls):
    model = Model(tiny.saved((), attention__heads=3))  # 16 wide
    exact = ran(ReferenceEngine(model.parts, "float32"), model)
    assert not calls  # which knows no float32
    assert abs(ran(GpuEngine(model.parts, "bf16"), model) - exact).max() < 0.1 * abs(exact).max()
    assert len(calls) == model.config.layers
    assert GpuEngine(model.parts, "bf16").describe()["engine"] == "gpu"


def test_without_the_kernel_rectangles_do():
    model = Model(tiny.saved(()))
    exact = ran(ReferenceEngine(model.parts, "float32"), model)
    assert (ran(GpuEngine(model.parts, "float32"), model) == exact).all()
    assert abs(ran(GpuEngine(model.parts, "bf16"), model) - exact).max() < 0.1 * abs(exact).max()


def batch_of(*lengths):
    draw = np.random.default_rng(0)
    return make_batch([draw.integers(5, 60, size=length) for length in lengths])


def encoder_of(name):
    none = dict.fromkeys(("dropout", "attention__dropout", "embeddings__dropout"), 0.0)
    return tiny.saved((), name=name, attention__heads=3, **none).encoder.train()


def gradients(encoder, batch):
    """All gradients of a pass in bf16, in one vector."""
    encoder.zero_grad()
    with resolve_precision("bf16", "cpu").autocast():
        out = encoder(batch, pooled=False).sequence
    out.float().square().sum().backward()
    return torch.cat([value.grad.flatten() for value in encoder.parameters() if value.grad is not None])


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_training_without_attention_dropout_goes_to_the_kernel(name, calls, monkeypatch):
    encoder, batch = encoder_of(name), batch_of(9, 40, 3, 40)
    found = gradients(encoder, batch)
    assert len(calls) == encoder.config.layers
    monkeypatch.setattr(varlen, "has_kernel", lambda device: False)
    exact = gradients(encoder, batch)
    assert len(calls) == encoder.config.layers
    assert (found - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("change", ["", "deterministic", "odd", "wide", "wide in training", "wide with dropout"])
def test_what_the_kernel_does_not_know_it_is_not_asked(change, monkeypatch):
    monkeypatch.setattr(varlen, "has_kernel", lambda device: True)
    plan = varlen.plan_of(batch_of(4, 2))
    assert isinstance(plan, varlen.Edged)
    assert (plan.edges.tolist(), plan.longest) == ([0, 2, 6], 4)
    width = 12 if change == "odd" else 256 if "wide" in change else 192
    q = torch.zeros(6, 2, width, dtype=torch.bfloat16, requires_grad="training" in change)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: change == "deterministic")
    assert varlen.takes(plan, q, q, q, 0.1 if "dropout" in change else 0.0) == (change in ("", "wide"))


@pytest.mark.parametrize("attend_some", [attend, partial(attend_window, window=2)])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_kernel_is_called_as_torch_wants_it_and_has_a_gradient(attend_some, dropout):
    plan = varlen.Edged(batch_of(4, 2).plan)
    plan.edges, plan.longest = torch.empty(3, dtype=torch.int32, device="meta"), 4
    q = torch.empty(6, 2, 64, dtype=torch.bfloat16, device="meta", requires_grad=True)  # a shape without numbers
    with ByName() as seen:
        mixed = attend_some(q, q, q, plan, dropout=dropout)
        mixed.sum().backward()
    assert (mixed.shape, mixed.dtype) == (q.shape, q.dtype)
    assert q.grad.shape == q.shape
    assert [name for name in seen.names if "attention" in name] == [
        "_flash_attention_forward",
        "_flash_attention_backward",
    ]


class ByName(TorchDispatchMode):
    """The names of all operators that run within."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_torch_for_windows_has_no_kernel(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for there in (False, True):
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda there=there: there)
        varlen.has_kernel.cache_clear()
        assert varlen.has_kernel(torch.device("cuda")) is there
    varlen.has_kernel.cache_clear()


def test_compiled_layers_are_the_same_layers(monkeypatch):
    graphs = []

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compiling, "_BACKEND", compiler)
    monkeypatch.setattr(compiling, "pays", lambda device: True)
    compiling._compiled.cache_clear()
    encoder = encoder_of("bert")
    exact = [gradients(encoder, batch_of(*lengths)) for lengths in ((5, 7, 7), (30, 2))]
    assert not graphs
    compile_layers(encoder)
    found = [gradients(encoder, batch_of(*lengths)) for lengths in ((5, 7, 7), (30, 2))]
    compiling._compiled.cache_clear()
    assert len(graphs) == 1  # for all layers and numbers of tokens
    assert all((one - other).norm() < 0.02 * other.norm() for one, other in zip(found, exact, strict=True))
    assert not compiling._Failed.here


def test_layers_that_cannot_be_compiled_run_as_they_are(monkeypatch):
    def broken(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiling, "_compiled", lambda: broken)
    monkeypatch.setattr(compiling._Failed, "here", False)
    monkeypatch.setattr(compiling, "_has_compiler", lambda: True)
    assert not compiling.pays(torch.device("cpu"))
    assert compiling.pays(torch.device("cuda"))
    block = encoder_of("bert").stack.blocks[0]
    x = torch.randn(3, block.attention_norm.normalized_shape[0])
    with monkeypatch.context() as patched:
        patched.setattr(compiling, "pays", lambda device: True)
        with pytest.warns(UserWarning, match="could not compile the layers"):
            found = compiling.after_attention(block, x, x)
    assert (found == block.after_attention(x, x)).all()
    assert not compiling.pays(torch.device("cuda"))


def test_dropout_repeats_itself_on_every_kind_of_device(monkeypatch):
    """A kind whose generator counts what it was asked, as a Mac's GPU would."""
    drawn = [0]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda device: torch.tensor(drawn))
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state, device: drawn.__setitem__(0, int(state)))
    device = torch.device("mps")
    with same_masks(device):
        drawn[0] += 3
    assert drawn == [0]
    before = in_parts._chance_state(device)
    drawn[0] += 5
    in_parts._set_chance_state(device, before)
    assert drawn == [0]


@pytest.mark.parametrize("named", [None, "cuda", "cuda:0"])
def test_each_process_takes_its_own_gpu_whichever_is_named(named, monkeypatch):
    monkeypatch.setattr(parallel, "here", lambda: Processes(1, 2))
    monkeypatch.setattr(parallel, "Shards", lambda model, place, apart: place)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert parallel.passes_of(torch.nn.Linear(1, 1), "fsdp", named) == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("steps", "minutes", "long"),
    [(999, None, False), (1000, None, True), (None, 4, False), (None, 5, True), (5000, 1, False), (5000, 10, True)],
)
def test_layers_are_compiled_for_long_runs_only(steps, minutes, long):
    assert _pays_to_compile(LoopSettings(steps=steps, minutes=minutes, learning_rate=1e-3)) == long


def test_tables_have_whole_gradients_on_a_gpu(monkeypatch):
    seen = []

    class Told(UsedRows):
        def __init__(self, model, on=True):
            seen.append(on)
            raise StopIteration

    monkeypatch.setattr(loop, "UsedRows", Told)
    for device, on in (("cpu", True), ("meta", False)):
        with pytest.raises(StopIteration):
            loop.train(torch.nn.Linear(1, 1, device=device), None, None, LoopSettings(steps=1, learning_rate=1e-3))
        assert seen.pop() is on


class Lying:
    """A model that says where it lies."""

    def __init__(self, lies):
        self.lies = lies

    @property
    def device(self):
        return torch.device(self.lies)

    def to(self, device):
        self.lies = str(device)


@pytest.mark.parametrize(
    ("lies", "gpus", "workers", "told"),
    [
        ("cpu", 2, None, (8, None, None, "cpu")),
        ("cuda:1", 2, None, (2, 1.0, "cpu", "cuda")),
        ("cuda:1", 2, 3, (3, 0.5, "cpu", "cuda")),
        ("cuda:1", 0, None, (8, None, "cpu", "cpu")),
    ],
)
def test_workers_of_a_cluster_use_its_gpus_where_the_model_lies_on_one(lies, gpus, workers, told, monkeypatch):
    started, options, sent = [], {}, []

    def remote(**given):
        options.update(given)
        return lambda kind: SimpleNamespace(remote=lambda: started.append(kind))

    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 8.0, "GPU": float(gpus)},
        remote=remote,
        put=lambda value: sent.append((value[2], getattr(value[1], "lies", None))),
        kill=lambda actor: None,
    )
    monkeypatch.setattr(cluster, "need", lambda *_: ray)
    model = Lying(lies)
    with cluster.ray_workers(print, workers, model):
        pass
    assert model.lies == lies
    ((device, travelled),) = sent
    assert (len(started), options.get("num_gpus"), travelled, device) == told


def test_short_texts_are_asked_in_turn():
    turns = bench_side._in_turn(["a", "b", "c"], 2)
    assert [next(turns) for _ in range(3)] == [["a", "b"], ["c", "a"], ["b", "c"]]


def test_memory_is_that_of_the_gpu_where_the_model_lies_on_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: device.index)
    assert bench_side._memory(Lying("cuda:1")) == 1
    assert bench_side._memory(Lying("cpu")) > 1
    assert bench_side._memory(object()) > 1
