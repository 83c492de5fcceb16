"""The chain of tags against every path counted one by one: their sum, the best of them, the share of each tag."""

import itertools

import numpy as np
import pytest
import torch

from bothways.model.heads.crf import Chains, TagChain
from bothways.run import viterbi
from bothways.run.viterbi import Chain, best_paths, marginals
from bothways.text.tag_schemes import TagSet, allowed, find_spans, tag_names, write_spans

LENGTHS = np.array([3, 1, 4, 2])


def chain_of(names, scheme, seed=0):
    """A chain with random scores under a scheme's constraints, and its scores as plain arrays."""
    draw = np.random.default_rng(seed)
    count = len(names)
    chain = TagChain(count)
    chain.start_from(draw.normal(size=(count, count)), draw.normal(size=count), draw.normal(size=count))
    chain.constrain(*allowed(names, scheme))
    plain = [
        np.where(may.numpy(), scores.detach().numpy().astype(np.float64), -np.inf)
        for may, scores in (
            (chain.allowed_follows, chain.follows),
            (chain.allowed_begins, chain.begins),
            (chain.allowed_ends, chain.ends),
        )
    ]
    return chain, Chain(*plain)


def every_path(emissions, scores, begins=True, ends=True):
    """All paths through one chain with their scores."""
    for path in itertools.product(range(emissions.shape[1]), repeat=len(emissions)):
        total = sum(emissions[place, tag] for place, tag in enumerate(path))
        total += sum(scores.follows[a, b] for a, b in itertools.pairwise(path))
        total += (scores.begins[path[0]] if begins else 0) + (scores.ends[path[-1]] if ends else 0)
        yield path, total


def by_chain(values, lengths=LENGTHS):
    return np.split(values, np.cumsum(lengths)[:-1])


@pytest.fixture(params=[("words", ("a", "b", "c")), ("BIO", None), ("BIOES", None)], ids=lambda param: param[0])
def case(request):
    scheme, names = request.param
    names = names or tag_names(("X",), scheme)
    emissions = np.random.default_rng(1).normal(size=(LENGTHS.sum(), len(names))).astype(np.float32)
    return names, scheme, emissions, *chain_of(names, scheme)


def test_the_forward_score_is_the_sum_over_all_paths(case):
    _, _, emissions, chain, scores = case
    found = chain.all_paths(torch.from_numpy(emissions), Chains.whole(LENGTHS)).detach().numpy()
    for value, part in zip(found, by_chain(emissions), strict=True):
        expected = np.logaddexp.reduce([total for _, total in every_path(part, scores)])
        assert value == pytest.approx(expected, abs=1e-5)


def test_a_window_inside_a_text_has_no_first_and_last_tag(case):
    """Whatever stood before it may go on in it, so neither scores nor constraints of a text's ends count there."""
    _, _, emissions, chain, scores = case
    begins, ends = np.array([True, False, False, True]), np.array([False, False, True, True])
    found = chain.all_paths(torch.from_numpy(emissions), Chains(LENGTHS, begins, ends)).detach().numpy()
    for value, part, *flags in zip(found, by_chain(emissions), begins, ends, strict=True):
        expected = np.logaddexp.reduce([total for _, total in every_path(part, scores, *flags)])
        assert value == pytest.approx(expected, abs=1e-5)


def test_the_probabilities_of_all_paths_add_up_to_one(case):
    _, _, emissions, chain, _ = case
    part = torch.from_numpy(emissions[:3])
    whole = Chains.whole(np.array([3]))
    paths = itertools.product(range(emissions.shape[1]), repeat=3)
    with torch.no_grad():
        total = sum(float(torch.exp(-chain(part, torch.tensor(path), whole))) for path in paths)
    assert total == pytest.approx(1, abs=1e-5)


def test_the_best_path_is_the_best_of_all(case):
    _, _, emissions, _, scores = case
    found = best_paths(emissions, LENGTHS, scores)
    for path, part in zip(by_chain(found), by_chain(emissions), strict=True):
        best = max(every_path(part, scores), key=lambda one: one[1])[0]
        assert tuple(path) == best


