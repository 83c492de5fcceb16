"""Our own kernels give what torch's operators give, and nothing depends on them."""

import subprocess
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import tiny
from bothways.batch import make_batch
from bothways.model.build import build_encoder
from bothways.model.families import families
from bothways.model.kernels import compiled as kernels
from bothways.model.kernels import functions, learned
from bothways.model.parts.attend import attend
from bothways.model.parts.embeddings import Embeddings
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed import attention, int8, linear, norm, pack
from bothways.run.engines.packed.attention import by_distance
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int8 import Int8Linear, plain
from bothways.run.engines.packed.int16 import Int16Linear
from bothways.run.engines.packed.linear import PackedLinear
from bothways.run.engines.packed.rounding import Inputs, rounded
from bothways.run.engines.protocol import Output
from bothways.run.engines.reference import ReferenceEngine

OURS = kernels.kernels()
needed = pytest.mark.skipif(OURS is None, reason=f"own kernels: {kernels.describe_kernels()}")
NEAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
WIDE = {"width": 64, "attention__heads": 2, "feed_forward__width": 128}


def qkv_of(tokens, heads, width, dtype, seed=0):
    values = torch.randn(tokens, 3, heads, width, generator=torch.Generator().manual_seed(seed))
    values[:, 0] *= 2 / width**0.5
    return values.flatten(1).to(dtype)


def attended(qkv, starts, heads, **how):
    return OURS.attention(qkv.chunk(3, 1), starts, heads, **how)


def softmax_of(qkv, starts, heads, bias=None):
    """The definition, a sequence at a time."""
    mixed = []
    for first, last in pairwise(starts):
        q, k, v = qkv[first:last].float().unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2)
        if bias is not None:
            place = torch.arange(last - first)
            scores = scores + bias[:, bias.shape[1] // 2 + place - place[:, None]]
        mixed.append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.cat(mixed)


no_bf16 = pytest.mark.skipif(
    OURS is None or not OURS.mixes(torch.bfloat16, 64), reason="this processor multiplies no bfloat16"
)
in_each_type = pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=no_bf16)])


@needed
@pytest.mark.parametrize("activation", ["relu", "gelu", None])
def test_what_is_not_a_number_stays_so_in_a_linear_layer(activation):
    weight = OURS.packed(torch.ones(64, 64))
    found = OURS.linear(torch.full((2, 64), torch.nan), weight, torch.zeros(64), torch.float32, activation=activation)
    assert found.isnan().all()


@needed
def test_what_is_not_a_number_stays_so_in_float16_and_whole_numbers():
    weight, x = torch.randn(16, 32, generator=torch.Generator().manual_seed(0)), torch.ones(3, 32)
    x[1, 5], ones, none = torch.nan, torch.ones(32), torch.zeros(32)
    linear = OURS.linear(x, OURS.packed(weight), torch.zeros(16), torch.float16)
    found = [linear, OURS.normed(x.half(), ones, none, 1e-5), OURS.rounded(x, ones, none).steps[:, None]]
    if OURS.levels:
        found += [Int8Linear(weight, None, plain(weight), torch.float32)(x)]
        for place in range(3):  # a query, a key, a value
            qkv = qkv_of(20, 1, 32, torch.float32)
            qkv[:, 32 * place + 4] *= x[:, 5].repeat(7)[:20]
            alike = attended(qkv, np.array([0, 3, 6, 20]), 1, whole=True).isnan().all(1)
            assert alike.all()
            assert not attended(qkv.nan_to_num(), np.array([0, 20]), 1, whole=True).isnan().any()
    for each in found:
        assert each.isnan().all(1).tolist() == [False, True, False]
        assert each.isnan().any(1).tolist() == [False, True, False]


