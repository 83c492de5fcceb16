"""Replaced-token detection: what is drawn, which tokens count as replaced, who learns from which loss."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.generator import generator_config, starting_generator, trained_parts
from bothways.learn.objectives.masking import ELECTRA, Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.protocol import Together
from bothways.learn.objectives.rtd import ReplacedTokens, Replacing, discriminator_of, generator_of, usual_rate
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.start import settled, starting_model, suited_objective
from bothways.learn.stream import split_items
from bothways.model.families import families, family
from bothways.model.heads import vocabulary_loss as module
from bothways.model.heads import vocabulary_rows
from bothways.model.heads.vocabulary_loss import Guesses, vocabulary_guesses, vocabulary_loss

SPECIAL, VOCABULARY, MASK = 5, 211, 4
MASKED = MaskedTokens(Masking(mask_id=MASK, ordinary=np.arange(SPECIAL, VOCABULARY), actions=ELECTRA, seed=7))
RTD = ReplacedTokens(MASKED, seed=7)
TOGETHER = Together([RTD], {"rtd": 50.0}, Replacing(MASKED))


def texts(count, shortest=1, longest=40, seed=0):
    """Sequences as a tokenizer makes them: special tokens at both ends."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(shortest, longest + 1, count)
    return [np.concatenate(([2], draw.integers(SPECIAL, VOCABULARY, n), [3])) for n in lengths]


def items(count, micro_tokens=10**9, **lengths):
    found = [(ids, np.zeros(len(ids), int)) for ids in texts(count, **lengths)]
    return split_items([(0, place) for place in range(count)], found, RTD.prepare, micro_tokens)


def pair(how="shared", name="electra", seed=1, **changes):
    """A discriminator and its generator, as a run begins with them but with larger weights; all trained modules."""
    config = tiny.config(name, dropout=0.0, attention__dropout=0.0, embeddings__dropout=0.0, **changes)
    how = how or family(name).generator.tables
    settings = ObjectiveSettings(objective="rtd", generator_tables=how)
    discriminator = starting_model(None, config, ("rtd",), tiny.tokenizer(), seed, "cpu")
    generator = starting_generator(discriminator, settings, None, 0.0)
    trained = nn.ModuleDict({"encoder": discriminator.encoder, **discriminator.heads, **trained_parts(generator)})
    return tiny.randomise(trained, seed)


# -- drawing tokens


def problem(vocabulary=37, width=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    hidden, table, bias = (
        torch.randn(shape, generator=draw) for shape in [(3, width), (vocabulary, width), (vocabulary,)]
    )
    return hidden, table, bias


def test_tokens_are_drawn_with_the_probabilities_of_the_softmax(monkeypatch):
    """Chi-squared of 3 times 200,000 draws against the exact probabilities."""
    monkeypatch.setattr(vocabulary_rows, "_CHUNK", 4096)
    hidden, table, bias = problem()
    count = 200_000
    uniform = torch.from_numpy(np.random.default_rng(1).random(3 * count, dtype=np.float32))
    labels = torch.zeros(3 * count, dtype=torch.int64)
    drawn = vocabulary_guesses(hidden.repeat_interleave(count, 0), table, bias, labels, uniform).drawn
    for row, shares in enumerate(torch.softmax(hidden @ table.T + bias, -1)):
        found = torch.bincount(drawn[row * count : (row + 1) * count], minlength=len(bias)).double()
        expected = shares.double() * count
        seen = expected > 5
        assert int(seen.sum()) > 10
        chi_squared = ((found - expected)[seen] ** 2 / expected[seen]).sum()
        assert chi_squared < 2.2 * int(seen.sum())  # beyond it once in some 10,000 times


def test_the_number_at_the_borders_decides_the_token():
    """Where tokens lie side by side, each as wide as its probability; none of probability 0 is drawn."""
    shares = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    bias = shares.log().clamp_min(-1e4)
    draws = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2**-24])
    zeros = torch.zeros(len(draws), dtype=torch.int64)
    drawn = vocabulary_guesses(torch.zeros(len(draws), 1), torch.zeros(6, 1), bias, zeros, draws).drawn
    assert drawn.tolist() == [1, 1, 3, 3, 4, 4]


