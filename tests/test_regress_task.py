"""Scores of any range: learned in one scale, saved in another, measured by correlation."""

import math

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import pearsonr, spearmanr

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.metrics import regression_scores
from bothways.learn.objectives.protocol import Forward
from bothways.learn.settings import LoopSettings
from bothways.learn.tasks.regress import Regress
from learner_tasks import assert_resumes_exactly, step_of

TEXTS = tiny.sentences(50, seed=5, longest=12)
ROWS = [{"text": text, "score": 1000.0 + 3.5 * len(text)} for text in TEXTS]


def tuned(rows=ROWS, **settings):
    return bw.finetune("regress", base=tiny.model(()), train=rows, dev=rows[:20], **{"steps": 4, **settings})


def test_the_scale_is_folded_into_the_weights():
    task = Regress()
    data = task.read(ROWS)
    start = tiny.model(())
    model = bw.Model.random(start.config, start.tokenizer, task.heads(start, data), device="cpu")
    said = task.begin(model, data)
    assert said == f"scores from {min(data.labels):g} to {max(data.labels):g}, on average {np.mean(data.labels):.3g}"
    right = task.examples(model, data).classes
    assert (right.mean(), right.std()) == pytest.approx((0, 1), abs=1e-5)
    before = model.score(TEXTS)
    assert before.mean() == pytest.approx(np.mean(data.labels), rel=0.1), "in the units of the data from the beginning"
    task.finish(model, data)
    assert "scale" not in model.decoding["classify"]
    assert np.allclose(model.score(TEXTS), before, rtol=1e-6)
    task.finish(model, data)
    assert np.allclose(model.score(TEXTS), before, rtol=1e-6), "folded once"


def test_a_saved_model_gives_the_same_and_transformers_the_same_number(tmp_path):
    model = tuned(reads="pooled", hidden="none").model
    model.save(tmp_path / "model")
    expected = model.score(TEXTS[:8])
    assert np.array_equal(bw.load(tmp_path / "model", device="cpu").score(TEXTS[:8]), expected)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert (theirs.config.problem_type, theirs.config.num_labels) == ("regression", 1)
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")(
        TEXTS[:8], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        assert np.allclose(theirs(**tokens).logits[:, 0].numpy(), expected, rtol=1e-5)
    (tmp_path / "model" / "bothways.json").unlink()
    assert np.allclose(bw.load(tmp_path / "model", device="cpu").score(TEXTS[:8]), expected, rtol=1e-5)


def test_a_model_of_one_number_is_a_regression_as_transformers_has_it(tmp_path):
    config = tiny.config("bert", embeddings__vocab_size=tiny.tokenizer().size)
    from bothways.model.families import family

    theirs = transformers.BertForSequenceClassification(
        transformers.BertConfig(**{**family("bert").to_hf(config), "num_labels": 1})
    ).eval()
    theirs.save_pretrained(tmp_path)
    tiny.tokenizer().save(tmp_path)
    model = bw.load(tmp_path, device="cpu")
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS[:5], return_tensors="pt", padding=True)
    with torch.no_grad():
        assert np.allclose(model.score(TEXTS[:5]), theirs(**tokens).logits[:, 0].numpy(), atol=1e-5)


