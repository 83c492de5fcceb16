"""What a student learns from its teacher: every loss equals a plain one, forward and backward."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.objectives.distil import products
from bothways.learn.objectives.distil.layers import Scores, States, layer_to_layer
from bothways.learn.objectives.distil.products import relation_loss, score_loss
from bothways.learn.objectives.distil.relations import Relations, relation_heads
from bothways.learn.objectives.distil.shared import Projections
from bothways.learn.objectives.distil.soft import Cosine, SoftTargets
from bothways.learn.objectives.distil.teacher import RunningTeacher
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.protocol import Forward, Together
from bothways.model.families import families
from bothways.model.heads import vocabulary_rows
from bothways.model.heads.enhanced_mask_decoder import decode
from bothways.model.heads.soft_vocabulary_loss import soft_vocabulary_loss
from bothways.model.heads.vocabulary_rows import Logits

VOCABULARY = 211
LENGTHS = (3, 9, 9, 4, 9, 17)

# -- soft targets over the vocabulary


def problem(count, width=24, teacher_width=17, vocabulary=301):
    draw = torch.Generator().manual_seed(count)
    shapes = [(count, width), (vocabulary, width), (vocabulary,)]
    taught = [(count, teacher_width), (vocabulary, teacher_width), (vocabulary,)]
    made = [[torch.randn(shape, generator=draw) for shape in some] for some in (shapes, taught)]
    return Logits(*made[0]), Logits(*made[1])


def chunked(student, teacher, temperature, scale=1.7):
    inputs = [x.clone().requires_grad_() for x in student]
    loss, hits = soft_vocabulary_loss(Logits(*inputs), teacher, temperature)
    return loss.detach(), hits, torch.autograd.grad(loss * scale, inputs)


def plain(student, teacher, temperature, scale=1.7):
    """The definition, by torch's own functions."""
    inputs = [x.clone().requires_grad_() for x in student]
    ours, theirs = functional.linear(*inputs), functional.linear(*teacher)
    shares = (theirs / temperature).softmax(-1)
    logs = (ours / temperature).log_softmax(-1)
    loss = functional.kl_div(logs, shares, reduction="sum") * temperature**2
    hits = (ours.argmax(-1) == theirs.argmax(-1)).sum()
    return loss.detach(), hits, torch.autograd.grad(loss * scale, inputs)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.7])
@pytest.mark.parametrize("count", [0, 1, 33, 200])
def test_soft_targets_are_the_divergence(count, temperature, monkeypatch):
    """Forward and backward, also where positions come in several chunks."""
    monkeypatch.setattr(vocabulary_rows, "_CHUNK", 64)
    given = problem(count)
    loss, hits, gradients = chunked(*given, temperature)
    expected, expected_hits, wanted = plain(*given, temperature)
    assert loss.dtype == hits.dtype == torch.float32
    assert torch.allclose(loss, expected, rtol=1e-5, atol=1e-5)
    assert int(hits) == int(expected_hits)
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * max(1, theirs.abs().sum().item() ** 0.5))