@pytest.mark.parametrize("gradient", [True, False])
def test_drawing_changes_neither_loss_nor_gradient(gradient, monkeypatch):
    monkeypatch.setattr(vocabulary_rows, "_CHUNK", 64)
    hidden, table, bias = problem(301)
    hidden, labels, uniform = hidden.repeat(50, 1), torch.arange(150), torch.rand(150)
    given = [value.clone().requires_grad_(gradient) for value in (hidden, table, bias)]
    loss, hits, *_, drawn = vocabulary_guesses(*given, labels, uniform)
    plain, plain_hits = vocabulary_loss(*(again := [value.clone().requires_grad_(gradient) for value in given]), labels)
    assert torch.equal(loss, plain)
    assert torch.equal(hits, plain_hits)
    assert not drawn.requires_grad
    assert len(set(drawn.tolist())) > 30
    if gradient:
        for ours, expected in zip(torch.autograd.grad(loss, given), torch.autograd.grad(plain, again), strict=True):
            assert torch.equal(ours, expected)


def test_only_a_few_rows_are_ever_held_in_float32(monkeypatch):
    """Tokens are drawn from the rows that the loss is made of, not from a copy of all."""
    seen = []

    def watch(shares, draws):
        seen.append(tuple(shares.shape))
        return drawn(shares, draws)

    drawn = module._drawn
    monkeypatch.setattr(module, "_drawn", watch)
    hidden, table, bias = problem()
    vocabulary_guesses(hidden.repeat(40, 1), table, bias, torch.zeros(120, dtype=torch.int64), torch.rand(120))
    assert sum(rows for rows, _ in seen) == 120
    assert max(seen) == (vocabulary_rows._ROWS, 37) < (120, 37)


def test_nothing_masked_draws_nothing():
    hidden, table, bias = problem()
    none = torch.empty(0, dtype=torch.int64)
    loss, *_, drawn = vocabulary_guesses(hidden[:0], table, bias, none, torch.empty(0))
    assert loss == 0
    assert drawn.shape == (0,)


# -- what the discriminator sees


def test_of_the_masked_places_85_percent_are_masked_and_15_kept():
    (item,) = items(2000, shortest=200, longest=200)
    batch, targets = item
    now = batch.token_ids[targets["mlm.places"]]
    assert len(now) == 2000 * 30
    assert abs((now == MASK).mean() - 0.85) < 0.005
    assert ((now == MASK) | (now == targets["mlm.labels"])).all(), "none is random"


def test_settings_make_both_halves_alike():
    settings = ObjectiveSettings(objective="rtd", mask_rate=0.2, seed=3)
    (objective,), before = discriminator_of(settings, tiny.tokenizer()), generator_of(settings, tiny.tokenizer())
    masking = objective.masked.masking
    assert (masking.actions, masking.rate, masking.seed, objective.seed) == (ELECTRA, 0.2, 3, 3)
    assert ELECTRA == (0.85, 0.0, 0.15)
    assert objective.masked.decoder == before.masked.decoder == "plain"


def test_replaced_is_what_differs_and_nothing_else_was_touched():
    """A token that the generator guessed right counts as original."""
    model = pair()
    plain = make_batch(texts(60))
    batch, targets = RTD.prepare(plain, [(0, int(row)) for row in plain.rows], [], 0.0)
    losses, (rewritten, after) = TOGETHER.before.rewrite(model, (batch, targets))
    tokens, replaced, places = rewritten.token_ids.numpy(), after["rtd.replaced"].numpy(), targets["mlm.places"]
    original = plain.token_ids
    assert np.array_equal(replaced, tokens != original)
    outside = np.setdiff1d(np.arange(batch.tokens), places)
    assert np.array_equal(tokens[outside], original[outside])
    assert not replaced[outside].any()
    assert (batch.token_ids[places] == MASK).mean() > 0.6, "the generator's input is left as it is"
    assert set(losses) == {"mlm"}
    assert losses["mlm"].total.requires_grad
    assert tokens[places].tolist() != original[places].tolist()


