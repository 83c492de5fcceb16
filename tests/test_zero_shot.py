"""Classes that were never trained are told by what follows from a text."""

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.model.families import family

TEXTS = ["the red stone in the river", "a teacher made a book", "she was in the garden all winter long"]
CLASSES = ["music", "river", "old town"]


def judge(labels=("contradiction", "neutral", "ENTAILMENT")):
    model = tiny.model(["classify"])
    model.head_configs["classify"] = family("bert").head("classify", labels=labels)
    return model


def shares(model, text, template="This text is about {}."):
    return model.class_probabilities([text] * 3, [template.format(name) for name in CLASSES])


def test_the_class_that_follows_most_is_taken():
    model = judge()
    found = model.zero_shot(TEXTS, CLASSES)
    for text, one in zip(TEXTS, found, strict=True):
        follows = shares(model, text)[:, 2]
        assert list(one.probabilities) == CLASSES
        assert list(one.probabilities.values()) == pytest.approx((follows / follows.sum()).tolist(), abs=1e-5)
        assert one.label == CLASSES[int(follows.argmax())] == one.labels[0]
        assert len(one.labels) == 1
        assert one.probability == max(one.probabilities.values())
    assert model.zero_shot(TEXTS[0], CLASSES).probabilities == pytest.approx(found[0].probabilities, abs=1e-5)


def test_each_class_is_decided_by_itself_where_several_may_hold():
    model = judge()
    for text, one in zip(TEXTS, model.zero_shot(TEXTS, CLASSES, several=True, template="{}!"), strict=True):
        told = shares(model, text, "{}!")
        expected = told[:, 2] / (told[:, 2] + told[:, 0])
        assert list(one.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert set(one.labels) == {name for name, share in zip(CLASSES, expected, strict=True) if share > 0.5}
        assert [one.probabilities[name] for name in one.labels] == sorted(
            (one.probabilities[name] for name in one.labels), reverse=True
        )
    two = judge(("not_entailment", "entailment", "other"))
    told = shares(two, TEXTS[0])[:, 1]
    assert list(two.zero_shot(TEXTS[0], ["music"], several=True).probabilities.values()) == pytest.approx(
        told[:1].tolist(), abs=1e-5
    )


def test_the_class_that_means_follows_may_be_named():
    model = judge(("no", "perhaps", "yes"))
    expected = shares(model, TEXTS[0])[:, 2]
    found = model.zero_shot(TEXTS[0], CLASSES, entailment="yes")
    assert list(found.probabilities.values()) == pytest.approx((expected / expected.sum()).tolist(), abs=1e-5)
    with pytest.raises(
        BothwaysError, match=r"no class of tiny is called entailment.*no, perhaps, yes.*entailment=\.\.\."
    ):
        model.zero_shot(TEXTS[0], CLASSES)
    with pytest.raises(BothwaysError, match=r"has no class 'yess'.*'yes'"):
        model.zero_shot(TEXTS[0], CLASSES, entailment="yess")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": "music"}, "list of words"),
        ({"labels": []}, "list of words"),
        ({"labels": ["music"]}, "one class only"),
        ({"labels": ["music", "music"]}, "stands twice"),
        ({"labels": CLASSES, "template": "about"}, "should hold {} once"),
    ],
)
def test_what_cannot_be_asked_is_told(given, said):
    with pytest.raises(BothwaysError, match=said):
        judge().zero_shot(TEXTS, **given)


def test_a_model_without_classes_is_told_and_many_texts_are_answered_in_order():
    with pytest.raises(BothwaysError, match="'classify'"):
        tiny.model(["mlm"]).zero_shot("red", CLASSES)
    model, texts = judge(), tiny.sentences(700)
    found = model.zero_shot(texts, CLASSES)
    assert len(found) == 700
    for place in (0, 345, 699):
        alone = model.zero_shot(texts[place], CLASSES)
        assert np.allclose(list(alone.probabilities.values()), list(found[place].probabilities.values()), atol=1e-5)
