"""A model at work: each verb against the same thing computed by hand."""

import numpy as np
import pytest
import torch

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.config import HeadConfig
from bothways.run import model as module
from bothways.run.chosen import packed_for
from bothways.run.engines import reference
from bothways.run.engines.packed.int16 import can_int16
from bothways.run.model import Model
from bothways.run.pooling import POOLINGS, pool
from bothways.run.sentence_folder import SentenceRecipe

TEXTS = tiny.sentences(64, seed=1)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@torch.no_grad()
def alone(model, text, pair=None):
    """One text through the encoder, without any of the machinery."""
    encoded = model.tokenizer.encode([text], None if pair is None else [pair])
    return encoded, model.encoder.eval()(make_batch([encoded.token_ids], [encoded.segment_ids]))


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# -- results do not depend on what else is in the batch


def test_packed_equals_one_by_one(model):
    for text, states in zip(TEXTS, model.hidden(TEXTS), strict=True):
        _, output = alone(model, text)
        expected = output.sequence.numpy()
        assert np.abs(states - expected).max() / np.abs(expected).max() < 1e-5
        vector = expected.mean(0) / np.linalg.norm(expected.mean(0))
        assert np.abs(model.embed(text, normalize=True) - vector).max() < 1e-6


def test_each_layer_is_that_of_the_encoder(model):
    """By every way of asking; texts of many lengths, which a batch has in another order."""
    count = model.config.layers
    every = model.hidden(TEXTS, layers=range(count + 1))
    for text, states in zip(TEXTS, every, strict=True):
        batch = make_batch([model.tokenizer.encode([text]).token_ids])
        with torch.inference_mode():
            expected = torch.stack(model.encoder.eval()(batch, hidden=True).hidden).numpy()
        assert states.shape == expected.shape
        assert np.abs(states - expected).max() / np.abs(expected).max() < 1e-5
    for one, states, last in zip(model.hidden(TEXTS, layers=1), every, model.hidden(TEXTS), strict=True):
        assert np.abs(one - states[1]).max() / np.abs(one).max() < 1e-5
        assert np.abs(last - states[-1]).max() / np.abs(last).max() < 1e-5
    assert np.allclose(model.hidden(TEXTS[0], layers=[-1, 0]), every[0][[count, 0]], atol=1e-5)
    for wrong in (count + 1, -count - 2, [0, 99], [], True, 1.5, ["first"]):
        with pytest.raises(BothwaysError, match=r"no layer|layers is empty"):
            model.hidden(TEXTS, layers=wrong)


