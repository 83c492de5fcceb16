"""A classifier learns from what a larger one says: the loss, the order of classes, mistakes, a student that follows."""

import json

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Loss
from bothways.learn.tasks.class_losses import loss_of_one, loss_of_several
from bothways.learn.tasks.classify import Classify
from bothways.learn.tasks.labelled import LabelledTexts
from bothways.learn.tasks.pairs import Pairs
from bothways.learn.tasks.taught import Taught, ask
from bothways.run.folder import write_folder

TEXTS = tiny.sentences(24)
LABELS = [tiny.LABELS[place % 3] for place in range(24)]


def data(labels=None, pairs=None):
    return LabelledTexts(TEXTS, pairs, LABELS if labels is None else labels, "rows")


def plain(logits, taught, share, temperature, problem, learned):
    """The same loss, written down from the paper."""
    a, b = (each.double() / temperature for each in (taught, logits))
    if problem == "one":
        soft = -(a.softmax(-1) * b.log_softmax(-1)).sum()
    else:
        p = a.sigmoid()
        soft = -(p * b.sigmoid().log() + (1 - p) * (1 - b.sigmoid()).log()).mean(-1).sum()
    return (1 - share) * learned + share * temperature**2 * soft


@pytest.mark.parametrize("problem", ["one", "several"])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_loss_is_the_papers_and_so_is_its_gradient(problem, share):
    draw = torch.Generator().manual_seed(0)
    logits, taught = (torch.randn(7, 4, generator=draw) * 3 for _ in range(2))
    right = torch.arange(7) % 4 if problem == "one" else (torch.rand(7, 4, generator=draw) > 0.5).float()
    learn = loss_of_one if problem == "one" else loss_of_several
    gradients = []
    for way in (
        lambda x: Taught(taught.numpy(), share, 2.5, problem).with_labels(learn(x, right), x, taught).total,
        lambda x: plain(x, taught, share, 2.5, problem, learn(x, right).total.double()),
    ):
        x = logits.clone().requires_grad_()
        total = way(x)
        total.backward()
        gradients.append((total.item(), x.grad))
    (found, of_found), (wanted, of_wanted) = gradients
    assert found == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(of_found, of_wanted, rtol=1e-4, atol=1e-5)


def test_who_says_the_same_as_the_teacher_loses_least():
    taught = torch.tensor([[2.0, -1.0, 0.0]])
    nothing = Loss(torch.zeros(()), torch.zeros(()))
    loss = [Taught(taught.numpy(), 1.0, 2.0, "one").with_labels(nothing, taught + off, taught).total for off in (0, 5)]
    other = Taught(taught.numpy(), 1.0, 2.0, "one").with_labels(nothing, taught.flip(-1), taught).total
    assert loss[0] == pytest.approx(loss[1].item(), abs=1e-5)  # a constant changes no probability
    assert loss[0] < other


def test_a_teachers_classes_are_found_by_name_and_its_others_left_out():
    teacher = tiny.model(("classify",))
    found = ask(teacher, data(), ("good", "bad"))
    names = {name: place for place, name in enumerate(teacher.labels)}
    from bothways.run.answering.classify import class_logits

    wanted = class_logits(teacher, TEXTS, None)[:, [names["good"], names["bad"]]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_both_orders_of_a_pair_are_taught_alike():
    taught = Taught(np.arange(6, dtype=np.float32).reshape(3, 2), 0.5, 2.0, "one")
    np.testing.assert_array_equal(taught.of(np.array([0, 2, 3, 5])), taught.logits[[0, 2, 0, 2]])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["elsewhere"] * 24, "knows no class 'elsewhere', which rows has; its classes: bad, fine, good"),
        ([("bad",)] * 24, "gives one class a text, and rows has several labels a text"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(labels, told):
    teacher = tiny.model(("classify",))
    with pytest.raises(BothwaysError, match=told):
        ask(teacher, data(labels), sorted({label if isinstance(label, str) else label[0] for label in labels}))
    with pytest.raises(BothwaysError, match="needs the head 'classify', which tiny does not have"):
        ask(tiny.model(()), data(), tiny.LABELS)


@pytest.mark.parametrize(
    ("wish", "told"), [({"teacher_share": 0.0}, "teacher_share"), ({"temperature": 0.0}, "temperature must be above 0")]
)
def test_settings_that_make_no_sense_are_told(wish, told):
    for task in (Classify, Pairs):
        with pytest.raises(BothwaysError, match=told):
            task(teacher="somebody", **wish)


def tuned(base, labels, dev, **wish):
    return bw.finetune(
        Classify(**wish),
        base=base,
        train=data(labels),
        dev=data(dev),
        epochs=30,
        learning_rate=3e-3,
        batch_size=8,
        dropout=0.0,
    ).model


def test_a_student_follows_its_teacher_where_the_labels_say_something_else(tmp_path):
    base = str(tiny.folder(tmp_path / "base", ()))
    other = [tiny.LABELS[len(text.split()) % 3] for text in TEXTS]
    teacher = tuned(base, other, other)
    teacher.save(tmp_path / "teacher")
    said = [found.label for found in teacher.classify(TEXTS)]
    assert len(set(said)) == 3
    agrees = []
    for wish in ({}, {"teacher": str(tmp_path / "teacher"), "teacher_share": 1.0}):
        found = tuned(base, LABELS, said, **wish).classify(TEXTS)
        agrees.append(np.mean([one.label == name for one, name in zip(found, said, strict=True)]))
    assert agrees[0] < 0.7
    assert agrees[1] > 0.9


def test_the_command_takes_a_teacher_and_the_run_says_which(tmp_path, capsys):
    write_folder(tiny.saved(("classify",)), tmp_path / "teacher")
    tiny.folder(tmp_path / "base", (), seed=5)
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True)))
    out = tmp_path / "out"
    asked = ["finetune", "classify", str(rows), "--dev", str(rows), "--base", str(tmp_path / "base"), "--epochs", "1"]
    assert main([*asked, "--teacher", str(tmp_path / "teacher"), "--out", str(out), "--quiet"]) == 0
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["teacher"] == str(tmp_path / "teacher")
    assert (settings["teacher_share"], settings["temperature"]) == (0.5, 2.0)
    assert main([*asked, "--teacher", str(tmp_path / "nobody"), "--out", str(tmp_path / "other")]) == 2
    assert "nobody" in capsys.readouterr().err
