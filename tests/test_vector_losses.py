"""Losses over vectors: each by its formula, written out pair by pair, and what may never count as a negative."""

import math

import numpy as np
import pytest
import torch

from bothways.errors import BothwaysError
from bothways.learn.vectors.data import read_vectors
from bothways.learn.vectors.losses import LOSSES, USUAL, loss_kind, named_losses
from bothways.learn.vectors.losses.angle import Angle, nearness
from bothways.learn.vectors.losses.contrastive import Contrastive
from bothways.learn.vectors.losses.cosent import CoSent
from bothways.learn.vectors.losses.cosine import Cosine
from bothways.learn.vectors.losses.distil import DistilVectors
from bothways.learn.vectors.losses.in_batch import InBatch
from bothways.learn.vectors.losses.mined import MinedTriplets
from bothways.learn.vectors.losses.online import OnlineContrastive
from bothways.learn.vectors.losses.parallel import Parallel
from bothways.learn.vectors.losses.triplet import Triplet
from bothways.learn.vectors.losses.tsdae import without_some
from bothways.learn.vectors.step import Step


def step(groups, size=2, *, ids=None, right=None, taught=None, seed=0):
    """A step of groups of `size` texts with random vectors of 6 values."""
    vectors = torch.randn(groups * size, 6, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    ids = np.arange(groups * size) if ids is None else np.array(ids)
    right = None if right is None else torch.tensor(right)
    return Step(vectors, np.arange(0, groups * size + 1, size), ids, right, taught)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def test_in_batch_negatives_are_the_cross_entropy_of_each_text_over_all_second_texts():
    given = step(4)
    v = given.vectors.detach()
    wanted = []
    for asked in range(4):
        scores = [20 * cosine(v[2 * asked], v[2 * other + 1]) for other in range(4)]
        wanted.append(math.log(sum(map(math.exp, scores))) - scores[asked])
    assert InBatch().loss(given, None).loss.item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_the_negatives_that_groups_bring_are_candidates_for_all():
    given = step(3, 4)
    v = given.vectors.detach()
    candidates = [1, 5, 9, 2, 3, 6, 7, 10, 11]
    wanted = []
    for asked in range(3):
        scores = [20 * cosine(v[4 * asked], v[place]) for place in candidates]
        wanted.append(math.log(sum(map(math.exp, scores))) - scores[asked])
    assert InBatch().loss(given, None).loss.item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_symmetric_is_the_mean_of_both_directions():
    given = step(5)
    turned = Step(given.vectors.reshape(5, 2, 6).flip(1).reshape(10, 6), given.starts, given.ids)
    both = [InBatch().loss(each, None).loss.item() for each in (given, turned)]
    assert InBatch(symmetric=True).loss(given, None).loss.item() == pytest.approx(np.mean(both), rel=1e-6)


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([0, 1, 2, 1, 4, 5], "the same second text"),
        ([0, 1, 2, 0, 4, 5], "a first text as the second of another"),
        ([0, 1, 0, 3, 4, 5], "two second texts of the same first"),
    ],
)
def test_texts_that_are_equal_never_meet_as_negatives(ids, why):
    given = step(3, ids=ids)
    (gradient,) = torch.autograd.grad(
        InBatch(scale=1.0).loss(Step(given.vectors, given.starts, given.ids), None).loss, given.vectors
    )
    alone = step(3)
    masked = InBatch(scale=1.0).loss(Step(alone.vectors, alone.starts, np.array(ids)), None).loss
    assert masked < InBatch(scale=1.0).loss(alone, None).loss, why  # one candidate fewer
    assert torch.isfinite(gradient).all()


def test_false_negatives_are_left_out_by_what_the_teacher_says():
    given = step(4)
    taught = torch.eye(8, 6)
    taught[1] = taught[0]  # the right one
    taught[3] = taught[0]  # as near as the right one
    taught = torch.where(taught.abs().sum(1, keepdim=True) > 0, taught, torch.full_like(taught, 0.1))
    with_teacher = Step(given.vectors, given.starts, given.ids, taught=taught)
    plain, filtered = InBatch().loss(with_teacher, None), InBatch(false_negatives=0.01).loss(with_teacher, None)
    assert filtered.loss < plain.loss


def test_of_labelled_pairs_only_those_that_belong_together_ask():
    given, some = step(4), step(4, right=[1.0, 0.0, 0.0, 0.0])
    v = given.vectors.detach()
    scores = [cosine(v[0], v[2 * other + 1]) for other in range(4)]
    wanted = math.log(sum(map(math.exp, scores))) - scores[0]
    assert InBatch(scale=1.0).loss(some, None).loss.item() == pytest.approx(wanted, rel=1e-5)
    assert InBatch().loss(step(4, right=[0.0] * 4), None).loss.item() == 0.0


