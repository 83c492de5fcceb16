"""int16 for packed layers: float32's answers to six digits, sums that cannot overflow, and what `auto` makes of it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import bothways as bw
import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.kernels.compiled import kernels
from bothways.run import chosen
from bothways.run.bound import Bound
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed import engine as packed
from bothways.run.engines.packed import int16
from bothways.run.engines.packed.int16 import NORM, PART, Int16Linear, can_int16, multiplies_shorts, shortened
from bothways.run.engines.packed.linear import PackedLinear
from bothways.run.engines.packed.pack import pack
from bothways.run.engines.protocol import Manner
from bothways.run.model import Model

needs_int16 = pytest.mark.skipif(not can_int16(), reason="no int16 products here")


def off(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@needs_int16
@pytest.mark.parametrize("shape", [(1, 16, 16), (7, 32, 48), (13, 400, 80), (70, 1536, 384)])
@pytest.mark.parametrize("activation", [None, "gelu", "relu"])
@pytest.mark.parametrize("out", [torch.float32, torch.float16])
def test_a_layer_has_nearly_the_digits_of_float32(shape, activation, out):
    rows, inputs, outputs = shape
    draw = torch.Generator().manual_seed(rows)
    x, other = torch.randn(rows, inputs, generator=draw), torch.randn(rows, outputs, generator=draw)
    weight, bias = torch.randn(outputs, inputs, generator=draw), torch.randn(outputs, generator=draw)
    layer = Int16Linear(weight, bias, out, activation)
    exact = functional.linear(x.double(), weight.double(), bias.double())
    near = 4e-4 if out == torch.float32 else 1e-3
    assert off(layer.plus(x, other), exact + other) < near
    exact = exact if activation is None else getattr(functional, activation)(exact)
    assert off(layer(x), exact) < near
    assert layer(x).dtype == out
    assert torch.equal(layer(x[None])[0], layer(x))
    assert layer(x[:0]).shape == (0, outputs)


@needs_int16
@pytest.mark.parametrize("inputs", [16, 768, 4096])
@pytest.mark.parametrize("large", [1e-20, 1e-12, 1.0, 1e4, 1e17])
def test_no_sum_leaves_32_bits_whatever_the_numbers_are(inputs, large):
    """All of one sign and size is the worst that a sum can be; and one number may be larger than all others."""
    same, single = torch.ones(16, inputs), torch.zeros(16, inputs)
    single[:, 3] = 1
    for x in (same, -same, single):
        for weight in (same, single):
            exact = large * x.double() @ weight.double().t()
            assert off(Int16Linear(weight, None, torch.float32)(large * x), exact) < 1e-3
    assert (NORM + 0.5 * PART**0.5) ** 2 < 2**31  # with what rounding adds


@needs_int16
def test_rows_of_zeros_and_of_no_numbers_stay_what_they_are():
    weight = torch.randn(16, 1600)
    x = torch.randn(4, 1600)
    x[0], x[2, 6] = 0, torch.nan
    found = Int16Linear(weight, torch.ones(16), torch.float32)(x)
    assert torch.equal(found[0], torch.ones(16))
    assert not found[2].isfinite().any()
    assert off(found[3:], x[3:] @ weight.t() + 1) < 4e-4


@needs_int16
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kernel_rounds_as_it_is_written_in_python(dtype):
    x = (torch.randn(50, 1600) * torch.logspace(-3, 3, 50)[:, None]).to(dtype)
    found, wanted = kernels().shortened(x, NORM), shortened(x.float())
    assert torch.allclose(found.steps, wanted.steps, rtol=1e-5)
    assert (found.levels.int() - wanted.levels.int()).abs().max() <= 1
    assert all((part.norm(dim=1) < NORM + 20).all() for part in found.levels.float().split(PART, 1))
    assert (found.levels.float().norm(dim=1) > NORM).all()


@needs_int16
def test_every_linear_layer_of_an_encoder_that_the_kernel_knows_is_in_int16():
    for shape in ((16, 24), (20, 32)):
        assert not multiplies_shorts(kernels(), torch.zeros(shape), None)
    model = tiny.model(("classify",))
    layers = pack(Parts(model.encoder, model.heads, model.head_configs), torch.int16).encoder.modules()
    kinds = [type(layer) for layer in layers if isinstance(layer, PackedLinear | Int16Linear)]
    assert len(kinds) >= 8
    assert kinds == [Int16Linear] * len(kinds)


@needs_int16
def test_what_comes_together_means_nothing():
    model = Model(tiny.saved(()), precision="int16", engine="packed")
    texts = tiny.sentences(40)
    whole = model.embed(texts)
    assert model.engine.describe()["precision"] == "int16"
    alone = np.stack([model.embed(text) for text in texts[::7]])
    assert np.allclose(alone, whole[::7], atol=1e-3)
    exact = Model(tiny.saved(()), precision="int16", engine="packed", manner=Manner(deterministic=True))
    assert np.array_equal(np.stack([exact.embed(text) for text in texts[::7]]), exact.embed(texts)[::7])


@needs_int16
def test_auto_goes_on_to_int16_where_bf16_is_missing_or_too_far(monkeypatch):
    monkeypatch.setattr(packed, "native_bf16", lambda kind: (False, "none"))
    assert opened().precision == "int16"
    monkeypatch.setattr(packed, "native_bf16", lambda kind: (True, "there"))
    assert opened().precision == "bf16"
    strict = opened(Bound(worst_cosine=0.99999))
    assert strict.engine.describe()["precision"] == strict.precision == "int16"
    assert strict._known.lower["int16"]["check"]["vector"]["worst_cosine"] >= 0.99999
    impossible = Model(tiny.saved(()), precision="auto", engine="packed", bound=Bound(worst_cosine=1.1))
    with pytest.warns(BothwaysWarning, match="in int16 is .* beyond the bound .*; use float32, as is done now"):
        impossible.embed("the river")
    assert impossible.precision == "float32"


def opened(bound=None):
    model = Model(tiny.saved(()), precision="auto", engine="packed", bound=bound)
    engine = model.engine
    model.embed("the river")
    assert model.engine is engine
    return model


@needs_int16
def test_a_model_is_quantized_to_it_and_opens_so(tmp_path):
    model = tiny.model(("classify",))
    found = model.quantize("int16", texts=tiny.sentences(12))
    assert found.kept == ()
    assert found.check["vector"]["worst_cosine"] > 0.99999
    assert set(found.tokens_per_second) == {"float32", "int16"}
    model.save(tmp_path / "model")
    assert bw.load(tmp_path / "model", precision="auto").precision == found.fastest


def test_where_int16_cannot_be_one_sentence_says_so(monkeypatch):
    with pytest.raises(BothwaysError, match="'reference' does not compute in int16; choose 'packed'"):
        Model(tiny.saved(()), precision="int16").embed("a")
    for module in (int16, packed, chosen):
        monkeypatch.setattr(module, "can_int16", lambda: False)
    with pytest.raises(BothwaysError, match=r"int16 needs a processor with AVX-512 and VNNI.*; use float32"):
        Model(tiny.saved(()), precision="int16", engine="packed").embed("a")
    monkeypatch.setattr(packed, "native_bf16", lambda kind: (False, "none"))
    assert Model(tiny.saved(()), precision="auto", engine="packed").precision == "float32"
