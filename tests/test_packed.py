"""The packed engine gives what the reference engine gives: every family, head and output, whatever comes together."""

import numpy as np
import pytest
import torch

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.families import families
from bothways.model.heads.enhanced_mask_decoder import refusal, with_positions
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed import attention, linear
from bothways.run.engines.packed import engine as engine_module
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int16 import can_int16
from bothways.run.engines.packed.padding import filled, fillers
from bothways.run.engines.protocol import Manner, Output, budget
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.model import Model
from bothways.run.pooling import POOLINGS

FAMILIES = sorted(families())
ENHANCED = [f"{name}, enhanced" for name in FAMILIES if refusal(with_positions(tiny.config(name))) is None]
"""With a head that guesses through the enhanced mask decoder."""
LENGTHS = (1, 2, 3, 3, 9, 17, 31, 31, 40, 41, 43)


def wide(name):
    """A family's smallest size with heads that our kernels take."""
    config = tiny.config(name)
    tables = 64 if config.embeddings.width == config.width else config.embeddings.width
    return config.derive(width=64, embeddings__width=tables, attention__heads=2, feed_forward__width=128)


def parts_of(name, kinds=None):
    """A family's encoder with all heads that it has a pooler for."""
    name, _, decoder = name.partition(", ")
    config = wide(name)
    known = families()[name].heads if kinds is None else kinds
    heads = {kind: tiny.head(name, kind) for kind in known if kind != "crf"}
    if decoder:
        config, heads = with_positions(config), {"mlm": heads["mlm"].derive(decoder=decoder)}
    if config.pooler is None and any(head.needs_pooler for head in heads.values()):
        config = config.derive(pooler="tanh")
    modules = {kind: tiny.randomise(build_head(head, config), 2).eval() for kind, head in heads.items()}
    return Parts(tiny.randomise(build_encoder(config), 1).eval(), modules, heads)


def batch_of(config, lengths=LENGTHS, seed=0):
    draw = np.random.default_rng(seed)
    sequences = [draw.integers(3, config.embeddings.vocab_size, length) for length in lengths]
    for sequence in sequences:
        sequence[-1] = 7  # asked for as a masked token
    return make_batch(sequences)


def outputs_of(parts):
    yield Output("hidden")
    yield Output("hidden", layers=(1, 0))
    for pooling in POOLINGS:
        yield Output("vector", pooling)
    for kind in parts.heads:
        yield Output(kind, token=7) if kind == "mlm" else Output(kind)


def ran(engine, batches, output):
    return {batch.rows.tobytes(): values for batch, values in engine.run(batches, output)}


@pytest.mark.parametrize("name", [*FAMILIES, *ENHANCED])
def test_every_family_head_and_output_is_the_reference_s(name):
    parts = parts_of(name)
    batch = batch_of(parts.encoder.config)
    exact, packed = ReferenceEngine(parts, "float32"), PackedEngine(parts, "float32")
    for output in outputs_of(parts):
        ((_, wanted),), ((_, found),) = exact.run([batch], output), packed.run([batch], output)
        assert found.shape == wanted.shape
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() < 2e-5 * max(1.0, np.abs(wanted).max()), output


@pytest.mark.parametrize("name", [*FAMILIES, *ENHANCED])
@pytest.mark.parametrize(("precision", "near"), [("bf16", 0.05), ("int16", 0.002)])
def test_lower_precision_stays_close_for_every_family(name, precision, near):
    if precision == "int16" and not can_int16():
        pytest.skip("no int16 products here")
    parts = parts_of(name)
    batch = batch_of(parts.encoder.config)
    exact, packed = ReferenceEngine(parts, "float32"), PackedEngine(parts, precision)
    for output in outputs_of(parts):
        ((_, wanted),), ((_, found),) = exact.run([batch], output), packed.run([batch], output)
        assert not np.array_equal(found, wanted)
        off = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert off < near, output


def test_what_comes_together_and_how_many_threads_there_are_means_nothing():
    parts = parts_of("bert", ("classify",))
    config = parts.encoder.config
    whole = batch_of(config, (5, 5, 6, 8, 13, 21, 21, 34), seed=4)
    alone = [
        make_batch([whole.token_ids[a:b]], rows=[row])
        for row, (a, b) in enumerate(zip(whole.starts[:-1], whole.starts[1:], strict=True))
    ]
    for output in (Output("hidden"), Output("vector", "mean"), Output("classify")):
        for precision, near in (("float32", 1e-5), ("bf16", 0.06)):
            ((_, together),) = PackedEngine(parts, precision, threads=1).run([whole], output)
            for threads in (1, 3):
                found = [values for _, values in PackedEngine(parts, precision, threads).run(alone, output)]
                assert np.abs(np.concatenate(found) - together).max() < near


