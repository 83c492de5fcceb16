"""int8 for packed layers: close to float32, independent of the batch, and guarded where it is not."""

import numpy as np
import pytest
import torch

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.build import build_encoder, build_head
from bothways.model.families import family
from bothways.model.kernels import compiled
from bothways.run import chosen, guard
from bothways.run.bound import Bound
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed import engine, int8
from bothways.run.engines.packed.calibrate import as_tensors, calibrate, from_tensors
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int8 import Int8Linear, plain
from bothways.run.engines.packed.int16 import can_int16
from bothways.run.engines.packed.pack import layers
from bothways.run.engines.packed.rounding import Inputs, least_changed, rounded
from bothways.run.engines.protocol import Output
from bothways.run.guard import checked
from bothways.run.model import Model

needs_int8 = pytest.mark.skipif(not int8.can_int8(), reason="no fast int8 products here")
pytestmark = needs_int8


def parts_of(model):
    return Parts(model.encoder, model.heads, model.head_configs)


def calibrated(model):
    batches = model.encode(tiny.sentences(40)).batches(256)
    return calibrate(parts_of(model), batches, layers(model.encoder))


def off(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def inputs_of(x):
    inputs = Inputs()
    for part in x.split(70):
        inputs.add(part)
    return inputs


def lost(layer, x, exact):
    return float((layer(x) - exact).norm() / (exact - exact.mean(0)).norm())


def test_a_layer_is_within_its_rounding():
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 32), torch.randn(24), torch.rand(50, 32) * 4 - 1
    exact = torch.nn.functional.linear(x, weight, bias)
    layer = Int8Linear(weight, bias, plain(weight), torch.float32)
    assert lost(layer, x, exact) < 0.01
    other = torch.randn(50, 24)
    assert (layer.plus(x, other) - exact - other).norm() / exact.norm() < 0.01
    assert layer(x[:1]).shape == (1, 24)


def test_a_large_token_costs_the_others_nothing():
    torch.manual_seed(0)
    weight, x = torch.randn(16, 32), torch.randn(40, 32)
    layer = Int8Linear(weight, None, plain(weight), torch.float32)
    alone = layer(x[1:])
    x[0] *= 1000
    assert torch.equal(layer(x)[1:], alone)


def test_what_is_known_of_inputs_is_what_they_are():
    torch.manual_seed(0)
    x = torch.randn(300, 8) + torch.linspace(-1000, 1000, 8)
    inputs, centred = inputs_of(x), (x - x.mean(0)).double()
    assert inputs.count == 300
    assert torch.allclose(inputs.means, x.mean(0))
    assert torch.equal(inputs.low, x.amin(0))
    assert torch.equal(inputs.high, x.amax(0))
    assert torch.allclose(inputs.products, centred.t() @ centred, rtol=1e-3, atol=0.05)


def test_large_channels_cost_the_others_nothing_once_they_are_centred_and_smoothed():
    """A channel that is nearly constant and a hundred times larger than the others, as norms make them."""
    torch.manual_seed(0)
    x = torch.randn(400, 16)
    x[:, 3] = 100 + 0.5 * x[:, 3]
    weight = torch.randn(16, 16)
    exact = x @ weight.t()
    smooth = Int8Linear(weight, None, rounded(inputs_of(x), weight), torch.float32)
    assert lost(smooth, x, exact) < 0.02
    assert lost(Int8Linear(weight, None, plain(weight), torch.float32), x, exact) > 3 * lost(smooth, x, exact)


def test_channels_that_are_apart_keep_their_digits():
    torch.manual_seed(0)
    x = torch.randn(400, 32)
    x[::50, [5, 11]] *= 200  # rarely, but then very large
    weight = torch.randn(16, 32)
    exact, inputs = x @ weight.t(), inputs_of(x)
    whole, split = rounded(inputs, weight), rounded(inputs, weight, 4)
    assert {5, 11} <= set(split.apart.tolist())
    assert not split.weight[:, split.apart].any()
    apart = Int8Linear(weight, None, split, torch.float32)
    assert lost(apart, x, exact) < lost(Int8Linear(weight, None, whole, torch.float32), x, exact) / 2