def test_cosent_counts_every_pair_of_pairs_in_the_wrong_order():
    right = [0.1, 0.9, 0.5, 0.5]
    given = step(4, right=right)
    v = given.vectors.detach()
    likeness = [cosine(v[2 * g], v[2 * g + 1]) for g in range(4)]
    total = 1 + sum(
        math.exp(20 * (likeness[j] - likeness[i])) for i in range(4) for j in range(4) if right[i] > right[j]
    )
    assert CoSent().loss(given, None).loss.item() == pytest.approx(math.log(total), rel=1e-5)


def test_the_angle_of_a_vector_with_itself_is_the_same_for_all_and_turns_with_the_other():
    a = torch.tensor([[1.0, 0.0]])  # 1 + 0i
    angles = [nearness(a, torch.tensor([[math.cos(t), math.sin(t)]])).item() for t in (0.0, 0.3, 0.6)]
    # the sum of the parts of exp(-it): cos t - sin t
    assert angles == pytest.approx([abs(math.cos(t) - math.sin(t)) for t in (0.0, 0.3, 0.6)], abs=1e-6)


@pytest.mark.parametrize("loss", [Angle, CoSent])
def test_what_is_scored_high_comes_nearer(loss):
    """Of free vectors in pairs that are half alike, of which every second one belongs together."""
    draw = torch.Generator().manual_seed(0)
    begun = torch.randn(16, 1, 16, generator=draw) + torch.randn(16, 2, 16, generator=draw)
    free = torch.nn.Parameter(begun.flatten(0, 1))
    right = torch.tensor([1.0, 0.0] * 8)
    optimizer = torch.optim.Adam([free], 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss().loss(Step(free, np.arange(33)[::2], np.arange(32), right), None).loss.backward()
        optimizer.step()
    cosines = torch.cosine_similarity(free[::2], free[1::2])
    assert cosines[right > 0].mean() > cosines[right == 0].mean() + 0.2


def test_a_text_that_is_labelled_wrong_for_its_query_is_a_negative_of_it():
    given = step(3, ids=[0, 1, 0, 2, 3, 4], right=[1.0, 0.0, 1.0])  # of the query 0 text 1 is right and text 2 wrong
    InBatch().loss(given, None).loss.backward()
    v = given.vectors.detach()
    wanted = [math.exp(20 * cosine(v[0], v[n])) for n in (1, 3, 5)]
    other = [math.exp(20 * cosine(v[4], v[n])) for n in (5, 1, 3)]
    expected = -np.mean([math.log(each[0] / sum(each)) for each in (wanted, other)])
    assert InBatch().loss(given, None).loss.item() == pytest.approx(expected, rel=1e-4)


def test_cosine_contrastive_and_distillation_are_their_formulas():
    right = [1.0, 0.0, 1.0]
    given = step(3, right=right, taught=torch.zeros(6, 6))
    v = given.vectors.detach()
    likeness = [cosine(v[2 * g], v[2 * g + 1]) for g in range(3)]
    squares = [(c - r) ** 2 for c, r in zip(likeness, right, strict=True)]
    assert Cosine().loss(given, None).loss.item() == pytest.approx(np.mean(squares), rel=1e-5)
    apart = [1 - c for c in likeness]
    each = [d**2 if r else max(0, 0.5 - d) ** 2 for d, r in zip(apart, right, strict=True)]
    assert Contrastive().loss(given, None).loss.item() == pytest.approx(np.mean(each) / 2, rel=1e-5)
    lengths = v.square().sum(1)
    assert DistilVectors().loss(given, None).loss.item() == pytest.approx(lengths.mean().item(), rel=1e-5)


def test_a_translation_is_drawn_to_the_teachers_vector_of_the_first_text():
    taught = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    given = step(2, taught=taught)
    wanted = (given.vectors - taught[[0, 0, 2, 2]]).square().sum(1).mean().item()
    assert Parallel().loss(given, None).loss.item() == pytest.approx(wanted, rel=1e-6)


def test_online_contrast_learns_from_nothing_where_all_pairs_are_told_apart():
    vectors = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0]], requires_grad=True)
    given = Step(vectors, np.array([0, 2, 4]), np.arange(4), torch.tensor([1.0, 0.0]))
    assert OnlineContrastive().loss(given, None).loss.item() == 0.0
    turned = Step(vectors, np.array([0, 2, 4]), np.arange(4), torch.tensor([0.0, 1.0]))
    assert OnlineContrastive().loss(turned, None).loss.item() > 0.0


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
def test_triplets_miss_the_margin_by_what_their_distances_say(distance):
    given = step(2, 4)
    v = given.vectors.detach()
    measure = {
        "cosine": lambda a, b: 1 - cosine(a, b),
        "euclidean": lambda a, b: float((a - b).norm()),
        "manhattan": lambda a, b: float((a - b).abs().sum()),
    }[distance]
    wanted = [
        max(0.0, measure(v[4 * g], v[4 * g + 1]) - measure(v[4 * g], v[4 * g + n]) + 0.7)
        for g in (0, 1)
        for n in (2, 3)
    ]
    found = Triplet(distance=distance, margin=0.7).loss(given, None).loss.item()
    assert found == pytest.approx(np.mean(wanted), rel=1e-4)