@pytest.fixture
def half_by_itself():
    """Tensors that are made without a word of their type are bfloat16."""
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@needed
def test_what_c_writes_is_as_large_as_it_takes_it_to_be_whatever_torch_s_defaults_are(request):
    x = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))

    def made():
        flat, ones, none = x[0].detach(), torch.ones(32, dtype=torch.float32), torch.zeros(32, dtype=torch.float32)
        yield from OURS.rounded(flat, ones, none)[1:3]
        yield OURS.shortened(flat, 46_000.0).steps
        yield learned.attended(*x.view(3, 2, 1, 32), np.array([0, 2]), 1.0, (0.0, 0), OURS).grad_fn.saved_tensors[-1]
        yield PackedLinear(weight, None, torch.float32)(flat)
        yield norm.PackedNorm(torch.nn.LayerNorm(32, elementwise_affine=False), OURS)(flat)
        if OURS.levels:
            yield Int16Linear(weight, None, torch.float32)(flat)
            yield Int8Linear(weight, None, plain(weight), torch.float32)(flat)

    wanted = list(made())
    request.getfixturevalue("half_by_itself")
    int8.can_int8.__wrapped__()
    for found, right in zip(made(), wanted, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, right)


@needed
@in_each_type
@pytest.mark.parametrize("lengths", [(1,), (2, 3, 5), (15, 16, 17), (1, 1, 31, 32, 33), (100, 257, 511)])
@pytest.mark.parametrize(("heads", "width"), [(12, 32), (2, 64), (1, 96), (3, 128)])
def test_attention_is_its_definition(lengths, heads, width, dtype):
    starts = np.cumsum([0, *lengths])
    bias = torch.randn(heads, 2 * 600 - 1, generator=torch.Generator().manual_seed(1))
    qkv = qkv_of(starts[-1], heads, width, dtype)
    for added in (None, bias):
        found = attended(qkv, starts, heads, bias=added)
        assert found.dtype == dtype
        assert (found.float() - softmax_of(qkv, starts, heads, added)).abs().max() < NEAR[dtype]


@needed
@pytest.mark.parametrize("lengths", [(1,), (2, 3, 5), (15, 16, 17, 63, 64, 65), (100, 257, 511)])
@pytest.mark.parametrize(("heads", "width"), [(12, 32), (2, 64), (1, 96), (3, 128)])
def test_attention_in_whole_numbers_is_nearer_to_its_definition_than_bfloat16(lengths, heads, width):
    starts = np.cumsum([0, *lengths])
    bias = torch.randn(heads, 2 * 600 - 1, generator=torch.Generator().manual_seed(1))
    qkv = qkv_of(starts[-1], heads, width, torch.float32)
    qkv[:, : heads * width] *= torch.linspace(0.1, 5, heads).repeat_interleave(
        width
    )  # each head has a range of its own
    if not OURS.mixes_whole(torch.float32, width):
        pytest.skip("this processor multiplies no int16")
    for added in (None, bias):
        found = attended(qkv, starts, heads, bias=added, whole=True)
        assert found.dtype == torch.float32
        wanted, rough = (softmax_of(each, starts, heads, added) for each in (qkv, qkv.bfloat16()))
        assert (found - wanted).abs().max() < (rough - wanted).abs().max() / 4


@needed
def test_whole_numbers_stay_within_32_bits_where_all_are_as_large_as_can_be():
    if not OURS.mixes_whole(torch.float32, 128):
        pytest.skip("this processor multiplies no int16")
    for value in (1e-3, 7.0, 1e20):
        qkv = torch.full((300, 3 * 128), value) * torch.tensor([1 / value, 1 / value, -1]).repeat_interleave(128)
        found = attended(qkv, np.array([0, 300]), 1, scale=0.01, whole=True)
        assert torch.allclose(found, torch.full((300, 128), -value), rtol=1e-4)
    assert not attended(torch.zeros(5, 96), np.array([0, 5]), 1, whole=True).any()


@needed
def test_float16_ends_at_its_largest_number():
    weight = torch.full((16, 16), 100.0)
    x, bias = torch.eye(16) * torch.tensor([1e5, -1e5, 1.0, 0.0]).repeat(4), torch.zeros(16)
    found = OURS.linear(x, OURS.packed(weight), bias, torch.float16)
    assert found.dtype == torch.float16
    assert found[:4, 0].tolist() == [65504, -65504, 100, 0]


