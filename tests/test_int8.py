"""int8 for packed layers: close to float32, independent of the batch, and guarded where it is not."""

import numpy as np
import pytest
import torch

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.run import guard
from bothways.run.bound import Bound
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed import int8
from bothways.run.engines.packed.calibrate import AFTER_NORM, MIXED, calibrate
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int8 import InputScale, Int8Linear
from bothways.run.engines.packed.pack import layers
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


def test_a_layer_is_within_its_rounding():
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 32), torch.randn(24), torch.rand(50, 32) * 4 - 1
    exact = torch.nn.functional.linear(x, weight, bias)
    layer = Int8Linear(weight, bias, InputScale(4 / 255, 64), torch.float32)
    assert (layer(x) - exact).norm() / exact.norm() < 0.01
    other = torch.randn(50, 24)
    assert (layer.plus(x, other) - exact - other).norm() / exact.norm() < 0.01
    assert layer(x[:1]).shape == (1, 24)


def test_what_is_outside_the_scale_is_set_to_its_ends():
    layer = Int8Linear(torch.eye(8), None, InputScale(1 / 255, 0), torch.float32)
    assert torch.allclose(layer(torch.full((2, 8), 9.0)), torch.ones(2, 8), atol=0.01)
    assert torch.allclose(layer(torch.full((2, 8), -9.0)), torch.zeros(2, 8), atol=0.01)


def test_large_channels_cost_the_others_nothing_once_they_are_centred_and_smoothed():
    """A channel that is nearly constant and a hundred times larger than the others, as norms make them."""
    torch.manual_seed(0)
    x = torch.randn(400, 16)
    x[:, 3] = 100 + 0.5 * x[:, 3]
    layer = torch.nn.Linear(16, 16)
    exact = layer(x).detach()

    class Alone(torch.nn.Module):
        device, config = torch.device("cpu"), None

        def forward(self, batch):
            return layer(x)

    found = {}
    for name, smoothing in (("smooth", AFTER_NORM), ("plain", MIXED)):
        (scale,) = calibrate(Parts(Alone(), {}, {}), [None], {"it": (layer, smoothing)}).values()
        made = Int8Linear(layer.weight, layer.bias, scale, torch.float32)
        found[name] = float((made(x) - exact).norm() / (exact - exact.mean(0)).norm())
    assert found["smooth"] < 0.02
    assert found["plain"] > 3 * found["smooth"]


def test_layers_hand_their_levels_on():
    torch.manual_seed(0)
    first, second, x = torch.randn(32, 16), torch.randn(16, 32), torch.randn(60, 16)
    inner = torch.nn.functional.gelu(x @ first.t())
    exact = inner @ second.t()
    between = InputScale(float(inner.max() + 0.17) / 255, round(0.17 / (float(inner.max() + 0.17) / 255)))
    reach = InputScale(float(x.abs().max()) / 127, 127)
    one = Int8Linear(first, None, reach, torch.float32, "gelu", between)
    two = Int8Linear(second, None, between, torch.float32)
    assert one(x).dtype == torch.uint8
    assert (two(one(x)) - exact).norm() / exact.norm() < 0.05


def test_an_encoder_stays_close_and_its_texts_do_not_see_each_other():
    model = tiny.model(("classify",))
    engine = PackedEngine(parts_of(model), "int8", scales=calibrated(model))
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
        assert off(one[0], every[row]) < 0.02


def test_only_layers_with_a_scale_are_rounded():
    model = tiny.model(())
    scales = calibrated(model)
    batch = model.encode(tiny.sentences(9)).batch(np.arange(9))
    ((_, exact),) = PackedEngine(parts_of(model), "float32").run([batch], Output("hidden"))
    losses = []
    for names in ((), ("block 0 outer",), tuple(scales)):
        engine = PackedEngine(parts_of(model), "int8", scales={name: scales[name] for name in names})
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
    assert set(tight.scales) == set(loose.scales) - set(tight.kept)


def test_a_bound_that_cannot_be_held_names_the_layer_that_hurts_most():
    model = tiny.model(())
    with pytest.raises(BothwaysError, match=r"within the bound .*block \d \w+, which loses most, alone as like"):
        checked(model, parts_of(model), "int8", Bound(worst_cosine=1.1), tiny.sentences(12))
    with pytest.raises(BothwaysError, match=r"in bf16 is as like as .* beyond the bound .*; use float32"):
        checked(model, parts_of(model), "bf16", Bound(worst_cosine=1.1), tiny.sentences(12))


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


def test_auto_takes_bf16_only_if_it_stays_close(monkeypatch):
    from bothways.errors import BothwaysWarning
    from bothways.run import chosen as module

    monkeypatch.setattr(module, "resolve_precision", lambda name, device: Native())
    near = Model(tiny.saved(()), precision="auto", engine="packed")
    near.embed("the river")
    assert near.engine.describe()["precision"] == "bf16"
    assert near._known.lower["bf16"]["check"]["vector"]["worst_cosine"] > 0.999
    far = Model(tiny.saved(()), precision="auto", engine="packed", bound=Bound(worst_cosine=1.1))
    with pytest.warns(BothwaysWarning, match="beyond the bound .*; use float32, as is done now"):
        far.embed("the river")
    assert far.engine.describe()["precision"] == far.precision == "float32"


class Native:
    name = "bf16"