def test_the_order_of_texts_does_not_matter(model):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = [TEXTS[place] for place in order]
    vectors = model.embed(TEXTS, normalize=True)
    assert np.abs(model.embed(shuffled, normalize=True) - vectors[order]).max() < 1e-6
    shares = model.class_probabilities(TEXTS)
    assert np.abs(model.class_probabilities(shuffled) - shares[order]).max() < 1e-6
    for place, states in zip(order, model.hidden(shuffled), strict=True):
        expected = model.hidden(TEXTS[place])
        assert np.abs(states - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("budget", [1, 100, 4096])
def test_batches_of_any_size_agree(model, size, budget, monkeypatch):
    """Texts given together, and batches filled together."""
    expected = model.embed(TEXTS, normalize=True)
    states = model.hidden(TEXTS)
    monkeypatch.setattr(reference.ReferenceEngine, "batch_tokens", budget)
    parts = [TEXTS[a : a + size] for a in range(0, len(TEXTS), size)]
    found = np.concatenate([model.embed(part, normalize=True) for part in parts])
    assert np.abs(found - expected).max() < 1e-6
    for ours, theirs in zip([x for part in parts for x in model.hidden(part)], states, strict=True):
        assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5


def test_bf16_stays_close_to_float32(model):
    """Rounding to 8 bits in every layer: vectors within 1e-3 in cosine, probabilities within 0.03."""
    rounded = tiny.model(precision="bf16")
    assert rounded.precision == "bf16"
    assert cosines(rounded.embed(TEXTS), model.embed(TEXTS)).min() > 0.999
    assert not np.array_equal(rounded.embed(TEXTS), model.embed(TEXTS))
    assert np.abs(rounded.class_probabilities(TEXTS) - model.class_probabilities(TEXTS)).max() < 0.03
    assert rounded.embed(TEXTS).dtype == np.float32


def test_asking_leaves_the_model_and_torch_as_they_were(model):
    model.encoder.train()
    torch.manual_seed(0)
    first = model.embed("the river")
    assert np.array_equal(first, model.embed("the river")), "no dropout in answers"
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_a_failure_in_the_middle_leaves_torch_as_it_was(model, monkeypatch):
    monkeypatch.setattr("bothways.run.engines.outputs.sentence_vectors", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as kept:
        model.embed("the river")
    assert not torch.is_inference_mode_enabled()
    assert kept.value is not None


# -- fill_mask


def test_one_mask_is_filled_with_the_likeliest_tokens(model):
    text = "the old [MASK] by the river"
    encoded, output = alone(model, text)
    place = encoded.token_ids.tolist().index(model.tokenizer.mask_id)
    with torch.no_grad():
        full = model.heads["mlm"](output.sequence, model.encoder.token_table)
    shares = full.softmax(-1)[place]
    fills = model.fill_mask(text, top=7)
    assert [fill.token for fill in fills] == [model.tokenizer.tokens[k] for k in shares.topk(7).indices]
    assert np.allclose([fill.probability for fill in fills], shares.topk(7).values, atol=1e-6)
    for fill in fills:
        glued = fill.token.removeprefix("##")
        assert fill.text == text.replace(" [MASK]" if fill.token != glued else "[MASK]", glued)


@torch.no_grad()
def test_the_masked_head_equals_the_full_head_at_masked_positions(model):
    _, output = alone(model, "the old town and the garden in summer")
    head, table = model.heads["mlm"], model.encoder.token_table
    places = torch.tensor([1, 4, 5])
    assert (head(output.sequence[places], table) - head(output.sequence, table)[places]).abs().max() < 1e-5


def test_several_masks_and_several_texts_keep_their_order(model):
    texts = ["[MASK] river [MASK] [MASK]", "a [MASK]", "the [MASK] of [MASK]"]
    answers = model.fill_mask(texts, top=3)
    assert [len(answers[0]), len(answers[1]), len(answers[2])] == [3, 3, 2]
    for single, together in zip(model.fill_mask(texts[0], top=3), answers[0], strict=True):
        assert [fill.text for fill in single] == [fill.text for fill in together]
    assert answers[1][0].text in (f"a {answers[1][0].token}", f"a{answers[1][0].token[2:]}")
    second = answers[0][1][0]
    assert second.text.startswith("[MASK] river")
    assert second.text.endswith("[MASK]")
    assert second.text.count("[MASK]") == 2
    encoded, output = alone(model, texts[2])
    for which, place in enumerate(np.flatnonzero(encoded.token_ids == model.tokenizer.mask_id)):
        with torch.no_grad():
            logits = model.heads["mlm"](output.sequence[place : place + 1], model.encoder.token_table)
        assert answers[2][which][0].token == model.tokenizer.tokens[logits.argmax()]


def test_top_is_at_most_the_vocabulary(model):
    assert len(model.fill_mask("[MASK]", top=10**6)) == model.tokenizer.size
    with pytest.raises(BothwaysError, match="top cannot be 0"):
        model.fill_mask("[MASK]", top=0)


def test_rows_of_the_table_without_a_token_are_never_answers():
    """Tables are often padded to a round number of rows."""
    wide = tiny.model(("mlm",), embeddings__vocab_size=tiny.tokenizer().size + 40)
    with torch.no_grad():
        wide.heads["mlm"].bias[-40:] = 100.0
    fills = wide.fill_mask("the [MASK]", top=3)
    assert all(fill.token for fill in fills)
    assert sum(fill.probability for fill in fills) < 1e-6, "the probability is over the whole table"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no gap", r"the text has no \[MASK\] to fill in; write \[MASK\] where a word is missing"),
        (["a [MASK]", "no gap"], r"text 2 has no \[MASK\]"),
        ("[MASK] " + "the " * 600, "has 601 tokens where 510 fit beside the special tokens"),
    ],
)
def test_a_text_without_a_mask_or_too_long_is_one_sentence(model, text, message):
    with pytest.raises(BothwaysError, match=message):
        model.fill_mask(text)


# -- classify, follows