def test_batches_run_at_once_keep_their_names_and_torch_its_threads():
    parts = parts_of("bert", ())
    batches = [batch_of(parts.encoder.config, (3, 4, 5 + n), seed=n) for n in range(23)]
    before = torch.get_num_threads()
    engine, exact = PackedEngine(parts, "float32", threads=3), ReferenceEngine(parts, "float32")
    wanted = {id(batch): values for batch, values in exact.run(batches, Output("hidden"))}
    found = list(engine.run(iter(batches), Output("hidden")))
    assert len(found) == 23
    for batch, values in found:
        assert np.abs(values - wanted[id(batch)]).max() < 1e-4
    assert torch.get_num_threads() == before


def test_a_failure_in_one_batch_is_told_and_the_engine_goes_on():
    parts = parts_of("bert", ())
    good = batch_of(parts.encoder.config)
    bad = make_batch([[parts.encoder.config.embeddings.vocab_size + 5]])
    engine = PackedEngine(parts, "float32", threads=2)
    with pytest.raises(BothwaysError, match="outside the model's table"):
        list(engine.run([good, bad, good, good], Output("hidden")))
    assert len(list(engine.run([good, good, good], Output("hidden")))) == 3


def test_a_reader_that_stops_leaves_nothing_running():
    parts = parts_of("bert", ())
    engine = PackedEngine(parts, "float32", threads=2)
    running = engine.run((batch_of(parts.encoder.config, seed=n) for n in range(1000)), Output("hidden"))
    next(running)
    running.close()
    assert len(list(engine.run([batch_of(parts.encoder.config)] * 3, Output("hidden")))) == 3


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_large_scores_are_exact_too(precision):
    """Where exponentials of scores would overflow, the largest is taken off first."""
    parts = parts_of("bert", ())
    with torch.no_grad():
        for block in parts.encoder.stack.blocks:
            block.attention.query.weight.mul_(300)
    batch = batch_of(parts.encoder.config)
    ((_, wanted),) = ReferenceEngine(parts, "float32").run([batch], Output("hidden"))
    ((_, found),) = PackedEngine(parts, precision).run([batch], Output("hidden"))
    if precision == "float32":
        assert np.abs(found - wanted).max() < 1e-2
    else:
        # each token looks at one other, and where two are nearly as good rounding may take the second
        assert np.median(np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("moved", [0.0, 60.0, 95.0, 1000.0, -60.0, -95.0, -1000.0])
@pytest.mark.parametrize("padded", [False, True])
def test_the_same_number_added_to_all_scores_changes_nothing(dtype, moved, padded):
    """Also where exponentials would overflow or vanish, and where the last key is padding."""
    draw = torch.Generator().manual_seed(0)
    scores, v = (torch.randn(2, 3, 9, width, generator=draw).to(dtype) for width in (9, 4))
    mask = torch.zeros(2, 1, 1, 9, dtype=dtype)
    mask[..., -1] = -torch.inf
    scores = (scores.float() + moved).to(dtype)  # bf16 rounds it, so both sides begin with these
    wanted = torch.softmax(scores.float() + (mask.float() if padded else 0), -1) @ v.float()
    found = attention._mix(lambda: scores.clone(), v, mask if padded else None)
    assert (found.float() - wanted).abs().max() < (2e-6 if dtype == torch.float32 else 0.03)


def test_weights_that_change_are_seen():
    model = Model(tiny.saved(("classify",)), engine="packed")
    assert model.engine.describe()["engine"] == "packed"
    before, same = model.embed("the river"), model.engine
    assert model.engine is same
    with torch.no_grad():
        model.encoder.stack.blocks[0].feed_forward.inner.weight.add_(0.1)
    after = model.embed("the river")
    assert not np.allclose(before, after, atol=1e-4)
    assert np.abs(after - Model(model._saved).embed("the river")).max() < 1e-5


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_weights_that_an_optimizer_changed_are_seen(how):
    """The fused one does not tell its tensors."""
    model = Model(tiny.saved(("classify",)), engine="packed")
    before = model.class_probabilities(["the river"])
    weights = [*model.encoder.parameters(), *model.heads["classify"].parameters()]
    optimizer = torch.optim.AdamW(weights, lr=0.05, **how)
    batch = model.encode(["the river"]).batch([0])
    model.heads["classify"](model.encoder(batch)).sum().backward()
    optimizer.step()
    found = model.class_probabilities(["the river"])
    assert not np.allclose(found, before, atol=1e-3)
    assert np.abs(found - Model(model._saved).class_probabilities(["the river"])).max() < 1e-5


def test_weights_that_are_written_to_without_a_word_are_seen():
    model = Model(tiny.saved(("classify",)), engine="packed")
    for part in (model.encoder.stack.blocks[0].attention.value, model.encoder.stack.blocks[-1].feed_forward.output):
        before = model.embed("the river")
        part.weight.data.zero_()
        assert not np.allclose(model.embed("the river"), before, atol=1e-4)
        part.weight.data = torch.randn(part.weight.shape, generator=torch.Generator().manual_seed(0))
        moved = model.embed("the river")
        part.weight.data.zero_()  # of the new place
        assert not np.allclose(model.embed("the river"), moved, atol=1e-4)


def test_a_model_opened_where_nothing_is_learned_answers_and_learns_elsewhere(tmp_path):
    import bothways as bw

    folder = tiny.folder(tmp_path / "model")
    with torch.inference_mode():
        model = bw.load(folder, device="cpu")
        there = model.embed("the river")
    assert np.array_equal(model.embed("the river"), there)
    model.encoder(model.encode(["the river"]).batch([0])).sequence.sum().backward()


def test_a_fingerprint_tells_any_weight_from_another():
    model = tiny.model(("classify",))
    seen = {model.parts.fingerprint()}
    weights = [*model.encoder.parameters(), *model.heads["classify"].parameters()]
    for number, weight in enumerate(weights):
        place = (number * 7919) % weight.numel()
        with torch.no_grad():
            weight.view(-1)[place] += 1e-3
        seen.add(model.parts.fingerprint())
    table = model.encoder.embeddings.tokens.weight
    for swapped in (table.data.flip(0), table.data.flip(1)):
        table.data = swapped
        seen.add(model.parts.fingerprint())
    assert len(seen) == len(weights) + 3


@pytest.mark.usefixtures("fastest")
def test_what_is_opened_runs_packed_and_what_is_made_in_plain_torch(tmp_path):
    import bothways as bw

    folder = tiny.folder(tmp_path / "model")
    assert bw.load(folder).engine.name == "packed"
    assert bw.load(folder, engine="reference").engine.name == "reference"
    assert tiny.model().engine.name == "reference"


def test_without_the_operators_plain_layers_do_the_same(monkeypatch):
    parts = parts_of("bert", ())
    batch = batch_of(parts.encoder.config)
    ((_, wanted),) = PackedEngine(parts, "float32").run([batch], Output("hidden"))
    monkeypatch.setattr("bothways.run.engines.packed.pack.can_pack", lambda dtype: False)
    ((_, found),) = PackedEngine(parts, "float32").run([batch], Output("hidden"))
    assert np.abs(found - wanted).max() < 1e-5


def test_operators_that_are_gone_or_wrong_are_not_used(monkeypatch):
    class Gone:
        def __getattr__(self, name):
            raise AttributeError(name)

    class Wrong:
        _reorder_linear_weight = staticmethod(lambda weight, rows: weight)

        class _linear_pointwise:  # noqa: N801
            def __new__(cls, x, weight, *rest):
                return torch.zeros(len(x), len(weight), dtype=x.dtype)

            binary = staticmethod(lambda x, other, weight, *rest: other)

    for broken in (Gone(), Wrong()):
        monkeypatch.setattr(torch.ops, "mkldnn", broken)
        assert not linear.can_pack.__wrapped__(torch.float32)


@pytest.mark.parametrize(("cached", "most"), [(0, 512), (256, 512), (1024, 1024), (1 << 20, 2048)])
def test_large_jobs_have_batches_that_a_core_s_cache_holds_and_small_ones_are_shared_out(monkeypatch, cached, most):
    parts = parts_of("bert", ())
    token = 4 * parts.encoder.config.width  # bytes
    monkeypatch.setattr(engine_module, "cache_share", lambda: 4 * cached * token)
    engine = PackedEngine(parts, "float32", threads=2)
    assert (engine.batch_tokens, engine.most_tokens) == (512, most)
    assert budget(engine, 3000) == 512
    assert budget(engine, 6 * 1024) == min(most, 1024)
    assert budget(engine, 1 << 30) == most
    assert budget(PackedEngine(parts, "float32", manner=Manner(deterministic=True)), 1 << 30) == 1
    assert budget(ReferenceEngine(parts, "float32"), 1 << 30) == ReferenceEngine.batch_tokens


def test_an_unknown_engine_lists_those_there_are(tmp_path):
    tiny.folder(tmp_path / "model")
    import bothways as bw

    with pytest.raises(BothwaysError, match="there is no engine 'paked'; there are auto, reference, packed"):
        bw.load(tmp_path / "model", engine="paked")


def test_filled_batches_come_in_few_sizes_and_say_the_same():
    config = tiny.config()
    sizes = {batch.tokens + fillers(batch.tokens) for batch in (batch_of(config, (n,)) for n in range(1, 600))}
    assert len(sizes) < 60
    batch = batch_of(config)
    whole = filled(batch, 11, 0)
    assert (whole.lengths[:11] == 1).all()
    assert (whole.rows[:11] == -1).all()
    assert np.array_equal(whole.token_ids[11:], batch.token_ids)
    assert np.array_equal(whole.lengths[11:], batch.lengths)
    assert filled(batch, 0, 0) is batch