def test_shares_are_those_of_all_paths_and_the_gradient_of_the_forward_score(case):
    _, _, emissions, chain, scores = case
    found = marginals(emissions, LENGTHS, scores)
    for shares, part in zip(by_chain(found), by_chain(emissions), strict=True):
        paths, totals = zip(*every_path(part, scores), strict=True)
        weights = np.exp(np.array(totals) - np.logaddexp.reduce(totals))
        expected = np.zeros_like(shares)
        for path, weight in zip(paths, weights, strict=True):
            expected[np.arange(len(path)), path] += weight
        assert shares == pytest.approx(expected, abs=1e-6)
    given = torch.from_numpy(emissions).requires_grad_()
    chain.all_paths(given, Chains.whole(LENGTHS)).sum().backward()
    assert given.grad.numpy() == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BILOU"])
def test_what_is_decoded_is_always_a_valid_sequence(scheme):
    """Valid means that the spans of a sequence, written down again, are that sequence."""
    names = tag_names(("LOC", "PER"), scheme)
    draw = np.random.default_rng(2)
    lengths = draw.integers(1, 12, 300)
    edges = np.cumsum([0, *lengths])
    emissions = draw.normal(scale=50, size=(lengths.sum(), len(names)))
    free = np.zeros((len(names), len(names))), np.zeros(len(names)), np.zeros(len(names))
    chain = Chain(*(np.where(may, score, -np.inf) for may, score in zip(allowed(names, scheme), free, strict=True)))
    tag_set = TagSet(names)

    def rewritten(tags):
        return write_spans(find_spans(tag_set, tags, edges), len(tags), names, tag_set.kinds, scheme)

    found, freely = best_paths(emissions, lengths, chain), best_paths(emissions, lengths, Chain(*free))
    assert (rewritten(found) == found).all()
    assert (rewritten(freely) != freely).any()
    assert (freely == emissions.argmax(1)).all()


def test_every_score_learns_and_what_is_forbidden_does_not():
    names = tag_names(("X", "Y"), "BIO")
    chain, _ = chain_of(names, "BIO")
    emissions = torch.randn(60, len(names), generator=torch.Generator().manual_seed(0))
    tags = torch.zeros(60, dtype=torch.int64)
    chain(emissions, tags, Chains.whole(np.full(20, 3))).sum().backward()
    assert ((chain.follows.grad != 0) == chain.allowed_follows).all()
    assert ((chain.begins.grad != 0) == chain.allowed_begins).all()
    assert (chain.ends.grad != 0).all()


def test_a_very_long_chain_adds_up():
    draw = np.random.default_rng(3)
    emissions = draw.normal(size=(20_000, 3)).astype(np.float32)
    _, scores = chain_of(("a", "b", "c"), "words")
    shares = marginals(emissions, np.array([20_000]), scores)
    assert shares.sum(1) == pytest.approx(np.ones(20_000), abs=1e-6)
    middle = slice(10_000, 10_009)  # nothing that far away from either end matters there
    near = marginals(emissions[9_900:10_100], np.array([200]), scores)[100:109]
    assert shares[middle] == pytest.approx(near, abs=1e-6)
    assert (
        best_paths(emissions, np.array([20_000]), scores)[middle]
        == best_paths(emissions[9_900:10_100], np.array([200]), scores)[100:109]
    ).all()


def test_many_tags_take_no_more_memory_than_few(monkeypatch):
    """A step makes all pairs of tags: chains side by side are as many as there is room for those."""
    made = []
    real = viterbi._best
    monkeypatch.setattr(viterbi, "_best", lambda block, chain: made.append(block.emissions.shape) or real(block, chain))
    monkeypatch.setattr(viterbi, "_CELLS", 1 << 12)
    draw = np.random.default_rng(0)
    free = Chain(np.zeros((30, 30)), np.zeros(30), np.zeros(30))
    emissions = draw.normal(size=(200, 30))
    assert np.array_equal(best_paths(emissions, np.full(100, 2), free), emissions.argmax(1))
    assert max(chains * tags * tags for _, chains, tags in made) <= 1 << 12