def test_a_generator_that_is_always_right_replaces_nothing():
    class Right:
        def guesses(self, states, table, labels, draws):
            none = states.new_zeros(len(labels))
            return Guesses(states.sum(), none.sum(), none, none, labels.clone())

    model = dict(pair()) | {"generator_mlm": Right()}
    _, (_, after) = TOGETHER.before.rewrite(model, items(20)[0])
    assert not after["rtd.replaced"].any()


def test_what_is_drawn_depends_on_seed_epoch_and_example_alone():
    found = [(ids, np.zeros(len(ids), int)) for ids in texts(30)]
    keys = [(0, place) for place in range(30)]

    def drawn(keys, found, objective=RTD):
        """The numbers of each text."""
        by_text = {}
        for batch, targets in split_items(keys, found, objective.prepare, 200):
            ends = np.searchsorted(targets["mlm.places"], batch.starts)
            for row, (start, end) in enumerate(pairwise(ends)):
                text = tuple(targets["rtd.originals"][batch.starts[row] : batch.starts[row + 1]])
                by_text[text] = targets["rtd.draws"][start:end].tolist()
        return by_text

    first = drawn(keys, found)
    assert drawn(keys[::-1], found[::-1]) == first
    assert drawn(keys[:7], found[:7]).items() <= first.items()
    later = drawn([(1, place) for place in range(30)], found)
    other = drawn(keys, found, ReplacedTokens(MASKED, seed=8))
    for changed in (later, other):
        assert sum(changed[key] == value for key, value in first.items()) == 0
    everything = np.concatenate(list(first.values()))
    assert 0 <= everything.min() < 0.2 < 0.8 < everything.max() < 1


# -- losses and gradients


def step(model, found):
    """One step as the loop takes it: all totals first, then every item's gradient."""
    model.zero_grad()
    counts = [TOGETHER.counts(item) for item in found]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    sums = [TOGETHER.backward(model, item, totals) for item in found]
    values = {name: sum(value[name] for value in sums) for name in sums[0]}
    return totals, values, {name: value.grad for name, value in model.named_parameters()}


def reference(model, item):
    """The same from the paper's words: full logits, plain softmax, means over masked places and over all tokens."""
    batch, targets = item
    model.zero_grad()
    places, labels = (torch.from_numpy(targets[f"mlm.{what}"]) for what in ("places", "labels"))
    states = model["generator"](batch).sequence[places]
    logits = model["generator_mlm"](states, model["generator"].token_table)
    guessing = functional.cross_entropy(logits, labels)
    ends = torch.softmax(logits.detach().double(), -1).cumsum(-1)
    tokens = torch.from_numpy(targets["rtd.originals"]).clone()
    for place, row, number in zip(places.tolist(), ends, targets["rtd.draws"].tolist(), strict=True):
        tokens[place] = int((row <= number).sum())
    replaced = (tokens != torch.from_numpy(targets["rtd.originals"])).float()
    share = torch.sigmoid(model["rtd"](model["encoder"](batch.with_tokens(tokens))))
    spotting = -(replaced * share.log() + (1 - replaced) * (1 - share).log()).mean()
    (guessing + 50 * spotting).backward()
    return guessing.item(), spotting.item(), ((share > 0.5) == replaced.bool()).sum(), tokens


@pytest.mark.parametrize("how", ["shared", "disentangled", "own"])
def test_losses_and_gradients_are_those_of_a_plain_implementation(how, monkeypatch):
    monkeypatch.setattr(vocabulary_rows, "_CHUNK", 64)
    model = pair(how)
    (item,) = items(40)
    guessing, spotting, right, tokens = reference(model, item)
    expected = {name: value.grad.clone() for name, value in model.named_parameters()}
    counts, values, found = step(model, [item])
    assert counts == {"mlm": len(item[1]["mlm.places"]), "rtd": item[0].tokens}
    assert values["loss.mlm"] / counts["mlm"] == pytest.approx(guessing, rel=1e-5)
    assert values["loss.rtd"] / counts["rtd"] == pytest.approx(spotting, rel=1e-5)
    assert values["hits.rtd"] == right
    _, (rewritten, _) = TOGETHER.before.rewrite(model, item)
    assert torch.equal(rewritten.token_ids, tokens)
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() < 1e-4 * max(1, gradient.abs().max()), name