def test_soft_targets_in_bf16_stay_close():
    """The loss by 1 %, gradients in direction by 1e-3 and of the parameters' own type."""
    given = problem(300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _, gradients = chunked(*given, 2.0)
    expected, _, wanted = plain(*given, 2.0)
    assert loss.dtype == torch.float32
    assert abs(loss / expected - 1) < 0.01
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_who_guesses_as_the_teacher_does_has_nothing_to_learn():
    student, _ = problem(50)
    loss, hits, gradients = chunked(student, student, 2.0)
    assert abs(loss) < 1e-3
    assert hits == 50
    assert all(gradient.abs().max() < 1e-3 for gradient in gradients)


# -- products of all pairs


def projected(lengths, heads, width, seed, count=1):
    draw = torch.Generator().manual_seed(seed)
    made = [torch.randn((sum(lengths), heads, width), generator=draw) for _ in range(count)]
    return made[0] if count == 1 else made


def one_by_one(a, b, starts, heads):
    """The scores of each sequence, by a loop over sequences and heads."""
    return [
        [a[i:j, head] @ b[i:j, head].T / a.shape[-1] ** 0.5 for head in range(heads)]
        for i, j in itertools.pairwise(starts.tolist())
    ]


def batch_of(lengths, vocabulary=VOCABULARY, seed=0):
    draw = np.random.default_rng(seed)
    return make_batch([draw.integers(5, vocabulary, length) for length in lengths])


@pytest.mark.parametrize("most", [1, 400, 2**22])
def test_relations_are_softmaxes_of_products_and_their_divergence(most, monkeypatch):
    """Heads of other widths than the teacher's; forward and backward; a few sequences at a time or all."""
    monkeypatch.setattr(products, "_MOST_PAIRS", most)
    batch = batch_of(LENGTHS)
    ours, theirs = projected(LENGTHS, 2, 6, 0), projected(LENGTHS, 2, 10, 1)
    ours.requires_grad_()
    loss = relation_loss(ours, theirs, batch.plan)
    (gradient,) = torch.autograd.grad(3 * loss, ours)
    expected = torch.zeros(())
    pairs = zip(one_by_one(ours, ours, batch.starts, 2), one_by_one(theirs, theirs, batch.starts, 2), strict=True)
    for mine, taught in pairs:
        for scores, aims in zip(mine, taught, strict=True):
            expected = expected + functional.kl_div(scores.log_softmax(-1), aims.softmax(-1), reduction="sum")
    (wanted,) = torch.autograd.grad(3 * expected, ours)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_scores_are_compared_before_their_softmax():
    batch = batch_of(LENGTHS)
    ours, theirs = projected(LENGTHS, 3, 4, 0, 2), projected(LENGTHS, 3, 8, 1, 2)
    for x in ours:
        x.requires_grad_()
    loss = score_loss(tuple(ours), tuple(theirs), batch.plan)
    gradients = torch.autograd.grad(loss, ours)
    mine, taught = one_by_one(*ours, batch.starts, 3), one_by_one(*theirs, batch.starts, 3)
    expected = sum(((s - t) ** 2).sum() for a, b in zip(mine, taught, strict=True) for s, t in zip(a, b, strict=True))
    wanted = torch.autograd.grad(expected, ours)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for gradient, other in zip(gradients, wanted, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-4, atol=1e-4)


def test_products_in_bf16_stay_close():
    batch = batch_of(LENGTHS)
    ours, theirs = projected(LENGTHS, 2, 16, 0), projected(LENGTHS, 2, 16, 1)
    exact = relation_loss(ours, theirs, batch.plan)
    rough = relation_loss(ours.bfloat16(), theirs.bfloat16(), batch.plan)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)


# -- objectives on encoders


def model_of(seed=0, family="bert", heads=("mlm",), **changes):
    """Without dropout, in training."""
    saved = tiny.saved(heads, seed=seed, **{"name": family, "embeddings__vocab_size": VOCABULARY, **changes})
    return nn.ModuleDict({"encoder": saved.encoder, **saved.heads})


def passes(student, teacher, batch):
    """Student's and teacher's pass over a batch, as `Together` makes them."""
    with torch.no_grad():
        taught = Forward(teacher["encoder"], batch, teacher["encoder"](batch, hidden=True))
    return Forward(student["encoder"], batch, student["encoder"](batch, hidden=True), taught)


def targets_of(objective, batch):
    return objective.prepare(batch, [(0, row) for row in batch.rows], [], 0.0)[1]


def gradients_of(loss, model):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)


def assert_same_gradients(first, second, model):
    ours, theirs = gradients_of(first, model), gradients_of(second, model)
    for (name, _), a, b in zip(model.named_parameters(), ours, theirs, strict=True):
        a, b = (torch.zeros(()) if x is None else x for x in (a, b))
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1.0, float(b.abs().max()))), name


NARROW = {"width": 24, "embeddings__width": 24, "attention__heads": 2, "layers": 2}