@needed
@in_each_type
@given(st.lists(st.integers(1, 70), min_size=1, max_size=6), st.integers(0, 9))
@settings(deadline=None, max_examples=25)
def test_sequences_and_threads_do_not_see_each_other(dtype, lengths, seed):
    starts = np.cumsum([0, *lengths])
    for whole in (False, True) if OURS.levels and dtype == torch.float32 else (False,):
        qkv = qkv_of(starts[-1], 2, 32, dtype, seed)
        alone = [attended(qkv[a:b], np.array([0, b - a]), 2, whole=whole) for a, b in pairwise(starts)]
        assert torch.equal(attended(qkv, starts, 2, whole=whole), torch.cat(alone))


@needed
def test_a_long_sequence_is_shared_by_threads_and_stays_the_same(monkeypatch):
    qkv, starts = qkv_of(900, 4, 32, torch.float32), np.array([0, 300, 900])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = attended(qkv, starts, 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(attended(qkv, starts, 4), alone)


@needed
@in_each_type
@pytest.mark.parametrize("moved", [0.0, 3e4, -3e4])
def test_large_scores_are_exact_and_what_is_not_a_number_stays_so(moved, dtype):
    qkv = qkv_of(40, 1, 32, dtype)
    qkv[:, 31], qkv[:, 63] = 1, moved  # the same added to every score
    wanted = softmax_of(qkv, [0, 40], 1)
    assert (attended(qkv, np.array([0, 40]), 1).float() - wanted).abs().max() < 5e-2
    qkv[3, 5] = float("nan")  # in one query
    broken = attended(qkv, np.array([0, 40]), 1).isnan().any(1)
    assert broken.nonzero().tolist() == [[3]]


@needed
def test_each_row_is_rounded_on_a_scale_of_its_own():
    draw = torch.Generator().manual_seed(0)
    by, shift = torch.rand(64, generator=draw) + 0.5, torch.randn(64, generator=draw)
    for dtype in (torch.float32, torch.bfloat16):
        x = (torch.randn(50, 64, generator=draw) * torch.logspace(-3, 3, 50)[:, None]).to(dtype)
        x[7] = 0
        wanted = torch.addcmul(shift, x.float(), by)
        levels, steps, lows, few = OURS.rounded(x, by, shift, torch.tensor([63, 4]))
        assert torch.equal(few, x[:, [63, 4]])
        back = lows[:, None] + steps[:, None] * levels
        assert ((back - wanted).abs().amax(1) <= steps * 0.502).all()
        reach = wanted.amax(1).clamp(min=0) - wanted.amin(1).clamp(max=0)
        assert torch.allclose(steps, reach / 255, rtol=1e-5)
    levels, steps, lows, few = OURS.rounded(torch.zeros(2, 16), torch.ones(16), torch.zeros(16))
    assert few is None
    assert not levels.any()
    assert not lows.any()
    assert (steps > 0).all()


ACTIVATED = {
    None: lambda x: x,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
}


@needed
@in_each_type
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 300])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (30, 48), (66, 272), (768, 16)])
def test_a_linear_layer_is_torch_s(rows, inputs, outputs, dtype):
    draw = torch.Generator().manual_seed(rows)
    x, weight, other = (torch.randn(*shape, generator=draw) for shape in
                        ((rows, inputs), (outputs, inputs), (rows, outputs)))  # fmt: skip
    weight, bias = weight * 2 / inputs**0.5, torch.randn(outputs, generator=draw)
    exact = functional.linear(x.to(dtype).float(), weight.to(dtype).float(), bias)
    near = {torch.float32: 2e-5, torch.bfloat16: 5e-2}[dtype]
    for activation, apply in ACTIVATED.items():
        layer = PackedLinear(weight, bias, dtype, activation)
        assert layer.any_shape
        assert (layer(x).float() - apply(exact)).abs().max() < near
        assert (layer.plus(x, other).float() - exact - other).abs().max() < near
    assert torch.equal(layer(x.view(1, rows, inputs))[0], layer(x))