def test_classify_is_softmax_of_the_heads_logits(model):
    answers = model.classify(TEXTS[:5])
    for text, answer in zip(TEXTS, answers, strict=False):
        _, output = alone(model, text)
        with torch.no_grad():
            shares = model.heads["classify"].eval()(output).softmax(-1)[0].numpy()
        assert list(answer.probabilities) == list(tiny.LABELS)
        assert np.allclose(list(answer.probabilities.values()), shares, atol=1e-6)
        assert answer.label == tiny.LABELS[shares.argmax()]
        assert answer.probability == max(answer.probabilities.values())
    assert model.classify(TEXTS[0]).label == answers[0].label


@torch.no_grad()
def test_the_two_layer_head_is_linear_gelu_linear():
    """And drops values before both layers, in training only."""
    head = tiny.saved(("classify",), hidden="gelu").heads["classify"]
    pooled = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    inner = pooled @ head.hidden.weight.T + head.hidden.bias
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    expected = inner @ head.output.weight.T + head.output.bias
    assert (head.scores(pooled) - expected).abs().max() < 1e-6
    assert not torch.allclose(head.train().scores(pooled), expected)


def test_pairs_are_classified_as_pairs(model):
    both = model.class_probabilities(TEXTS[:3], TEXTS[3:6])
    _, output = alone(model, TEXTS[1], TEXTS[4])
    with torch.no_grad():
        expected = model.heads["classify"](output).softmax(-1)[0].numpy()
    assert np.allclose(both[1], expected, atol=1e-6)
    assert model.classify(TEXTS[1], TEXTS[4]).probability == pytest.approx(expected.max(), abs=1e-6)
    with pytest.raises(BothwaysError, match="3 texts and 2 second texts do not make pairs"):
        model.classify(TEXTS[:3], TEXTS[:2])


def test_follows_is_the_first_class_of_the_head(model):
    shares = model.follows(TEXTS[:4], TEXTS[4:8])
    assert shares.shape == (4,)
    assert shares.dtype == np.float32
    for a, b, share in zip(TEXTS[:4], TEXTS[4:8], shares, strict=True):
        _, output = alone(model, a, b)
        with torch.no_grad():
            expected = model.heads["nsp"](output).softmax(-1)[0, 0].item()
        assert share == pytest.approx(expected, abs=1e-6)
        single = model.follows(a, b)
        assert isinstance(single, float)
        assert single == pytest.approx(expected, abs=1e-6)


# -- hidden, embed, attentions


def _by_attention(x):
    scores = x @ x[0] / np.sqrt(x.shape[1])
    return np.exp(scores) / np.exp(scores).sum() @ x


BY_HAND = {
    "mean": lambda x: x.mean(0),
    "cls": lambda x: x[0],
    "max": lambda x: x.max(0),
    "mean_sqrt": lambda x: x.sum(0) / np.sqrt(len(x)),
    "last": lambda x: x[-1],
    "weighted_mean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
    "attention": _by_attention,
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_embed_pools_what_hidden_gives(model, pooling):
    by_hand = BY_HAND[pooling]
    vectors = model.embed(TEXTS, pooling)
    assert vectors.shape == (64, 48)
    assert vectors.dtype == np.float32
    for vector, states in zip(vectors, model.hidden(TEXTS), strict=True):
        assert np.abs(vector - by_hand(states)).max() < 1e-5
    assert model.embed(TEXTS[3], pooling).shape == (48,)
    with pytest.raises(BothwaysError, match=r"there is no pooling 'means'.*did you mean 'mean'"):
        model.embed(TEXTS, "means")


def test_a_stated_recipe_is_followed_unless_told_otherwise():
    stated = tiny.model((), recipe=SentenceRecipe("cls", True, stated=True))
    vectors = stated.embed(TEXTS[:3])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    raw = stated.embed(TEXTS[:3], normalize=False)
    assert np.allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), vectors, atol=1e-6)
    assert np.allclose(raw, [states[0] for states in stated.hidden(TEXTS[:3])], atol=1e-6)
    assert np.allclose(stated.embed(TEXTS[:3], "mean", normalize=False), tiny.model(()).embed(TEXTS[:3]))


def test_attentions_belong_to_the_tokens(model):
    tokens, weights = model.attentions("the old river", "a stone")
    assert tokens == ["[CLS]", "the", "old", "river", "[SEP]", "a", "stone", "[SEP]"]
    assert weights.shape == (3, 4, 8, 8)
    assert np.allclose(weights.sum(-1), 1, atol=1e-6)