def test_weights_are_rounded_so_that_products_change_least():
    """Channels that go together make up for each other, which rounding to the nearest does not know of."""
    torch.manual_seed(0)
    x = torch.randn(500, 6) @ torch.randn(6, 48) + 0.1 * torch.randn(500, 48)
    weight = torch.randn(24, 48)
    whole, units = least_changed((x.t() @ x).double(), weight)
    assert whole.dtype == torch.int8
    nearest = plain(weight)
    changed = [float((x @ (w * u[:, None] - weight).t()).norm()) for w, u in
               ((whole, units), (nearest.weight, nearest.units))]  # fmt: skip
    assert changed[0] < changed[1] / 2
    assert torch.equal(least_changed(torch.eye(48, dtype=torch.float64), weight)[0], nearest.weight)


def test_an_encoder_stays_close_and_its_texts_do_not_see_each_other():
    model = tiny.model(("classify",))
    engine = PackedEngine(parts_of(model), "int8", rounded=calibrated(model))
    texts = tiny.sentences(30, seed=3)
    whole = make_batch([model.encode([text]).token_ids for text in texts])
    for output in (Output("hidden"), Output("vector", "mean"), Output("classify")):
        ((_, wanted),) = PackedEngine(parts_of(model), "float32").run([whole], output)
        ((_, found),) = engine.run([whole], output)
        assert off(found, wanted) < 0.1
    for row in (0, 7, 29):
        alone = make_batch([whole.token_ids[whole.starts[row] : whole.starts[row + 1]]])
        ((_, one),) = engine.run([alone], Output("vector", "mean"))
        ((_, every),) = engine.run([whole], Output("vector", "mean"))
        assert off(one[0], every[row]) < 1e-5


@pytest.mark.parametrize("name", ["albert", "bert", "distilbert", "electra", "mpnet", "roberta"])
@pytest.mark.parametrize("kept", [(), ("block 0 queries", "block 1 outer")])
@pytest.mark.parametrize("others", ["float32", "int16"])
def test_without_bf16_what_passes_between_layers_is_half_as_wide(name, kept, others, monkeypatch):
    ours = compiled.kernels()
    if others == "int16" and not can_int16():
        pytest.skip("no int16 products here")
    monkeypatch.setattr(engine, "fast_precision", lambda: others)
    config = tiny.config(name).derive(width=64, attention__heads=2, feed_forward__width=128, pooler="tanh")
    config = config.derive(embeddings__width=32) if name == "albert" else config
    heads = {kind: tiny.head(name, kind) for kind in ("mlm", "classify", "tag") if kind in family(name).heads}
    modules = {kind: tiny.randomise(build_head(head, config), 2).eval() for kind, head in heads.items()}
    parts = Parts(tiny.randomise(build_encoder(config), 1, 0.05).eval(), modules, heads)
    draw = np.random.default_rng(0)
    sequences = [draw.integers(3, 200, length) for length in (1, 2, 9, 30, 70)]
    for sequence in sequences:
        sequence[-1] = 7  # asked for as a masked token
    batch = make_batch(sequences)
    weights = calibrate(parts, [batch], layers(parts.encoder))
    used = {name: one for name, one in weights.items() if name not in kept}
    narrow = PackedEngine(parts, "int8", rounded=used)
    monkeypatch.setattr(engine, "keeps_halves", lambda encoder: False)
    wide, exact = PackedEngine(parts, "int8", rounded=used), PackedEngine(parts, "float32")
    if ours is not None and ours.levels:
        assert narrow.batch_tokens == 2 * wide.batch_tokens
    vectors = (Output("vector", pooling) for pooling in ("mean", "cls", "max"))
    for output in (Output("hidden"), *vectors, *(Output(kind, token=7) for kind in heads)):
        ((_, found),) = narrow.run([batch], output)
        ((_, like),) = wide.run([batch], output)
        ((_, wanted),) = exact.run([batch], output)
        assert found.dtype == np.float32
        assert off(found, like) < 0.02
        assert off(found, wanted) < 0.1
    longer = make_batch([*sequences, draw.integers(3, 200, 90)])
    ((_, alone),) = narrow.run([batch], Output("vector", "mean"))
    ((_, among),) = narrow.run([longer], Output("vector", "mean"))
    assert np.array_equal(alone, among[: len(alone)]) or ours is None