def test_accumulation_over_unequal_items_is_exact():
    model = pair()
    whole, parts = items(40), items(40, 150)
    assert len(parts) > 4
    totals, values, gradients = step(model, whole)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    other_totals, other_values, other_gradients = step(model, parts)
    assert other_totals == totals
    assert other_values == pytest.approx(values, rel=1e-4)
    for name, gradient in gradients.items():
        assert (other_gradients[name] - gradient).abs().max() < 1e-4 * max(1, gradient.abs().max()), name


def test_evaluating_gives_the_same_sums_twice_and_no_gradient():
    model = pair()
    (item,) = items(12)
    _, values, _ = step(model, [item])
    model.zero_grad()
    assert TOGETHER.evaluate(model, item) == pytest.approx(values, rel=1e-6)
    assert TOGETHER.evaluate(model, item) == TOGETHER.evaluate(model, item)
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("how", ["shared", "disentangled", "own"])
def test_who_learns_from_which_loss(how):
    """The discriminator's loss reaches the generator through shared tables alone; the generator's never reaches it."""
    model = pair(how)
    (item,) = items(40)
    losses, changed = TOGETHER.before.rewrite(model, item)
    losses["mlm"].total.backward()
    learning = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    shared = {name for name, value in model["encoder"].embeddings.named_parameters() if how == "shared"}
    assert {name.split(".")[0] for name in learning} <= {"generator", "generator_mlm", "encoder"}
    assert {name for name in learning if name.startswith("encoder.")} <= {
        f"encoder.embeddings.{name}" for name in shared
    }
    assert "generator_mlm.bias" in learning
    model.zero_grad()
    rest = Together([RTD])
    rest.backward(model, changed, {"rtd": item[0].tokens})
    reached = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert not {name for name in reached if name.startswith("generator")}
    table = "encoder.embeddings.tokens." + ("own.weight" if how == "disentangled" else "weight")
    assert table in reached
    if how == "shared":
        assert model["generator"].embeddings.tokens.weight.grad is not None


@pytest.mark.parametrize(("name", "how"), [("electra", "shared"), ("deberta-v2", "disentangled"), ("bert", "own")])
def test_every_parameter_learns(name, how):
    model = pair(how, name)
    _, _, gradients = step(model, items(60))
    for key, gradient in gradients.items():
        # position tables of longer texts and segments that do not occur learn nothing, but are there
        assert gradient is not None, key
        assert gradient.abs().max() > 0 or key.endswith("key.bias"), key


@pytest.mark.parametrize("name", families())
def test_every_family_can_have_a_generator(name):
    model = pair(None, name)
    totals, values, _ = step(model, items(12))
    assert all(np.isfinite(value) for value in values.values())
    assert totals["rtd"] > totals["mlm"] > 0


# -- generators


@pytest.mark.parametrize(
    ("name", "size", "share", "expected"),
    [
        ("electra", "small", None, (12, 256, 4, 1024)),  # the published one is as large
        ("electra", "base", None, (12, 256, 4, 1024)),
        ("electra", "large", None, (24, 256, 4, 1024)),
        ("electra", "base", 0.5, (12, 384, 6, 1536)),
        ("bert", "base", None, (12, 192, 3, 768)),
        ("bert", "tiny", None, (2, 32, 1, 128)),
        ("deberta-v2", "v3-base", None, (6, 768, 12, 3072)),
        ("deberta-v2", "v3-base", 0.5, (12, 384, 6, 1536)),
        ("modernbert", "base", 0.25, (22, 192, 3, 288)),
    ],
)
def test_a_generator_is_narrower_and_has_tables_that_can_be_shared(name, size, share, expected):
    config = family(name).size(size)
    made = generator_config(config, share)
    assert (made.layers, made.width, made.attention.heads, made.feed_forward.width) == expected
    assert made.width % made.attention.heads == 0
    assert made.embeddings == config.embeddings
    assert made.pooler is None