def test_empty_lists_give_empty_answers(model):
    assert model.fill_mask([]) == []
    assert model.classify([]) == []
    assert model.class_probabilities([]).shape == (0, 3)
    assert model.follows([], []).shape == (0,)
    assert model.hidden([]) == []
    assert model.embed([]).shape == (0, 48)


def test_an_empty_text_is_a_text(model):
    assert model.hidden("").shape == (2, 48)
    assert np.isfinite(model.embed("")).all()


def test_iterators_serve_as_lists(model):
    assert [x.shape for x in model.hidden(iter(TEXTS[:3]))] == [x.shape for x in model.hidden(TEXTS[:3])]
    assert np.array_equal(list(model.embed(text for text in TEXTS[:3])), model.embed(TEXTS[:3]))
    assert model.fill_mask(text for text in ["a [MASK]"]) == model.fill_mask(["a [MASK]"])


@pytest.mark.parametrize("precision", ["float32", "int16"])
def test_a_warm_model_makes_nothing_at_its_first_question(precision, monkeypatch):
    if precision == "int16" and not can_int16():
        pytest.skip("this processor has no int16")
    model, made = Model(tiny.saved(), precision=precision, engine="packed"), []
    monkeypatch.setattr("bothways.run.model.packed_for", lambda one: made.append(one) or packed_for(one))
    assert model.warm_up() is model
    assert made == [model]
    assert model.truncated.all_texts == 0
    model.embed(TEXTS)
    model.fill_mask("a [MASK]")
    assert made == [model]


def test_a_model_of_short_texts_is_warmed_by_one():
    model = tiny.model((), embeddings__positions=8, max_length=8)
    assert model.warm_up().embed("the river").shape == (48,)


# -- long texts


def test_windows_of_a_long_text_are_averaged_by_their_tokens():
    model = tiny.model(("classify",), truncation="window", embeddings__positions=16, max_length=16)
    texts = ["the river", " ".join(tiny.sentences(9, seed=4)), "an old stone bridge"]
    encoded = model.tokenizer.encode(texts, max_length=16, truncation="window")
    long = np.flatnonzero(encoded.texts == 1)
    assert len(long) > 3
    with torch.no_grad():
        outputs = [model.encoder(make_batch([encoded.sequence(place)])) for place in long]
        shares = np.stack([model.heads["classify"](out).softmax(-1)[0].numpy() for out in outputs])
    weights = encoded.lengths[long] / encoded.lengths[long].sum()
    found = model.class_probabilities(texts)
    assert found.shape == (3, 3)
    assert np.allclose(found[1], weights @ shares, atol=1e-6)
    assert np.allclose(found[[0, 2]], model.class_probabilities([texts[0], texts[2]]), atol=1e-6)
    vectors = np.stack([out.sequence.numpy().mean(0) for out in outputs])
    assert np.allclose(model.embed(texts)[1], weights @ vectors, atol=1e-5)
    states = model.hidden(texts)
    assert [len(rows) for rows in states] == [4, encoded.lengths[long].sum(), 6]
    assert np.allclose(states[1], np.concatenate([out.sequence.numpy() for out in outputs]), atol=1e-5)
    assert np.allclose(states[2], model.hidden(texts[2]), atol=1e-5)


def test_cut_texts_are_reported_and_counted():
    model = tiny.model((), embeddings__positions=8)
    assert model.max_length == 8
    with pytest.warns(BothwaysWarning, match="1 of 2 texts are longer than 8 tokens and were cut"):
        model.embed(["the " * 10, "the"])
    assert (model.truncated.texts, model.truncated.tokens) == (1, 4)
    with pytest.raises(BothwaysError, match="has 10 tokens where 6 fit"):
        tiny.model((), embeddings__positions=8, truncation="error").embed("the " * 10)


def test_a_shorter_limit_may_be_set_and_is_saved(tmp_path):
    model = tiny.model((), truncation="head")
    model.max_length = 6
    assert model.hidden("the " * 10).shape == (6, 48)
    model.save(tmp_path / "model")
    loaded = module.load(tmp_path / "model")
    assert (loaded.max_length, loaded.truncation) == (6, "head")
    assert module.load(tmp_path / "model", truncation="window").truncation == "window"
    with pytest.raises(BothwaysError, match="max_length is 513, but tiny takes at most 512 tokens"):
        model.max_length = 513
    model.max_length = None
    assert model.max_length == 512


# -- the model itself