def test_rounded_weights_are_saved_and_found_again():
    found = calibrated(tiny.model(()))
    again = from_tensors(as_tensors(found))
    assert list(again) == list(found)
    for name, one in found.items():
        assert all(torch.equal(getattr(one, part), getattr(again[name], part)) for part in vars(one))


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ("weight", lambda value: value[:-16]),
        ("weight", lambda value: value.float()),
        ("units", lambda value: value[:-1]),
        ("channels", lambda value: value.double()),
        ("middles", lambda value: value[None]),
        ("apart", lambda value: torch.tensor([-1])),
        ("apart", lambda value: torch.tensor([1 << 40])),
    ],
)
def test_what_was_rounded_of_other_weights_is_refused_before_a_kernel_reads_it(part, broken):
    model = tiny.model(())
    kept = as_tensors(calibrated(model))
    kept[f"block 1 inner.{part}"] = broken(kept[f"block 1 inner.{part}"])
    with pytest.raises(BothwaysError, match="belongs to other weights; quantize it again"):
        PackedEngine(parts_of(model), "int8", rounded=from_tensors(kept))
    del kept[f"block 1 inner.{part}"]
    with pytest.raises(BothwaysError, match=rf"lacks 'block 1 inner.{part}'; quantize it again"):
        from_tensors(kept)


def test_only_layers_that_were_rounded_are_in_int8():
    model = tiny.model(())
    found_of = calibrated(model)
    batch = model.encode(tiny.sentences(9)).batch(np.arange(9))
    ((_, exact),) = PackedEngine(parts_of(model), "float32").run([batch], Output("hidden"))
    losses = []
    for names in ((), ("block 0 outer",), tuple(found_of)):
        engine = PackedEngine(parts_of(model), "int8", rounded={name: found_of[name] for name in names})
        ((_, found),) = engine.run([batch], Output("hidden"))
        losses.append(off(found, exact))
    assert losses[0] < losses[1] < losses[2]


def test_the_guard_keeps_what_hurts_until_the_bound_holds():
    model = tiny.model(())
    with torch.no_grad():  # one layer that int8 spoils: a few inputs a thousand times larger than the others
        spoilt = model.encoder.stack.blocks[1].attention
        spoilt.value.weight[::7] *= 300
    texts = tiny.sentences(40, seed=5)
    loose = checked(model, parts_of(model), "int8", Bound(worst_cosine=-1), texts)
    assert loose.kept == ()
    worst = loose.check["vector"]["worst_cosine"]
    tight = checked(model, parts_of(model), "int8", Bound(worst_cosine=(1 + 3 * worst) / 4 + 0.0), texts)
    assert tight.kept
    assert tight.check["vector"]["worst_cosine"] > worst
    assert set(tight.rounded) == set(loose.rounded) - set(tight.kept)


def test_a_bound_that_cannot_be_held_names_the_layer_that_hurts_most():
    model = tiny.model(())
    with pytest.raises(BothwaysError, match=r"within the bound .*block \d \w+, which loses most, alone as like"):
        checked(model, parts_of(model), "int8", Bound(worst_cosine=1.1), tiny.sentences(12))
    with pytest.raises(BothwaysError, match=r"in bf16 does not stay .*block \d \w+, which loses most.*; use float32"):
        checked(model, parts_of(model), "bf16", Bound(worst_cosine=1.1), tiny.sentences(12))
    with pytest.raises(BothwaysError, match=r"in bf16 is as like as .* beyond the bound .*; use float32"):
        checked(model, parts_of(model), "bf16", Bound(worst_cosine=1.1), tiny.sentences(12), search=False)


def test_heads_are_judged_by_what_they_decide():
    model = tiny.model(("classify",))
    found = checked(model, parts_of(model), "int8", Bound(worst_cosine=2.0, equal_decisions=0.5), tiny.sentences(12))
    assert found.check["classify"]["equal"] >= 0.5