def test_distilbert_learns_distributions_masked_tokens_and_directions():
    """All three losses and their weights, recomputed plainly with full logits."""
    student, teacher = model_of(0), model_of(5, layers=4)
    masking = Masking(mask_id=4, ordinary=np.arange(5, VOCABULARY), seed=1)
    soft = SoftTargets(teacher["mlm"], VOCABULARY, 2.0)
    mlm = MaskedTokens(masking)
    together = Together([soft, Cosine(), mlm], {"soft": 5.0, "mlm": 2.0}, None, taught_by(teacher, (4,)))
    batch = batch_of(LENGTHS)
    keys = [(0, int(row)) for row in batch.rows]
    masked, places = mlm.prepare(batch, keys, [], 0.0)
    item = masked, places | targets_of(soft, masked)
    totals = together.counts(item)
    assert totals == {"soft": batch.tokens, "cosine": batch.tokens, "mlm": len(places["mlm.places"])}
    sums = together.backward(student, item, totals)
    found = {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}
    student.zero_grad()

    x, y = student["encoder"](masked).sequence, teacher["encoder"](masked).sequence.detach()
    ours = student["mlm"](x, student["encoder"].token_table)
    theirs = teacher["mlm"](y, teacher["encoder"].token_table).detach()
    divergence = functional.kl_div((ours / 2).log_softmax(-1), (theirs / 2).softmax(-1), reduction="batchmean") * 4
    cosine = functional.cosine_embedding_loss(x, y, torch.ones(len(x)))
    where, labels = (torch.from_numpy(places[f"mlm.{what}"]) for what in ("places", "labels"))
    guesses = functional.cross_entropy(ours[where], labels)
    (5 * divergence + cosine + 2 * guesses).backward()
    for name, mean in (("soft", divergence), ("cosine", cosine), ("mlm", guesses)):
        assert sums[f"loss.{name}"] / totals[name] == pytest.approx(mean.item(), rel=1e-4), name
    assert sums["hits.soft"] == (ours.argmax(-1) == theirs.argmax(-1)).sum()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, rtol=1e-3, atol=1e-5), name
    assert all(parameter.grad is None for parameter in teacher.parameters()), "a teacher learns nothing"


def taught_by(teacher, reads):
    class Held:
        encoder, config, device = teacher["encoder"], teacher["encoder"].config, torch.device("cpu")

    return RunningTeacher(Held(), reads)


def test_soft_targets_may_be_those_of_masked_tokens_alone():
    student, teacher = model_of(0), model_of(5)
    batch = batch_of(LENGTHS)
    soft = SoftTargets(teacher["mlm"], VOCABULARY, 3.0, "masked")
    targets = targets_of(soft, batch) | {"mlm.places": np.array([2, 7, 30])}
    assert soft.count(targets) == 3
    forward = passes(student, teacher, batch)
    some = soft.loss(student, forward, targets).total
    whole = SoftTargets(teacher["mlm"], VOCABULARY, 3.0)
    pieces = [whole.loss(student, at(forward, place), {"teacher.lengths": np.array([1])}).total for place in (2, 7, 30)]
    assert some.item() == pytest.approx(sum(piece.item() for piece in pieces), rel=1e-5)


def at(forward, place):
    """The same pass with one token's last hidden state alone."""
    from dataclasses import replace

    def only(one):
        return replace(one, output=replace(one.output, sequence=one.output.sequence[place : place + 1]))

    return replace(only(forward), teacher=only(forward.teacher))


@pytest.mark.parametrize("places", ["all", "masked"])
def test_a_teacher_may_guess_through_its_enhanced_mask_decoder(places):
    student, teacher = model_of(0), model_of(5, "deberta", embeddings__positions=60, embeddings__positions_added=False)
    batch = batch_of(LENGTHS)
    soft = SoftTargets(teacher["mlm"], VOCABULARY, 2.0, places, decoders=("plain", "enhanced"))
    assert soft.hidden
    assert soft.reads == (-2,), "what goes into the last layer"
    forward = passes(student, teacher, batch)
    chosen = np.arange(batch.tokens) if places == "all" else np.array([2, 7, 30])
    ours = student["mlm"](forward.output.sequence[chosen], student["encoder"].token_table)
    decoded = decode(teacher["encoder"], forward.teacher.output, batch)
    theirs = teacher["mlm"](decoded[chosen], teacher["encoder"].token_table)
    shares, logs = (theirs / 2).softmax(-1), (ours / 2).log_softmax(-1)
    expected = 4 * functional.kl_div(logs, shares, reduction="sum")
    loss = soft.loss(student, forward, targets_of(soft, batch) | {"mlm.places": chosen}).total
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_work_of_soft_targets_is_counted():
    """Three products with either table's rows for the student, one for the teacher, who learns nothing."""
    teacher = model_of(5)
    batch = batch_of(LENGTHS)
    soft = SoftTargets(teacher["mlm"], VOCABULARY)
    head = 48 * (48 + VOCABULARY)
    assert 3 * soft.work(teacher["encoder"].config, targets_of(soft, batch)) == pytest.approx(batch.tokens * 4 * head)


