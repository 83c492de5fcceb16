"""Losses of classes, and what is fitted to them after training: each against its definition."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from bothways.learn.tasks.class_losses import inverse_frequency, loss_of_one, loss_of_several
from bothways.learn.tasks.fitting import fit_temperature, fit_thresholds
from bothways.run.answering.classify import tempered


def draw(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float() * 2


def test_without_settings_the_loss_is_the_cross_entropy():
    logits, labels = draw((20, 4)), np.arange(20) % 4
    loss = loss_of_one(logits, labels)
    assert torch.allclose(loss.total, functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum"))
    assert loss.hits == (logits.argmax(1).numpy() == labels).sum()


def test_focal_with_gamma_0_is_the_cross_entropy_and_falls_with_gamma():
    logits, labels = draw((20, 4)), np.arange(20) % 4
    plain = loss_of_one(logits, labels).total
    assert torch.equal(loss_of_one(logits, labels, focal=0.0).total, plain)
    sure = functional.softmax(logits, -1)[range(20), labels]
    assert loss_of_one(logits, labels, focal=2.0).total.item() == pytest.approx(
        float((-((1 - sure) ** 2) * sure.log()).sum()), rel=1e-5
    )
    flags = (draw((20, 4), 1) > 0).numpy()
    assert loss_of_several(logits, flags, focal=1.0).total < loss_of_several(logits, flags, focal=0.0).total


def test_label_smoothing_is_torchs_and_passes_by_choices_that_are_not_there():
    logits, labels = draw((20, 4)), np.arange(20) % 3
    expected = functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum", label_smoothing=0.2)
    assert torch.allclose(loss_of_one(logits, labels, smoothing=0.2).total, expected)
    absent = torch.cat([logits, torch.full((20, 1), -torch.inf)], 1).requires_grad_()
    loss = loss_of_one(absent, labels, smoothing=0.2).total
    assert torch.allclose(loss, expected)
    loss.backward()
    assert torch.isfinite(absent.grad).all()


def test_several_is_the_mean_binary_cross_entropy_over_the_labels():
    logits, flags = draw((20, 4)), (draw((20, 4), 1) > 0).float()
    expected = functional.binary_cross_entropy_with_logits(logits, flags, reduction="none").mean(1).sum()
    assert torch.allclose(loss_of_several(logits, flags).total, expected)


def test_automatic_weights_make_classes_count_alike_and_the_loss_keep_its_size():
    counts = np.array([90, 9, 1, 0])
    weights = inverse_frequency(counts)
    assert (weights * counts)[:3] == pytest.approx([100 / 3] * 3)
    assert weights[3] == 0
    labels = np.repeat(np.arange(4), counts)
    logits = torch.zeros(100, 4)
    weighted = loss_of_one(logits, labels, weights_C=torch.from_numpy(weights)).total
    assert torch.allclose(weighted, loss_of_one(logits, labels).total)


@pytest.mark.parametrize("seed", range(3))
def test_a_temperature_fits_and_never_changes_the_likeliest_class(seed):
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2, (3000, 5))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truth = np.array([random.choice(5, p=row) for row in shares])
    for factor in (0.4, 1.0, 3.0):
        found = fit_temperature(honest * factor, truth)
        assert found == pytest.approx(factor, rel=0.1)
        logits = (honest * factor).astype(np.float32)
        assert np.array_equal(tempered(logits, "one", found).argmax(1), logits.argmax(1))


def test_few_examples_do_not_move_the_temperature_far():
    logits = np.array([[9.0, 0.0], [0.0, 9.0]])
    assert 0.5 < fit_temperature(logits, np.array([0, 1])) <= 1.0
    assert 1.0 < fit_temperature(logits, np.array([1, 0])) < 10.0


def test_thresholds_are_the_best_of_all_for_f1():
    random = np.random.default_rng(0)
    flags = (random.random((40, 3)) < [0.5, 0.2, 0.0]).astype(float)
    shares = np.clip(flags * 0.3 + random.random((40, 3)) * 0.6, 0, 1)
    found = fit_thresholds(shares, flags)
    for label in range(2):

        def f1(threshold, label=label):
            given, right = shares[:, label] >= threshold, flags[:, label] > 0
            return 2 * (given & right).sum() / (given.sum() + right.sum())

        assert f1(found[label]) == pytest.approx(max(map(f1, np.unique(shares[:, label]))))
    assert found[2] == 0.5, "nothing to fit where a label never holds"
