"""Classes of texts: what is inferred, learned, fitted and saved."""

import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.metrics import (
    classification_scores,
    confusion_counts,
    confusion_metrics,
    several_counts,
    several_metrics,
    several_scores,
)
from bothways.learn.objectives.protocol import Forward
from bothways.learn.tasks.classify import Classify
from bothways.learn.tasks.labels import balanced_numbers, class_names, stratified_split
from bothways.run.answering.classify import class_logits, tempered
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.markers import mark
from learner_tasks import assert_resumes_exactly, step_of

TEXTS = tiny.sentences(60, seed=3, longest=12)
WORDS = ("the", "of", "river", "red")


def several_rows(count=60):
    return [{"text": text, "labels": [word for word in WORDS if word in text.split()]} for text in TEXTS[:count]]


def one_rows(count=60):
    return [{"text": text, "label": "yes" if len(text) > 30 else "no"} for text in TEXTS[:count]]


def tuned(rows, **settings):
    return bw.finetune("classify", base=tiny.model(()), train=rows, dev=rows[:30], **{"steps": 2, **settings})


@pytest.fixture(scope="module")
def several():
    return tuned(several_rows(), steps=8, learning_rate=3e-3).model


# -- what the data say


def said_of(rows, **settings):
    task = Classify(**settings)
    data = task.read(rows)
    start = tiny.model(())
    model = bw.Model.random(start.config, start.tokenizer, task.heads(start, data), device="cpu")
    return data, model, task.begin(model, data)


def test_two_classes_are_binary_and_more_are_one_of_several():
    data, model, said = said_of([("the river", "a"), ("red", "b")])
    assert said == "binary: a, b"
    assert model.head_configs["classify"].problem == "one"
    assert not data.several
    assert said_of([("the river", 10), ("red", 9), ("stone", 1)])[2] == "one of 3 classes: 1, 9, 10"


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        ([{"text": "the", "labels": ["a", "b"]}, {"text": "red", "labels": []}], {}),
        ([{"text": "the", "label": "a; b"}, {"text": "red", "label": ""}], {"label_separator": ";"}),
        (
            [{"text": "the", "a": 1, "b": "1"}, {"text": "red", "a": 0, "b": "0.0"}],
            {"label_columns": ["a", "b"]},
        ),
    ],
)
def test_several_labels_come_as_lists_or_with_a_separator_or_a_column_each(rows, settings):
    data, model, said = said_of(rows, **settings)
    assert list(data.labels) == [("a", "b"), ()]
    assert said == "several of 2 labels may hold (1 a text): a, b"
    assert model.head_configs["classify"].problem == "several"


def test_a_separator_means_nothing_unless_it_is_said():
    assert said_of([("the", "a, b"), ("red", "c")])[2] == "binary: a, b, c"


def test_the_problem_can_be_said():
    data, _, said = said_of([{"text": "the", "labels": ["a"]}, {"text": "red", "labels": ["b"]}], problem="one")
    assert (list(data.labels), said) == (["a", "b"], "binary: a, b")
    assert list(said_of([("the", "a"), ("red", "b")], problem="several")[0].labels) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([("the", "a"), ("red", "a")], {}, "the single class 'a'"),
        ([("the", 0.5), ("red", 1.0)], {}, r"row 1: the label 0\.5 is a number.*did you mean finetune regress"),
        ([("the", "a"), (" ", "b")], {}, r"row 2: the text in the column 'text' is empty"),
        ([("the", "a"), ("red", None)], {}, r"row 2: there is no label in the column 'label'"),
        (
            [{"text": "the", "label": ["a"]}, {"text": "red", "label": "b"}],
            {},
            "row 2 has a single label where the rows before have a list of labels",
        ),
        (
            [{"text": "the", "label": ["a", "b"]}, {"text": "red", "label": ["b"]}],
            {"problem": "one"},
            r"row 1 has 2 labels \(a, b\) where one class",
        ),
        ([{"text": "the", "label": ["a"]}, {"text": "red", "label": ["a"]}], {}, "the same labels everywhere"),
        (
            [{"text": "the", "a": 1, "b": 2}],
            {"label_columns": ["a", "b"]},
            r"row 1: the column 'b' should say 0 or 1, not 2",
        ),
        ([{"text": "the", "a": 1}], {"label_columns": ["a", "c"]}, "no column 'c'"),
    ],
)
def test_labels_that_do_not_do_are_refused_where_they_stand(rows, settings, said):
    with pytest.raises(BothwaysError, match=said):
        said_of(rows, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"problem": "multi"}, "problem must be 'one' or 'several', not 'multi'"),
        ({"class_weights": "balanced"}, "class_weights must be 'auto'"),
        ({"sampler": "balance"}, "did you mean 'balanced'"),
        ({"class_weights": "auto", "sampler": "balanced"}, "give one of them"),
        ({"focal": -1}, "focal must be 0 or more"),
        ({"label_smoothing": 1}, "label_smoothing must be 0 or more and below 1"),
        ({"markers": "<< >> [["}, "two .* or four"),
        ({"reads": "last"}, "reads must be"),
        ({"class_weights": {"may be": 2.0}}, "names 'may be', which is no class"),
    ],
)
def test_settings_that_do_not_do_are_refused(settings, said):
    with pytest.raises(BothwaysError, match=said):
        tuned(one_rows(), **settings)


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(BothwaysError, match=r"not measured by 'f1'.*macro_f1, accuracy, mcc"):
        tuned(one_rows(), metric="f1")