@pytest.mark.parametrize("mining", ["hard", "semi_hard", "all"])
def test_mined_triplets_are_those_that_a_search_over_all_finds(mining):
    classes = [0, 0, 0, 1, 1, 1, 2, 2]
    vectors = torch.randn(8, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    given = Step(vectors, np.arange(9), np.arange(8), torch.tensor(classes))
    found = MinedTriplets(mining=mining, margin=0.4, distance="euclidean").loss(given, None).loss.item()
    d = torch.cdist(vectors, vectors).tolist()
    same = {a: [p for p in range(8) if p != a and classes[p] == classes[a]] for a in range(8)}
    other = {a: [n for n in range(8) if classes[n] != classes[a]] for a in range(8)}
    if mining == "hard":
        losses = [max(0, max(d[a][p] for p in same[a]) - min(d[a][n] for n in other[a]) + 0.4) for a in range(8)]
    elif mining == "semi_hard":
        losses = []
        for a in range(8):
            for p in same[a]:
                farther = [d[a][n] for n in other[a] if d[a][n] > d[a][p]]
                chosen = min(farther) if farther else max(d[a][n] for n in other[a])
                losses.append(max(0, d[a][p] - chosen + 0.4))
    else:
        every = [d[a][p] - d[a][n] + 0.4 for a in range(8) for p in same[a] for n in other[a]]
        losses = [one for one in every if one > 0]
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_text_keeps_its_ends_and_one_token_however_much_is_deleted():
    ids = np.arange(20)
    for number in range(50):
        seen = without_some(ids, 0.9, 0, number)
        assert seen[0] == 0
        assert seen[-1] == 19
        assert len(seen) >= 3
    assert without_some(ids, 0.6, 0, 7).tolist() == without_some(ids, 0.6, 0, 7).tolist()
    lengths = [len(without_some(np.arange(102), 0.6, 1, number)) - 2 for number in range(100)]
    assert 35 < np.mean(lengths) < 45


# -- which loss, which data


def test_every_form_has_a_usual_loss_that_takes_it_and_every_loss_says_what_it_needs():
    for form, name in USUAL.items():
        assert form in loss_kind(name).forms
    for name in LOSSES:
        assert loss_kind(name).needs
        assert loss_kind(name).name == name


@pytest.mark.parametrize(
    ("loss", "told"),
    [("mnlr", "did you mean"), ("mnrl+mnrl", "named twice"), ("simcse+mnrl", "no other loss can stand beside it")],
)
def test_losses_that_are_not_there_or_do_not_go_together_are_refused(loss, told):
    with pytest.raises(BothwaysError, match=told):
        named_losses(loss)


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"text": "a"}, "texts"),
        ({"text": "a", "label": "x"}, "classes"),
        ({"question1": "a", "question2": "b"}, "pairs"),
        ({"deu": "a", "eng": "b"}, "pairs"),
        ({"text_a": "a", "text_b": "b", "score": 3.5}, "scored"),
        ({"text_a": "a", "text_b": "b", "label": 1}, "labelled"),
        ({"premise": "a", "hypothesis": "b", "label": "neutral"}, "labelled"),
        ({"anchor": "a", "positive": "b", "negative": "c"}, "triplets"),
        ({"query": "a", "positive": "b", "negatives": ["c", "d"]}, "triplets"),
        ({"query": "a", "positive": "b", "negative_1": "c", "negative_2": "d"}, "triplets"),
    ],
)
def test_the_form_of_data_is_told_from_their_columns(row, form):
    found = read_vectors([row])
    assert found.form == form
    wanted = {"texts": 1, "classes": 1, "triplets": 3 + ("negatives" in row or "negative_2" in row)}.get(form, 2)
    assert np.diff(found.starts).tolist() == [wanted]


def test_a_row_with_several_texts_that_belong_makes_several_groups():
    found = read_vectors([{"query": "a", "positives": ["b", "c"], "negatives": ["d"]}])
    assert [found.group(number) for number in range(2)] == [["a", "b", "d"], ["a", "c", "d"]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"anchor": "a", "positive": " "}], r"row 1: the text in the column 'positive' is empty"),
        ([{"query": "a", "positive": "b", "negatives": []}], "row 1: there is no text in the column 'negatives'"),
        ([{"text_a": "a", "text_b": "b", "score": None}, {"text_a": "a", "text_b": "b", "score": 1}], "no score"),
        ([{"anchor": "a", "positive": 3}], "should hold text, not int"),
    ],
)
def test_rows_that_do_not_do_say_where_and_why(rows, told):
    with pytest.raises(BothwaysError, match=told):
        read_vectors(rows)


def test_scores_outside_the_range_name_the_row_and_the_range():
    data = read_vectors([{"text_a": "a", "text_b": "b", "score": value} for value in (0.5, 3.8)])
    with pytest.raises(BothwaysError, match=r"row 2 has the score 3\.8, outside 0 to 1; .*--score-range 0 4"):
        Cosine().right(data)
    assert Cosine(score_range=(0, 5)).right(data).tolist() == pytest.approx([0.1, 0.76])