def test_one_text_gives_a_number_and_pairs_may_be_symmetric():
    rows = [{"text_a": a, "text_b": b, "score": len(a)} for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    model = tuned(rows, symmetric=True).model
    assert isinstance(model.score("the river", "red"), float)
    assert model.score_pairs("the river", "red") == pytest.approx(model.score_pairs("red", "the river"), rel=1e-5)
    assert np.array_equal(model.score_pairs(TEXTS, TEXTS[::-1]), model.score(TEXTS, TEXTS[::-1]))
    with pytest.raises(BothwaysError, match=r"gives scores, not classes: bothways predict"):
        model.classify("the river", "red")


def test_windows_of_a_long_text_are_averaged():
    model = tuned(max_length=16, truncation="window").model
    long = " ".join(TEXTS[:4])
    encoded = model.encode([long])
    assert len(encoded) > 1
    parts = [
        float(model.heads["classify"](model.encoder(encoded.batch([n])))[0, 0].detach()) for n in range(len(encoded))
    ]
    assert model.score(long) == pytest.approx(np.average(parts, weights=encoded.lengths), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("the", 1), ("red", "good")], r"row 2: the score in the column 'label' should be a number, not 'good'"),
        ([("the", 1), ("red", math.inf)], r"row 2: the score .* should be a number, not inf"),
        ([("the", 1), ("red", None)], r"row 2: there is no score in the column 'label'"),
        ([("the", 1), ("red", True)], r"row 2: the score .* not True"),
        ([("the", 1), ("", 2)], r"row 2: the text in the column 'text' is empty"),
        ([("the", 1), ("red", 1)] * 9, "the score 1 everywhere"),
    ],
)
def test_scores_that_do_not_do_are_refused_where_they_stand(rows, said):
    with pytest.raises(BothwaysError, match=said):
        tuned(rows)


def test_symmetry_needs_pairs():
    with pytest.raises(BothwaysError, match="symmetric is about pairs of texts"):
        tuned(symmetric=True)


def test_scores_are_what_they_are_called():
    random = np.random.default_rng(0)
    right, guessed = random.normal(size=80), random.normal(size=80)
    guessed[:20] = guessed[0]
    scores = regression_scores(right, guessed)
    assert scores["pearson"] == pytest.approx(pearsonr(right, guessed)[0])
    assert scores["spearman"] == pytest.approx(spearmanr(right, guessed)[0])
    assert scores["mse"] == pytest.approx(np.mean((right - guessed) ** 2))
    assert scores["mae"] == pytest.approx(np.mean(np.abs(right - guessed)))
    assert regression_scores(right, np.full(80, 0.1))["pearson"] == 0
    with pytest.raises(BothwaysError, match="nothing to score"):
        regression_scores([], [])


def test_resampled_scores_are_those_of_the_resample():
    model, task = tuned().model, Regress()
    data = task.read(ROWS)
    examined = task.examine(model, data)
    places = np.random.default_rng(0).integers(0, len(data), 30)
    again = task.examine(model, data.take(places, "resampled")).scores
    assert examined.resampled(places) == pytest.approx({name: again[name] for name in task.metrics})
    assert examined.rows[3].credit == pytest.approx(-abs(float(model.score(TEXTS[3])) - ROWS[3]["score"]), rel=1e-4)


def test_errors_are_better_when_lower():
    for metric, better in (("mse", 1.0), ("mae", 1.0), ("spearman", 3.0)):
        settings = LoopSettings(learning_rate=1e-3, steps=1, metric=metric)
        assert settings.improves(better, 2.0)
        assert not settings.improves(4.0 - better, 2.0)


def test_a_split_keeps_the_range():
    data = Regress().read([{"text": f"the {n}", "score": n} for n in range(200)])
    kept, held = Regress().split(data, 0.1, seed=2)
    assert (len(kept), len(held)) == (180, 20)
    assert np.bincount(np.array(held.labels, dtype=int) // 20).tolist() == [2] * 10


def test_baselines_are_the_mean_and_words():
    rows = [{"text": "red stone" if n % 2 else "river garden", "score": 5 * (n % 2)} for n in range(20)]
    data = Regress().read(rows)
    found = Regress().baselines(data, data)
    assert found["mean"].scores["mse"] == pytest.approx(6.25)
    assert found["TF-IDF + ridge regression"].scores["pearson"] > 0.99


def test_every_parameter_gets_a_gradient():
    task = Regress()
    model = bw.finetune("regress", base=tiny.model(()), train=ROWS, dev=ROWS[:9], steps=1).model
    task.begin(model, task.read(ROWS))
    modules, item, objective = step_of(task, model, ROWS)
    loss = objective.loss(modules, Forward(model.encoder, item[0], model.encoder(item[0])), item[1])
    loss.total.backward()
    without = [name for name, value in modules.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []
    assert loss.hits is None


def test_stopped_and_resumed_a_run_gives_the_same_bits(tmp_path):
    assert_resumes_exactly(tmp_path, "regress", ROWS, {})