def test_a_model_in_int8_answers_and_remembers_its_check(tmp_path):
    texts = tiny.sentences(20, seed=8)
    model = Model(tiny.saved(("classify",)), precision="int8", engine="packed")
    assert model.engine.describe()["precision"] == "int8"
    exact = Model(model._saved, engine="reference")
    assert off(model.embed(texts), exact.embed(texts)) < 0.1
    model.save(tmp_path / "model")
    import bothways as bw

    again = bw.load(tmp_path / "model", precision="int8")
    assert again._known.lower == model._known.lower
    assert np.abs(again.embed(texts) - model.embed(texts)).max() < 1e-3


def test_where_int8_cannot_be_one_sentence_says_so(monkeypatch):
    reference = Model(tiny.saved(()), precision="int8")
    with pytest.raises(BothwaysError, match="'reference' does not compute in int8; choose 'packed'"):
        reference.embed("a")
    with pytest.raises(BothwaysError, match="no layer of tiny can be computed in int8 yet"):
        Model(tiny.saved((), norm="pre"), precision="int8", engine="packed", name="tiny").embed("a")
    monkeypatch.setattr(guard, "can_int8", lambda: False)
    with pytest.raises(BothwaysError, match="has no fast int8 products; use float32 or bf16"):
        Model(tiny.saved(()), precision="int8", engine="packed").embed("a")


def test_what_was_found_of_int8_elsewhere_does_not_count_where_it_cannot_be(monkeypatch):
    saved = tiny.saved(())
    Model(saved, precision="int8", engine="packed").embed("a")
    Model(saved, precision="int8", engine="packed").embed("a")
    monkeypatch.setattr(chosen, "can_int8", lambda: False)
    with pytest.raises(BothwaysError, match="has no fast int8 products; use float32 or bf16"):
        Model(saved, precision="int8", engine="packed").embed("a")
    monkeypatch.setattr(chosen, "usual_precision", lambda *given: "int8")
    monkeypatch.setattr(chosen, "can_int16", lambda: False)
    model = Model(saved, precision="auto", engine="packed")
    with pytest.warns(BothwaysWarning, match="no fast int8 products; use float32 or bf16, as is done now"):
        assert model.engine.describe()["precision"] == "float32"


def test_auto_takes_bf16_only_if_it_stays_close(monkeypatch):
    from bothways.errors import BothwaysWarning
    from bothways.run import chosen as module

    monkeypatch.setattr(module, "fast_precision", lambda: "bf16")
    near = Model(tiny.saved(()), precision="auto", engine="packed")
    near.embed("the river")
    assert near.engine.describe()["precision"] == "bf16"
    assert near._known.lower["bf16"]["check"]["vector"]["worst_cosine"] > 0.999
    far = Model(tiny.saved(()), precision="auto", engine="packed", bound=Bound(worst_cosine=1.1))
    with pytest.warns(BothwaysWarning, match="beyond the bound .*; use float32, as is done now"):
        far.embed("the river")
    assert far.engine.describe()["precision"] == far.precision == "float32"


def test_what_was_found_of_bf16_is_known_to_the_next_process_and_not_to_other_weights(monkeypatch, tmp_path):
    from bothways.run import chosen as module
    from bothways.run import compared

    monkeypatch.setattr(module, "fast_precision", lambda: "bf16")
    monkeypatch.setattr(compared, "cache_folder", lambda: tmp_path)
    asked, compare = [], guard.checked
    monkeypatch.setattr(guard, "checked", lambda *given, **options: asked.append(1) or compare(*given, **options))

    def opened(seed=0, **changes):
        model = Model(tiny.saved((), seed=seed), precision="auto", engine="packed", **changes)
        model.embed("the river")
        return model._known.lower["bf16"]["check"], model.engine.describe()["precision"], len(asked)

    check, _, count = opened()
    assert count == 1
    assert opened() == (check, "bf16", 1)
    assert opened(bound=Bound(check["vector"]["worst_cosine"] - 1e-6)) == (check, "bf16", 1)
    assert opened(seed=1)[2] == 2
    for place in tmp_path.iterdir():
        place.write_text("{")
    assert opened() == (check, "bf16", 3)