@needed
@in_each_type
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_an_activation_is_torch_s_as_nearly_as_its_type_can_say(activation, dtype):
    x = torch.linspace(-12, 12, 16 * 400).view(-1, 16)
    layer = PackedLinear(torch.eye(16), None, dtype, activation)
    exact = ACTIVATED[activation](x.to(dtype).float())
    off = (layer(x).float() - exact).abs()
    assert (off <= (0.004 * exact.abs() + 1e-4 if dtype == torch.bfloat16 else 2e-6)).all()


@needed
def test_what_has_no_kernel_is_left_to_torch():
    for outputs, activation in ((10, None), (16, "tanh")):
        layer = PackedLinear(torch.ones(outputs, 8), None, torch.float32, activation)
        assert not layer.any_shape
        assert torch.allclose(layer(torch.zeros(3, 8)), torch.zeros(3, outputs))


@needed
def test_threads_share_a_product_and_its_rows_stay_the_same(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(500, 128, generator=draw), torch.randn(256, 128, generator=draw)
    layer = PackedLinear(weight, None, torch.float32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = layer(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(functions, "_THREAD_PRODUCTS", 1)
    assert torch.equal(layer(x), alone)
    OURS._library.use_threads(None)  # as where torch's own threads are not known
    try:
        assert torch.equal(layer(x), alone)
    finally:
        OURS._library.use_threads(kernels._openmp())
    assert torch.equal(layer(x[77:78])[0], alone[77])


@needed
@pytest.mark.parametrize("biased", [True, False])
def test_a_norm_is_torch_s(biased):
    own = torch.nn.LayerNorm(96, eps=1e-5, bias=biased)
    torch.nn.init.normal_(own.weight)
    packed = norm.PackedNorm(own, OURS)
    for dtype in (torch.float32, torch.bfloat16):
        x = (torch.randn(33, 96) * 5 + 100).to(dtype)
        wanted = functional.layer_norm(x.float(), (96,), own.weight, own.bias, 1e-5)
        assert packed(x).dtype == dtype
        assert (packed(x).float() - wanted).abs().max() < (1e-4 if dtype == torch.float32 else 4e-2)
    odd = norm.PackedNorm(torch.nn.LayerNorm(20), OURS)  # a width that the kernel does not know
    assert torch.allclose(odd(torch.ones(2, 20).cumsum(1)), functional.layer_norm(torch.ones(2, 20).cumsum(1), (20,)))


def masks_of(starts, heads, width, drop):
    """What attention drops of each sequence's weights ``(H, L, L)``: values say whose a weight is."""
    tokens, found = starts[-1], []
    for first, last in pairwise(starts):
        length = last - first
        kept = torch.zeros(heads, length, length)
        for begin in range(0, length, width):
            v = torch.zeros(tokens, heads, width)
            for column, place in enumerate(range(begin, min(length, begin + width))):
                v[first + place, :, column] = 1
            alike = torch.zeros(tokens, heads * width)
            seen = OURS.attention([alike, alike, v.flatten(1)], starts, heads, drop=drop)[first:last]
            shown = (seen > 0).view(length, heads, width).transpose(0, 1)
            kept[:, :, begin : begin + width] = shown[:, :, : length - begin]
        found.append(kept)
    return found


@needed
@in_each_type
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("lengths", [(2, 3, 5), (15, 16, 17, 33), (7, 130)])
@pytest.mark.parametrize(("heads", "width"), [(3, 32), (1, 96)])
def test_the_gradient_of_attention_is_autograd_s_with_the_same_weights_dropped(lengths, heads, width, rate, dtype):
    starts = np.cumsum([0, *lengths])
    drop, scale = (rate, 5), 0.7 / width**0.5
    kept = masks_of(starts, heads, width, drop)
    draw = torch.Generator().manual_seed(1)
    drawn = [torch.randn(starts[-1], heads, width, generator=draw) for _ in range(4)]
    ours = [each.to(dtype).clone().requires_grad_() for each in drawn[:3]]
    plain = [each.detach().float().clone().requires_grad_() for each in ours]
    wanted = []
    for (first, last), mask in zip(pairwise(starts), kept, strict=True):
        q, k, v = (each[first:last].transpose(0, 1) for each in plain)
        shares = (scale * q @ k.transpose(1, 2)).softmax(-1) * mask / (1 - rate)
        wanted.append((shares @ v).transpose(0, 1))
    found = learned.attended(*ours, starts, scale, drop, OURS)
    assert (found.float() - torch.cat(wanted)).abs().max() < NEAR[dtype]
    (found.float() * drawn[3]).sum().backward()
    (torch.cat(wanted) * drawn[3]).sum().backward()
    for one, other in zip(ours, plain, strict=True):
        assert (one.grad.float() - other.grad).abs().max() < NEAR[dtype] * other.grad.abs().max()


@needed
def test_what_is_dropped_is_a_share_differs_by_seed_and_head_and_is_the_same_for_gradients():
    starts = np.array([0, 90, 180])
    first, second = masks_of(starts, 2, 32, (0.1, 5))
    for mask in (first, second):
        assert abs(mask.mean() - 0.9) < 0.01
        assert abs(mask.mean(1) - 0.9).max() < 0.2
        assert abs(mask.mean(2) - 0.9).max() < 0.2
    agree = (first[0] == first[1]).float().mean(), (first == second).float().mean()
    other = (first == masks_of(starts, 2, 32, (0.1, 6))[0]).float().mean()
    for share in (*agree, other):  # of independent masks: 0.9² + 0.1²
        assert abs(share - 0.82) < 0.01
    for dtype in NEAR:
        values = torch.ones(1001, 37, dtype=dtype).requires_grad_()
        left = learned.dropped(values, (0.25, 3), OURS)
        assert abs((left == 0).float().mean() - 0.25) < 0.01
        assert abs(left.float().mean() - 1) < 0.02
        left.sum().backward()
        assert torch.equal(values.grad, left)
        neighbours = (left[:, 1:] == 0) & (left[:, :-1] == 0)
        assert abs(neighbours.float().mean() - 0.25**2) < 0.01


@needed
def test_the_gradient_of_gelu_is_torch_s():
    x = torch.cat((torch.linspace(-9, 9, 4999), torch.tensor([0.0, -40.0, 40.0, 1e-30])))
    for dtype, near in ((torch.float32, 2e-6), (torch.bfloat16, 8e-3)):
        ours = x.to(dtype).clone().requires_grad_()
        plain = ours.detach().float().clone().requires_grad_()
        activated = learned.gelu(ours)
        assert activated.grad_fn is not None
        assert "Gelu" in type(activated.grad_fn).__name__
        activated.sum().backward()
        functional.gelu(plain).sum().backward()
        assert (ours.grad.float() - plain.grad).abs().max() < near


@needed
def test_only_what_learns_on_a_processor_goes_through_them():
    learns = torch.ones(2, 32, requires_grad=True)
    assert learned.learning(learns) is OURS
    assert learned.learning(torch.ones(2, 32)) is None
    assert learned.learning(learns.to("meta")) is None
    assert learned.learning(learns.double()) is None
    with torch.no_grad():
        assert learned.learning(learns) is None
        assert learned.learning(learns, 0.1) is OURS  # of two passes, one without a gradient, both drop the same


@needed
@pytest.mark.parametrize("family", ["bert", "modernbert", "electra"])
def test_a_family_s_gradients_are_torch_s(family, monkeypatch):
    config = tiny.config(family).derive(**WIDE)
    batch = make_batch([np.arange(3, 3 + length) for length in (2, 5, 5, 40)])
    found = []
    for kernel in (OURS, None):
        monkeypatch.setattr(learned, "kernels", lambda kernel=kernel: kernel)
        encoder = tiny.randomise(build_encoder(config), 1).eval()
        encoder(batch).sequence.square().sum().backward()
        found.append({name: value.grad for name, value in encoder.named_parameters() if value.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        assert (found[0][name] - value).abs().max() <= 1e-4 * max(1.0, value.abs().max()), name
    assert any(not torch.equal(found[0][name], value) for name, value in found[1].items())


@needed
@pytest.mark.parametrize("family", sorted(families()))
def test_every_family_learns_the_same_in_bf16(family, monkeypatch):
    config = tiny.config(family).derive(**WIDE)
    batch = make_batch([np.arange(3, 3 + length) for length in (2, 5, 5, 40)])
    found = []
    for kernel in (OURS, None):
        monkeypatch.setattr(learned, "kernels", lambda kernel=kernel: kernel)
        encoder = tiny.randomise(build_encoder(config), 1).eval()
        with torch.autocast("cpu", torch.bfloat16):
            sequence = encoder(batch).sequence
        sequence.float().square().sum().backward()
        found.append(torch.cat([each.grad.flatten() for each in encoder.parameters() if each.grad is not None]))
    assert (found[0] - found[1]).norm() < 0.03 * found[1].norm()


@needed
def test_queries_of_another_type_than_values_are_left_to_torch():
    q, k, v = (torch.randn(6, 2, 32, requires_grad=True) for _ in range(3))
    plan = make_batch([range(3), range(3)]).plan
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attend(q, k, v.bfloat16(), plan)
    assert (mixed.float() - attend(q, k, v, plan)).abs().max() < 5e-2


@needed
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "deberta", "distilbert"])
def test_tokens_are_looked_up_as_by_torch(family):
    config = tiny.config(family).derive(embeddings__width=64, embeddings__dropout=0.0)
    plain = tiny.randomise(Embeddings(config.embeddings, config.width), 3).eval()
    packed = norm.PackedEmbeddings(plain, OURS)
    draw = torch.Generator().manual_seed(0)
    for count in (1, 3, 4, 29):
        tokens = torch.randint(config.embeddings.vocab_size, (count,), generator=draw)
        segments = torch.randint(max(1, config.embeddings.segments), (count,), generator=draw)
        given = tokens, torch.arange(count), segments
        with torch.inference_mode():
            assert torch.allclose(packed(*given), plain(*given), atol=1e-5)
            with torch.autocast("cpu", torch.bfloat16):
                assert packed(*given).dtype == torch.bfloat16
                assert torch.allclose(packed(*given).float(), plain(*given).float(), atol=5e-2)


@pytest.mark.parametrize("family", sorted(families()))
def test_an_encoder_is_the_reference_s_with_kernels_and_without(family, monkeypatch):
    """Heads as wide as those of published models, which our kernels take."""
    config = tiny.config(family).derive(**WIDE | {"width": 128})
    parts = Parts(tiny.randomise(build_encoder(config), 1).eval(), {}, {})
    draw = np.random.default_rng(0)
    batch = make_batch([draw.integers(3, config.embeddings.vocab_size, length) for length in (1, 4, 4, 19, 40)])
    ((_, wanted),) = ReferenceEngine(parts, "float32").run([batch], Output("hidden"))
    ((_, ours),) = PackedEngine(parts, "float32").run([batch], Output("hidden"))
    for module in (attention, int8, linear, pack):
        monkeypatch.setattr(module, "kernels", lambda: None)
    ((_, plain),) = PackedEngine(parts, "float32").run([batch], Output("hidden"))
    for found in (ours, plain):
        assert np.abs(found - wanted).max() < 2e-5 * np.abs(wanted).max()
    assert OURS is None or not np.array_equal(ours, plain)


@pytest.mark.skipif(not int8.can_int8(), reason="this torch has no product in int8 here")
@pytest.mark.parametrize("apart", [0, 4])
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_a_layer_in_int8_is_the_same_with_kernels_and_without(monkeypatch, apart, activation):
    draw = torch.Generator().manual_seed(0)
    weight, x, other = (torch.randn(*shape, generator=draw) for shape in ((32, 64), (20, 64), (20, 32)))
    bias = torch.randn(32, generator=draw)
    inputs = Inputs()
    inputs.add(x)
    found = rounded(inputs, weight, apart)
    layers = [Int8Linear(weight, bias, found, torch.float32, activation)]
    monkeypatch.setattr(int8, "kernels", lambda: None)
    layers.append(Int8Linear(weight, bias, found, torch.float32, activation))
    assert [layer.any_shape for layer in layers] == [OURS is not None and OURS.levels, False]
    exact = functional.linear(x, weight, bias)
    for layer in layers:
        assert (layer(x) - ACTIVATED[activation](exact)).abs().max() < 0.2
        assert (layer.plus(x, other) - exact - other).abs().max() < 0.2
    assert (layers[0](x) - layers[1](x)).abs().max() < (1e-4 if activation is None else 2e-4)


def test_biases_by_distance_are_those_of_every_length():
    table = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    place = torch.arange(5)
    whole = table[:, 4 + place - place[:, None]]
    assert torch.equal(by_distance({3: whole[:, :3, :3], 5: whole}), table)


@pytest.fixture
def looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels._found.cache_clear()
    yield tmp_path / "bothways"
    kernels._found.cache_clear()


@needed
def test_they_are_compiled_once(compiler, monkeypatch):
    looked_for = compiler()
    assert kernels.kernels() is not None
    (made,) = looked_for.iterdir()
    kernels._found.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert kernels.kernels() is not None
    assert list(looked_for.iterdir()) == [made]


COMPILER = """#!/bin/sh
case "$*" in *{unknown}*) echo "cc1: error: unrecognized option '{unknown}'" >&2; echo "cc1: sorry" >&2; exit 1;; esac
for last; do :; done
cp {library} "$last"
"""


@pytest.fixture
def compiler(looked_for, monkeypatch, tmp_path):
    """A compiler that makes what is there already, and may not know an option."""

    def made(unknown="-no-such-option"):
        path = tmp_path / "cc"
        path.write_text(COMPILER.format(unknown=unknown, library=OURS._library._name))
        path.chmod(0o700)
        monkeypatch.setenv("CC", str(path))
        return looked_for

    return made


@needed
@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_library_that_is_not_whole_is_compiled_again(compiler, kept):
    folder = compiler()
    assert kernels.kernels() is not None
    (made,) = folder.iterdir()
    whole = made.read_bytes()
    made.unlink()  # this process reads the old one on
    made.write_bytes(whole[:kept])
    kernels._found.cache_clear()
    assert kernels.kernels() is not None
    assert made.read_bytes() == whole


@needed
def test_an_option_that_the_compiler_does_not_know_costs_what_needs_it_alone(compiler, monkeypatch):
    features = {*kernels._features(), "avx512_bf16", "avx512_vnni"}
    monkeypatch.setattr(kernels, "_features", lambda: features)
    compiler("-mavx512f")
    assert kernels.describe_kernels() == "none: cc1: error: unrecognized option '-mavx512f'"
    for unknown, has in (("-mavx512bf16", (False, True)), ("-mavx512vnni", (False, False))):
        for made in compiler(unknown).glob("*"):
            made.unlink()
        kernels._found.cache_clear()
        found = kernels.kernels()
        assert found is not None
        assert (found.pairs, found.levels) == has


@needed
@pytest.mark.usefixtures("looked_for")
def test_numbers_are_rounded_where_bf16_has_no_instruction(monkeypatch):
    features = kernels._features() - {"avx512_bf16"}
    monkeypatch.setattr(kernels, "_features", lambda: features)
    plain = kernels.kernels()
    assert plain is not None
    assert not plain.pairs
    x = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    gain, bias = torch.rand(64) + 0.5, torch.randn(64)
    exact = functional.layer_norm(x.float(), (64,), gain, bias)
    found = plain.normed(x, gain, bias, 1e-5)
    assert (found == exact.bfloat16()).float().mean() > 0.999
    assert plain.normed(x * torch.nan, gain, bias, 1e-5).isnan().all()


@needed
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BOTHWAYS_KERNELS": "0"}, "switches them off"),
        ({"CC": "no-such-compiler"}, "no-such-compiler"),
        ({"CC": "false"}, "exit status 1"),
        ({"CC": "cc 'odd"}, "No closing quotation"),
        ({"XDG_CACHE_HOME": "/proc"}, "/proc"),
    ],
)
def test_without_them_the_reason_is_told(looked_for, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert kernels.kernels() is None
    assert said in kernels.describe_kernels()
    assert not list(looked_for.glob("*"))


@needed
def test_a_folder_that_others_may_write_to_is_not_trusted(looked_for):
    looked_for.mkdir()
    looked_for.chmod(0o777)
    assert kernels.kernels() is None
    assert "others may write" in kernels.describe_kernels()