def test_rows_of_a_table_beyond_the_vocabulary_are_not_compared():
    """A published teacher's table may have more rows than its tokenizer has tokens."""
    student, teacher = model_of(0), model_of(5)
    batch = batch_of(LENGTHS, vocabulary=150)
    forward = passes(student, teacher, batch)
    whole, part = (SoftTargets(teacher["mlm"], size) for size in (VOCABULARY, 150))
    targets = targets_of(whole, batch)
    assert whole.loss(student, forward, targets).total != part.loss(student, forward, targets).total
    with torch.no_grad():
        for model in (student, teacher):
            model["mlm"].bias[150:] = -1e4  # beyond 150 nothing has a share
    assert part.loss(student, forward, targets).total.item() == pytest.approx(
        whole.loss(student, forward, targets).total.item(), rel=1e-4
    )


def test_minilm_compares_relations_of_the_last_layer_whatever_the_widths():
    """Recomputed one sequence and one relation head at a time, from the modules."""
    student, teacher = model_of(0, **NARROW), model_of(5)
    batch = batch_of(LENGTHS)
    objective = Relations(layer=2, relation_heads=4)
    forward = passes(student, teacher, batch)
    loss = objective.loss(student, forward, targets_of(objective, batch)).total
    assert objective.count(targets_of(objective, batch)) == batch.tokens

    def parts(encoder, states, layer):
        attention = encoder.stack.blocks[layer].attention
        return [part(states[layer]) for part in (attention.query, attention.key, attention.value)]

    ours = parts(student["encoder"], forward.output.hidden, student["encoder"].config.layers - 1)
    theirs = parts(teacher["encoder"], forward.teacher.output.hidden, 2)
    expected = torch.zeros(())
    for mine, taught in zip(ours, theirs, strict=True):
        mine, taught = (x.unflatten(1, (4, -1)) for x in (mine, taught.detach()))
        for a, b in itertools.pairwise(batch.starts.tolist()):
            for head in range(4):
                x, y = mine[a:b, head], taught[a:b, head]
                logs = (x @ x.T / x.shape[1] ** 0.5).log_softmax(-1)
                aims = (y @ y.T / y.shape[1] ** 0.5).softmax(-1)
                expected = expected + functional.kl_div(logs, aims, reduction="sum") / 4
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert_same_gradients(loss, expected, student)


def test_tinybert_pairs_layers_evenly_and_maps_widths():
    """Means of squares over embeddings, outputs of layers 2 and 4, scores; with a learned map between widths."""
    student, teacher = model_of(0, **{**NARROW, "attention__heads": 4}), model_of(5, layers=4)
    objectives = layer_to_layer(student["encoder"].config, teacher["encoder"].config)
    assert [one.name for one in objectives] == ["embeddings", "states", "scores"]
    assert objectives[1].pairs == ((1, 2), (2, 4))
    assert objectives[2].pairs == ((0, 1), (1, 3))
    for one in objectives:
        student.update({} if isinstance(one, Scores) else one.modules())
    batch = batch_of(LENGTHS)
    forward = passes(student, teacher, batch)
    ours, theirs = forward.output.hidden, forward.teacher.output.hidden
    targets = targets_of(objectives[0], batch)
    means = [one.loss(student, forward, targets).total / one.count(targets) for one in objectives]
    mapped = [functional.linear(x, student["states_map"].weight) for x in ours]
    expected = [
        functional.mse_loss(student["embeddings_map"](ours[0]), theirs[0]),
        functional.mse_loss(mapped[1], theirs[2]) + functional.mse_loss(mapped[2], theirs[4]),
        plain_scores(student, teacher, forward, objectives[2].pairs),
    ]
    for mean, wanted in zip(means, expected, strict=True):
        assert mean.item() == pytest.approx(wanted.item(), rel=1e-4)
        assert_same_gradients(mean, wanted, student)