def no_step(event):
    raise AssertionError("a mistake in the dev set is told before the first step")


def test_a_label_that_training_did_not_see_is_named_with_its_row(tmp_path):
    file = tmp_path / "dev.csv"
    file.write_text('text,label\nthe river,no\n"red, red",yess\n')
    with pytest.raises(BothwaysError, match=r"dev\.csv, line 3 has the label 'yess'.*did you mean 'yes'"):
        bw.finetune("classify", base=tiny.model(()), train=one_rows(), dev=file, steps=1, callbacks=[no_step])


def test_a_quote_that_never_closes_is_named_with_its_row(tmp_path):
    file = tmp_path / "train.csv"
    file.write_text('text,label\nthe river,no\n"red,yes\nstone,no\n')
    with pytest.raises(BothwaysError, match=r"train\.csv, line 3: not a CSV row .*check its quotes"):
        Classify().read(file)


# -- splits and draws


def test_a_split_keeps_the_share_of_rare_labels():
    rows = [{"text": f"the {n}", "labels": ["often", "rare"] if n % 10 == 0 else ["often"]} for n in range(200)]
    kept, held = stratified_split(Classify().read(rows), 0.2, seed=1)
    assert (len(kept), len(held)) == (160, 40)
    assert sum("rare" in labels for labels in held.labels) == 4


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=30),
    share=st.sampled_from([0.05, 0.1, 0.2, 0.5]),
    seed=st.integers(0, 9),
)
def test_a_split_holds_its_share_of_all_and_no_class_is_only_there(sizes, share, seed):
    rows = [{"text": f"{c} {n}", "label": f"c{c}"} for c, size in enumerate(sizes) for n in range(size)]
    kept, held = stratified_split(Classify().read(rows), share, seed)
    assert sorted([*kept.texts, *held.texts]) == sorted(row["text"] for row in rows)
    shared = [size for size in sizes if size > 1]
    if shared:
        assert set(kept.labels) == {row["label"] for row in rows}
    wanted = round(share * len(rows))
    assert 1 <= len(held) <= max(1, wanted)
    if min(sizes) > 2:
        assert len(held) == max(1, wanted)


def test_numbers_come_first_and_what_is_none_is_a_name():
    rows = [{"text": f"t {label}", "label": label} for label in ("nan", "10", "inf", "2", "b", "1")]
    assert class_names(Classify().read(rows)) == ("1", "2", "10", "b", "inf", "nan")


def test_a_balanced_epoch_holds_every_group_as_often_as_the_largest():
    groups = np.array([0] * 50 + [1] * 7 + [3] * 20)
    numbers = balanced_numbers(groups, seed=4)
    assert np.bincount(groups[numbers]).tolist() == [50, 50, 0, 50]
    times = np.bincount(numbers, minlength=len(groups))
    for group in (0, 1, 3):
        assert np.ptp(times[groups == group]) <= 1, "none of a group more often than another by more than one"
    assert times.min() >= 1
    assert np.array_equal(numbers, balanced_numbers(groups, seed=4))
    assert not np.array_equal(numbers, balanced_numbers(groups, seed=5))


def test_rare_classes_are_drawn_more_often_in_training():
    rows = [(text, "rare" if n < 6 else "often") for n, text in enumerate(TEXTS)]
    task = Classify(sampler="balanced")
    _, model, _ = said_of(rows)
    examples = task.examples(model, task.read(rows))
    classes = examples.classes[task.numbers(examples, 0)]
    assert np.bincount(classes).tolist() == [54, 54]
    assert Classify().numbers(examples, 0) is None