def test_an_absent_head_names_the_heads_there_are():
    with pytest.raises(
        BothwaysError, match=r"fill_mask needs the head 'mlm', which tiny does not have .its heads: nsp, classify"
    ):
        tiny.model(("nsp", "classify")).fill_mask("[MASK]")
    with pytest.raises(BothwaysError, match=r"classify needs the head 'classify', .*\(it has no heads\)"):
        tiny.model(()).classify("the river")
    with pytest.raises(BothwaysError, match=r"follows needs the head 'nsp', .*\(its heads: mlm\)"):
        tiny.model(("mlm",)).follows("a", "b")


def test_a_model_without_a_tokenizer_says_so():
    saved = tiny.saved(())
    saved.tokenizer = None
    with pytest.raises(BothwaysError, match="came without a tokenizer"):
        module.Model(saved, device="cpu").embed("the river")


def test_a_device_that_is_not_there_is_one_sentence():
    with pytest.raises(BothwaysError, match=r"the device 'cudda' cannot be used .*'cpu' always can"):
        module.Model(tiny.saved(()), device="cudda")


def test_a_copy_is_independent(model):
    copy = tiny.model(truncation="head").copy()
    assert copy.truncation == "head"
    before = model.embed("the river")
    original = tiny.model()
    copied = original.copy()
    with torch.no_grad():
        copied.encoder.token_table.zero_()
    assert np.array_equal(original.embed("the river"), before)


def test_saving_and_loading_gives_the_same_answers(model, tmp_path):
    model.save(tmp_path / "model")
    again = module.load(tmp_path / "model", device="cpu")
    assert again.labels == model.labels == tiny.LABELS
    assert again.parameters == model.parameters
    assert np.array_equal(again.embed(TEXTS), model.embed(TEXTS))
    assert again.classify(TEXTS) == model.classify(TEXTS)
    assert again.fill_mask("the [MASK]") == model.fill_mask("the [MASK]")
    assert np.array_equal(again.follows(TEXTS[:2], TEXTS[2:4]), model.follows(TEXTS[:2], TEXTS[2:4]))
    with pytest.raises(BothwaysError, match="exists already"):
        model.save(tmp_path / "model")


def test_a_random_model_has_a_pooler_where_something_reads_it():
    """One that nothing reads would never learn, and others would find it unexpected."""
    mlm, nsp = HeadConfig(kind="mlm"), HeadConfig(kind="nsp")
    for heads, pooler in (([], True), ([mlm], False), ([nsp], True), ([mlm, nsp], True)):
        model = module.Model.random(tiny.config(), None, heads, seed=4, device="cpu")
        assert (model.encoder.pooler is not None) is pooler
        assert (model.config.pooler is not None) is pooler
        again = module.Model.random(tiny.config(), None, heads, seed=4, device="cpu")
        assert torch.equal(model.encoder.token_table, again.encoder.token_table)
    other = module.Model.random(tiny.config(), None, [mlm], seed=5, device="cpu")
    assert not torch.equal(model.encoder.token_table, other.encoder.token_table)


def test_parameters_shared_between_parts_count_once():
    """The table of the masked-token head is the encoder's."""
    model = tiny.model(("mlm",))
    width, rows = 48, model.tokenizer.size
    encoder = sum(value.numel() for value in model.encoder.parameters())
    assert model.parameters == encoder + width * width + width + 2 * width + rows


def test_pooling_by_hand():
    hidden = np.array([[1, 4], [3, 2], [5, 0], [7, 7]], dtype=np.float32)
    starts = np.array([0, 3, 4])
    assert pool(hidden, starts, "mean").tolist() == [[3, 2], [7, 7]]
    assert pool(hidden, starts, "cls").tolist() == [[1, 4], [7, 7]]
    assert pool(hidden, starts, "max").tolist() == [[5, 4], [7, 7]]
    assert pool(hidden, starts, "last").tolist() == [[5, 0], [7, 7]]
    assert np.allclose(pool(hidden, starts, "weighted_mean"), [[22 / 6, 8 / 6], [7, 7]])
    assert np.allclose(pool(hidden, starts, "mean_sqrt"), [[9 / 3**0.5, 6 / 3**0.5], [7, 7]])
    weights = np.exp(np.array([17, 11, 5]) / 2**0.5)
    assert np.allclose(pool(hidden, starts, "attention")[0], weights / weights.sum() @ hidden[:3])
    assert pool(hidden, starts, "max+cls").tolist() == [[5, 4, 1, 4], [7, 7, 7, 7]]