def plain_scores(student, teacher, forward, pairs):
    """The mean over heads and pairs of tokens, of each layer, summed."""
    starts, heads, total = forward.batch.starts, 4, torch.zeros(())
    for here, there in pairs:
        mine, taught = (
            one_by_one(
                *(getattr(model["encoder"].stack.blocks[layer].attention, part)(states[layer]).unflatten(1, (heads, -1))
                  for part in ("query", "key")),
                starts, heads,
            )
            for model, states, layer in (
                (student, forward.output.hidden, here), (teacher, forward.teacher.output.hidden, there)
            )
        )  # fmt: skip
        pairs_of = [pair for a, b in zip(mine, taught, strict=True) for pair in zip(a, b, strict=True)]
        total = total + torch.cat([((ours - theirs) ** 2).flatten() for ours, theirs in pairs_of]).mean()
    return total


def test_of_one_width_nothing_is_mapped():
    config = tiny.config("bert")
    objectives = layer_to_layer(config, config)
    assert all(one.modules() == {} for one in objectives if isinstance(one, States))


@pytest.mark.parametrize("name", families())
def test_every_family_can_teach_itself(name):
    """Of twins every loss is 0 and has no gradient; of strangers neither is so, and nothing is infinite."""
    twin, same, other = (model_of(seed, family=name) for seed in (3, 3, 4))
    batch = batch_of((3, 9, 9, 12))
    config = twin["encoder"].config
    objectives = [Relations(config.layers - 1, 2), Cosine(), *layer_to_layer(config, config)]
    for one in objectives:
        targets = targets_of(one, batch)
        assert abs(one.loss(twin, passes(twin, same, batch), targets).total.item()) < 1e-3, one.name
        strange = one.loss(twin, passes(twin, other, batch), targets).total
        assert strange.item() > 1e-3, one.name
        assert all(torch.isfinite(x).all() for x in gradients_of(strange, twin) if x is not None), one.name


def test_queries_keys_and_values_are_those_of_the_layer():
    """Blocks that norm first give their attention the norm of what comes in; the convolution is passed too."""
    for name in ("bert", "modernbert", "deberta-v2"):
        model = model_of(0, family=name)
        encoder, seen = model["encoder"].eval(), []
        for block in encoder.stack.blocks:
            block.attention.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs))
        batch = batch_of((4, 7))
        output = encoder(batch, hidden=True)
        found = Projections(Forward(encoder, batch, output))
        for layer, (x, context, number) in enumerate(seen):
            expected = encoder.stack.blocks[encoder.stack.schedule[layer]].attention.project(x, context, number)
            for ours, theirs in zip(found.of(layer), expected, strict=True):
                assert torch.allclose(ours, theirs, atol=1e-6), (name, layer)


def test_relation_heads_suit_both_widths():
    assert relation_heads(None, 384, 768) == 48, "the paper's"
    assert relation_heads(None, 256, 384) == 16
    assert relation_heads(None, 10, 7) == 1
    assert relation_heads(12, 384, 768) == 12
    with pytest.raises(BothwaysError, match=r"student is 256 wide, which is no multiple of 12 .* for 16"):
        relation_heads(12, 256, 384)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layers": 3}, "teacher, whose 4 layers are no multiple of the student's 3; give the student 1, 2, 4 layers"),
        ({"layers": 8}, "whose 4 layers are no multiple of the student's 8"),
        ({"layers": 2, "attention__heads": 2}, "the student has 2 heads and the teacher 4"),
    ],
)
def test_layers_and_heads_that_do_not_pair_are_refused(changes, sentence):
    teacher = tiny.config("bert", layers=4)
    with pytest.raises(BothwaysError, match=sentence):
        layer_to_layer(tiny.config("bert", **changes), teacher)