def test_weights_by_name_are_one_on_average():
    rows = [(text, "rare" if n < 6 else "often") for n, text in enumerate(TEXTS)]
    _, model, _ = said_of(rows)
    weights = Classify(class_weights={"rare": 9.0}).objective(model, Classify().read(rows)).weights
    assert weights[1] / weights[0] == pytest.approx(9)
    assert (54 * weights[0] + 6 * weights[1]) / 60 == pytest.approx(1)


def test_every_parameter_gets_a_gradient():
    for rows in (one_rows(), several_rows()):
        _, model, _ = said_of(rows)
        task = Classify(class_weights="auto", focal=1.0, label_smoothing=0.1)
        modules, item, objective = step_of(task, model, rows)
        forward = Forward(model.encoder, item[0], model.encoder(item[0]))
        loss = objective.loss(modules, forward, item[1])
        loss.total.backward()
        without = [name for name, value in modules.named_parameters() if value.grad is None or not value.grad.any()]
        assert [name for name in without if "segments" not in name] == []


# -- fitted afterwards


def test_a_higher_threshold_never_gives_a_label_more(several):
    fitted = dict(several.decoding["classify"]["thresholds"])
    assert set(fitted) == set(several.labels)
    before = None
    for step in np.linspace(0, 1, 9):
        several.decoding["classify"]["thresholds"] = {
            label: value + (1 - value) * step for label, value in fitted.items()
        }
        given = [set(found.labels) for found in several.classify(TEXTS)]
        assert before is None or all(now <= then for now, then in zip(given, before, strict=True))
        before = given
    several.decoding["classify"]["thresholds"] = fitted


def test_labels_stand_in_the_order_of_their_probability(several):
    shown = [found for found in several.classify(TEXTS) if len(found.labels) > 1]
    assert shown
    for found in shown:
        shares = [found.probabilities[label] for label in found.labels]
        assert shares == sorted(shares, reverse=True)
    assert not all(abs(sum(found.probabilities.values()) - 1) < 0.1 for found in shown), "each decided by itself"


def test_windows_are_averaged_and_a_temperature_keeps_their_likeliest_class():
    model = tiny.model(("classify",), truncation="window", embeddings__positions=16, max_length=16)
    texts = [*TEXTS[:10], " ".join(TEXTS[10:20])]
    plain = model.class_probabilities(texts)
    model.decoding["classify"] = {"temperature": 4.0}
    flat = model.class_probabilities(texts)
    assert np.array_equal(plain.argmax(1), flat.argmax(1))
    assert (flat.max(1) < plain.max(1)).all()
    assert np.allclose(tempered(class_logits(model, texts), "one"), plain, atol=1e-6), "temperature stays outside"


@pytest.mark.parametrize("truncation", ["head_tail", "window"])
def test_long_texts_are_learned_and_answered_alike(truncation):
    rows = [{"text": " ".join(TEXTS[n : n + 6]), "label": "ab"[n % 2]} for n in range(40)]
    model = tuned(rows, max_length=24, truncation=truncation).model
    data = Classify().read(rows)
    examples = Classify().examples(model, data)
    sequences = [examples.sequence(0, number) for number in range(len(examples))]
    assert max(len(token_ids) for token_ids, *_ in sequences) <= 24
    assert (len(examples) > len(rows)) == (truncation == "window")
    assert np.array_equal(examples.classes, np.array([n % 2 for n in range(40)])[list(examples.encoded.texts)])
    encoded = model.encode(data.texts)
    assert np.array_equal(encoded.token_ids, np.concatenate([token_ids for token_ids, *_ in sequences]))
    assert np.array_equal(encoded.segment_ids, np.concatenate([segment_ids for _, segment_ids, *_ in sequences]))
    assert model.class_probabilities(data.texts).shape == (40, 2)


# -- scores