def test_electras_published_generators_come_out():
    members = family("electra")
    for size in ("base", "large"):
        made = generator_config(members.size(size))
        assert made.derive(init_std=0.02) == members.size(f"{size}-generator")


def test_wide_discriminators_are_masked_more():
    for size, rate in (("base", 0.15), ("large", 0.25)):
        config = family("electra").size(size)
        assert usual_rate(config) == rate
        learned, _ = settled(ObjectiveSettings(objective="rtd"), config, None)
        assert learned.mask_rate == rate
        assert learned.generator_tables == "shared"
        asked, _ = settled(ObjectiveSettings(objective="rtd", mask_rate=0.3), config, None)
        assert asked.mask_rate == 0.3
    assert suited_objective("electra") == suited_objective("deberta-v2") == "rtd"


def beginnings(how, name="deberta-v2", base=None, **settings):
    """A discriminator and its generator as a run begins with them, and what the discriminator said before."""
    start = tiny.model(["rtd"], name=name, **settings) if base is None else bw.load(base)
    config = start.config.derive(dropout=0.0)
    discriminator = starting_model(start, config, ("rtd",), start.tokenizer, 0, "cpu")
    said = {name: value.clone() for name, value in discriminator.encoder.state_dict().items()}
    learned, _ = settled(ObjectiveSettings(objective="rtd", generator_tables=how), config, start)
    return starting_generator(discriminator, learned, base, None), discriminator, said


@pytest.mark.parametrize("how", ["shared", "disentangled", "own"])
def test_a_discriminator_that_is_continued_says_what_it_did(how):
    generator, discriminator, before = beginnings(how)
    assert torch.equal(discriminator.encoder.token_table, before["embeddings.tokens.weight"])
    table = generator.encoder.token_table
    assert torch.equal(table, before["embeddings.tokens.weight"]) == (how != "own"), "and the generator begins with it"
    assert (table is discriminator.encoder.token_table) == (how == "shared")
    blocks = (generator.encoder.stack.blocks[0], discriminator.encoder.stack.blocks[0])
    assert not torch.equal(*(block.attention.query.weight for block in blocks)), "but else with random weights"


def test_a_fresh_generator_is_not_its_discriminators_twin():
    """Although both are drawn from the run's seed."""
    model = nn.ModuleDict(dict(pair("disentangled", "deberta-v2")))
    config = model["encoder"].config
    assert model["generator"].config.width == config.width
    discriminator = starting_model(None, config, ("rtd",), tiny.tokenizer(), 0, "cpu")
    as_large = ObjectiveSettings(objective="rtd", generator_size=1.0)
    generator = starting_generator(discriminator, as_large, None, None)
    for name, value in generator.encoder.stack.named_parameters():
        other = discriminator.encoder.stack.get_parameter(name)
        assert value.ndim < 2 or not torch.equal(value, other), name


# -- refusals


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "mlm+rtd"}, "the generator of rtd learns mlm already; leave mlm out"),
        ({"objective": "mlm", "generator_size": 0.5}, "generator_size is about the generator of the objective rtd"),
        ({"objective": "mlm", "generator_tables": "own"}, "generator_tables is about the generator"),
        ({"objective": "mlm", "keep_generator": True}, "keep_generator is about the generator"),
        ({"objective": "rtd", "loss_weights": {"rdt": 2}}, "there is no loss 'rdt' to weigh.*; there are mlm, rtd"),
        ({"objective": "rtd", "generator_size": 1.5}, "generator_size must be above 0, at most 1, not 1.5"),
        ({"objective": "nsp", "mask_decoder": "enhanced"}, "mask_decoder is about masked tokens"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(settings, said, tmp_path):
    text = [" ".join(tiny.sentences(40, seed=place)) for place in range(20)]
    with pytest.raises(BothwaysError, match=said):
        bw.pretrain(text, tokenizer=tiny.tokenizer(), out=tmp_path / "run", steps=1, max_length=16, **settings)
    assert not (tmp_path / "run" / "model").exists()
