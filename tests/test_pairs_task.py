"""Pairs of texts: how they are read, cut, answered in either order."""

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.tasks.pairs import Pairs
from bothways.run.answering.classify import class_logits
from bothways.text.markers import mark
from learner_tasks import assert_resumes_exactly, step_of

ONE, OTHER = tiny.sentences(40, seed=1, longest=10), tiny.sentences(40, seed=2, longest=10)
ROWS = [
    {"text_a": one, "text_b": other, "label": int(len(one) > len(other))} for one, other in zip(ONE, OTHER, strict=True)
]


def tuned(rows=ROWS, **settings):
    return bw.finetune("pairs", base=tiny.model(()), train=rows, dev=rows[:20], **{"steps": 2, **settings})


@pytest.fixture(scope="module")
def symmetric():
    return tuned(symmetric=True, steps=6, learning_rate=3e-3).model


def test_a_pair_is_two_segments_between_separators():
    model = tuned(steps=1).model
    examples = Pairs().examples(model, Pairs().read(ROWS))
    token_ids, segment_ids, label, _ = examples.sequence(0, 4)
    tokens = model.tokenizer
    first, second = (tokens.encode(text, special_tokens=False).token_ids for text in (ONE[4], OTHER[4]))
    assert token_ids.tolist() == [tokens.cls_id, *first, tokens.sep_id, *second, tokens.sep_id]
    assert segment_ids.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert label == ROWS[4]["label"]


def test_the_longer_text_is_cut_first():
    rows = [{"text_a": "the " * 30, "text_b": "red river", "label": n % 2} for n in range(20)]
    model = tuned(rows, max_length=16, truncation="head").model
    examples = Pairs().examples(model, Pairs().read(rows))
    token_ids, *_ = examples.sequence(0, 0)
    assert len(token_ids) == 16
    ends = np.flatnonzero(token_ids == model.tokenizer.sep_id)
    assert ends.tolist() == [12, 15], "two tokens of the shorter text, eleven of the longer"


def test_two_columns_of_texts_are_needed():
    with pytest.raises(BothwaysError, match=r"one column that looks like a text, and pairs need two.*--text-pair"):
        Pairs().read([{"text": "the river", "label": "a"}])
    rows = [{"text": "the", "other": "red", "label": "a"}, {"text": "the", "other": "", "label": "b"}]
    assert Pairs(text="text", text_pair="other").read(rows[:1]).pairs == ["red"]
    with pytest.raises(BothwaysError, match="row 2: the text in the column 'other' is empty"):
        Pairs(text="text", text_pair="other").read(rows)


def test_the_order_of_a_symmetric_pair_means_nothing(symmetric):
    there, back = symmetric.class_probabilities(ONE, OTHER), symmetric.class_probabilities(OTHER, ONE)
    assert np.allclose(there, back, atol=1e-6)
    assert np.array_equal(symmetric.score_pairs(ONE, OTHER), there[:, 1])
    plain = tuned(steps=1).model
    assert not np.allclose(plain.class_probabilities(ONE, OTHER), plain.class_probabilities(OTHER, ONE), atol=1e-4)


def test_a_symmetric_answer_is_the_mean_of_both_orders(symmetric):
    def once(first, second):
        symmetric.decoding["classify"]["symmetric"] = False
        found = symmetric.class_probabilities(first, second)
        symmetric.decoding["classify"]["symmetric"] = True
        return found

    temperature = symmetric.decoding["classify"].pop("temperature")
    both = symmetric.class_probabilities(ONE, OTHER)
    assert np.allclose(both, (once(ONE, OTHER) + once(OTHER, ONE)) / 2, atol=1e-6)
    symmetric.decoding["classify"]["temperature"] = temperature


def test_both_orders_of_a_symmetric_pair_are_learned():
    model = tuned(steps=1).model
    data = Pairs().read(ROWS)
    plain, both = (Pairs(symmetric=value).examples(model, data) for value in (False, True))
    assert len(both) == 2 * len(plain)
    assert both.classes.tolist() == plain.classes.tolist() * 2
    swapped = model.tokenizer.encode(OTHER, ONE)
    assert both.sequence(0, 43)[0].tolist() == swapped.sequence(3).tolist()


def test_symmetry_is_saved(tmp_path, symmetric):
    symmetric.save(tmp_path / "model")
    again = bw.load(tmp_path / "model", device="cpu")
    assert np.array_equal(again.class_probabilities(ONE, OTHER), symmetric.class_probabilities(ONE, OTHER))
    assert again.task == "pairs"
    assert bw.evaluate(again, ROWS)["accuracy"] == bw.evaluate(symmetric, ROWS)["accuracy"]


def test_a_word_is_marked_in_both_texts():
    rows = [
        {
            "text_a": "the red river",
            "text_b": "a river",
            "start_a": 8,
            "end_a": 13,
            "start_b": 2,
            "end_b": 7,
            "label": 1,
        }
    ]
    data = Pairs(markers=("<<", ">>")).read(rows)
    assert (data.texts, data.pairs) == (["the red << river >>"], [mark("a river", [(2, 7, ("<<", ">>"))])])
    del rows[0]["end_b"]
    with pytest.raises(BothwaysError, match="lacks the column end_b"):
        Pairs(markers=("<<", ">>")).read(rows)


def test_every_parameter_gets_a_gradient():
    model = tuned(steps=1).model
    modules, item, objective = step_of(Pairs(symmetric=True), model, ROWS)
    from bothways.learn.objectives.protocol import Forward

    objective.loss(modules, Forward(model.encoder, item[0], model.encoder(item[0])), item[1]).total.backward()
    assert [name for name, value in modules.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_baselines_read_both_texts():
    rows = [{"text_a": "the", "text_b": "red" if n % 2 else "stone", "label": n % 2} for n in range(20)]
    data = Pairs().read(rows)
    assert Pairs().baselines(data, data)["TF-IDF + logistic regression"].scores["accuracy"] == 1.0


def test_a_symmetric_temperature_keeps_the_likeliest_class(symmetric):
    logits = class_logits(symmetric, ONE, OTHER)
    assert np.array_equal(logits.argmax(1), symmetric.class_probabilities(ONE, OTHER).argmax(1))


def test_stopped_and_resumed_a_run_gives_the_same_bits(tmp_path):
    assert_resumes_exactly(tmp_path, "pairs", ROWS, {"symmetric": True})