def test_scores_of_several_labels_by_hand():
    flags = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    given = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    scores = several_scores(flags, given, ["a", "b", "c"])
    assert scores["classes"]["a"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2})
    assert scores["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2), "c does not occur"
    assert scores["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert scores["accuracy"] == 0.5
    assert scores["mcc"] == pytest.approx(np.corrcoef(flags.ravel(), given.ravel())[0, 1])
    assert json.loads(json.dumps(scores)) == scores


def test_resampled_scores_are_those_of_the_resample(several):
    random = np.random.default_rng(0)
    data = Classify().read(several_rows())
    examined = Classify().examine(several, data)
    places = random.integers(0, len(data), 50)
    again = Classify().examine(several, data.take(places, "resampled")).scores
    assert examined.resampled(places) == pytest.approx({name: again[name] for name in examined.resampled(places)})
    assert examined.probabilities.shape == (len(data) * len(several.labels), 2)
    assert all(0 <= row.credit <= 1 and 0 <= row.doubt <= 1 for row in examined.rows)
    right, guess = random.integers(0, 3, 60), random.integers(0, 3, 60)
    whole = classification_scores(right, guess, "abc")
    assert confusion_metrics(confusion_counts(right, guess, 3)) == pytest.approx(
        {name: whole[name] for name in ("macro_f1", "accuracy", "mcc")}
    )
    flags, given = random.random((30, 4)) < 0.4, random.random((30, 4)) < 0.4
    whole = several_scores(flags, given, "abcd")
    assert several_metrics(several_counts(flags, given).sum(0), 30)["mcc"] == whole["mcc"]


def test_baselines_of_several_labels_learn_words():
    rows = several_rows()
    data = Classify().read(rows)
    found = Classify().baselines(data, data)
    assert found["TF-IDF + logistic regression"].scores["macro_f1"] > 0.9
    assert found["majority"].scores["macro_f1"] < 0.7
    assert class_names(data) == tuple(sorted(WORDS))


# -- entities


def test_markers_stand_around_entities_even_within_each_other():
    assert mark("a gene acts", [(2, 6, ("<<", ">>"))]) == "a << gene >> acts"
    assert mark("big genes", [(0, 9, ("<<", ">>")), (4, 9, ("[[", "]]"))]) == "<< big [[ genes ]] >>"
    with pytest.raises(BothwaysError, match="two entities cross, 'big g' and 'genes'"):
        mark("big genes", [(0, 5, ("<<", ">>")), (4, 9, ("[[", "]]"))])


def relation(text, head, tail, label="a"):
    places = {"head_start": head[0], "head_end": head[1], "tail_start": tail[0], "tail_end": tail[1]}
    return {"text": text, **places, "label": label}


def test_rows_say_where_entities_are():
    data = Classify(markers="<< >> [[ ]]").read([relation("the red river", (4, 7), (8, 13))])
    assert data.texts == ["the << red >> [[ river ]]"]
    with pytest.raises(BothwaysError, match=r"row 1: head_start 4 and head_end 99 are no part of its 13 characters"):
        Classify(markers="<< >> [[ ]]").read([relation("the red river", (4, 99), (8, 13))])
    marked = [("the << red >> [[ river ]]", "a")]
    assert Classify(markers="<< >> [[ ]]").read(marked).texts == [marked[0][0]], "marked already"
    with pytest.raises(BothwaysError, match=r"row 1: the text holds no marker '<<'.*head_start"):
        Classify(markers="<< >> [[ ]]").read([("the red river", "a")])


def test_a_saved_model_marks_entities_as_in_training(tmp_path):
    rows = [relation(text, (0, 1), (2, 3), "ab"[n % 2]) for n, text in enumerate(t for t in TEXTS if len(t) > 3)]
    tuned(rows, markers="<< >> [[ ]]").model.save(tmp_path / "model")
    model = bw.load(tmp_path / "model", device="cpu")
    assert bw.evaluate(model, rows)["accuracy"] == bw.evaluate(model, rows, markers="<< >> [[ ]]")["accuracy"]
    from bothways.use.bulk import predict

    out = tmp_path / "out.jsonl"
    predict(model, [{k: v for k, v in row.items() if k != "label"} for row in rows], out)
    found = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
    marked = Classify(markers="<< >> [[ ]]").read(rows).texts
    assert found == [one.label for one in model.classify(marked)]


def test_a_text_that_may_not_be_cut_is_told_with_its_line(tmp_path):
    lines = [json.dumps(row) for row in one_rows()]
    lines.insert(7, json.dumps({"text": "river " * 40, "label": "yes"}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    with pytest.raises(BothwaysError, match=r"rows\.jsonl, line 8 has 40 tokens where 30 fit.*window"):
        bw.finetune(
            "classify",
            base=tiny.model(()),
            train=tmp_path / "rows.jsonl",
            dev=one_rows()[:20],
            max_length=32,
            truncation="error",
            steps=1,
        )


@pytest.mark.parametrize(
    ("base", "settings", "hint"),
    [
        (tiny.model(()), {}, ""),
        (tiny.model((), pooler=None), {}, "this base has no pooler that learned anything: --reads mean"),
        (tiny.model((), pooler=None), {"reads": "first"}, ""),
        (
            tiny.model((), recipe=SentenceRecipe("mean", stated=True)),
            {},
            "to be read by the mean of its tokens: --reads mean",
        ),
    ],
    ids=["pooled", "no pooler", "asked for", "sentences"],
)
def test_what_a_base_is_better_read_by_is_told(base, settings, hint, capsys):
    bw.finetune("classify", base=base, train=one_rows(), dev=one_rows(30), steps=1, **settings)
    told = capsys.readouterr().err
    assert (hint in told) if hint else ("--reads" not in told)


# -- saved and resumed


@pytest.mark.parametrize(
    ("rows", "problem"), [(one_rows(), "single_label_classification"), (several_rows(), "multi_label_classification")]
)
def test_a_saved_model_gives_the_same_and_transformers_the_same_logits(tmp_path, rows, problem):
    model = tuned(rows, reads="pooled", hidden="none").model
    model.save(tmp_path / "model")
    again = bw.load(tmp_path / "model", device="cpu")
    assert again.classify(TEXTS) == model.classify(TEXTS)
    assert again.decoding == model.decoding
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert theirs.config.problem_type == problem
    assert tuple(theirs.config.id2label.values()) == model.labels
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")(
        TEXTS[:8], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        logits = theirs(**tokens).logits.numpy()
    assert np.allclose(logits, class_logits(model, TEXTS[:8]), atol=1e-5)
    (tmp_path / "model" / "bothways.json").unlink()
    foreign = bw.load(tmp_path / "model", device="cpu")
    assert foreign.head_configs["classify"].problem == model.head_configs["classify"].problem
    assert np.allclose(class_logits(foreign, TEXTS[:8]), logits, atol=1e-5)


def test_how_labels_were_written_is_remembered(tmp_path):
    rows = [{"text": row["text"], "label": ";".join(row["labels"])} for row in several_rows()]
    model = tuned(rows, label_separator=";").model
    model.save(tmp_path / "model")
    again = bw.load(tmp_path / "model", device="cpu")
    assert bw.evaluate(again, rows)["examples"] == len(rows)


def test_scores_are_not_classes(several):
    with pytest.raises(BothwaysError, match=r"gives classes, not scores: bothways predict"):
        several.score("the river")
    with pytest.raises(BothwaysError, match="score_pairs needs scores or two classes"):
        several.score_pairs("the river", "red")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("one", {"sampler": "balanced", "focal": 1.0}), ("several", {"class_weights": "auto", "label_smoothing": 0.1})],
)
def test_stopped_and_resumed_a_run_gives_the_same_bits(tmp_path, kind, settings):
    rows = one_rows() if kind == "one" else several_rows()
    assert_resumes_exactly(tmp_path, "classify", rows, settings)


def test_a_model_of_single_texts_is_not_asked_about_pairs_nor_the_other_way_round(tmp_path):
    single = bw.finetune("classify", base=tiny.model(()), train=one_rows(), dev=one_rows()[:20], steps=1, report=False)
    rows = [{"text_a": row["text"], "text_b": "river", "label": row["label"]} for row in one_rows()]
    double = bw.finetune("pairs", base=tiny.model(()), train=rows, dev=rows[:20], steps=1, report=False)
    for asked in (single.model.score_pairs, single.model.classify):
        with pytest.raises(BothwaysError, match="was trained on single texts, and cannot be asked about pairs"):
            asked(["a text"], ["another"])
    with pytest.raises(BothwaysError, match="was trained on pairs of texts, and cannot be asked about single texts"):
        double.model.classify(["a text"])
    double.model.save(tmp_path / "pairs")
    with pytest.raises(BothwaysError, match="was trained on pairs"):
        bw.load(tmp_path / "pairs", device="cpu").classify("a text")


def test_a_text_in_the_column_of_labels_is_taken_for_a_slip():
    swapped = [{"text": row["label"], "label": row["text"]} for row in one_rows()]
    with pytest.raises(BothwaysError, match="which looks like a text; name the columns with --text and --label"):
        bw.finetune(
            "classify", base=tiny.model(()), train=swapped, dev=[{"text": "yes", "label": "one " * 12}], steps=1
        )
