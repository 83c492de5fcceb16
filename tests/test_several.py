"""Seeds, folds, shares of the data: nothing is made twice, and runs that were killed give what others give."""

from __future__ import annotations

import functools
import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn import curve, group, loop
from bothways.learn.curve import halves
from bothways.learn.folds import Within, deal
from bothways.learn.metrics import classification_scores, regression_scores, several_scores
from bothways.learn.tasks import make_task
from bothways.learn.tasks.classify import Classify

CHEAP = {"steps": 6, "batch_size": 8, "precision": "float32", "learning_rate": 2e-3, "report": False}
WORDS = ("river", "garden", "winter")


def rows(count=60, classes=3):
    """Texts of random words that end in the word of their class."""
    texts = tiny.sentences(count, longest=5)
    return [{"text": f"{text} {WORDS[n % classes]}", "label": "abc"[n % classes]} for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base and a file of rows."""
    folder = tmp_path_factory.mktemp("several")
    tiny.model(heads=("mlm",)).save(folder / "base")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return folder


def learned(data):
    return Classify().read(data)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture
def counted(monkeypatch):
    """The folders in which a fine-tuning was begun."""
    begun = []
    real = group.finetune

    @functools.wraps(real)
    def finetune(task, **given):
        begun.append(given["out"])
        return real(task, **given)

    monkeypatch.setattr(group, "finetune", finetune)
    return begun


# -- seeds


def test_a_seed_among_several_gives_what_it_gives_alone_and_the_best_is_kept(place, tmp_path, counted):
    out = tmp_path / "out"
    given = {"base": place / "base", "train": rows(), "dev": rows(24), **CHEAP}
    found = bw.finetune_seeds("classify", seeds=3, seed=4, out=out, **given)
    assert counted == [out / "seed-4", out / "seed-5", out / "seed-6"]
    alone = bw.finetune("classify", seed=5, **given)
    assert {name: found.runs[1][name] for name in Classify.metrics} == {
        name: alone.scores[name] for name in Classify.metrics
    }
    f1 = [run["macro_f1"] for run in found.runs]
    assert found.best == int(np.argmax(f1))
    assert found.runs[found.best]["macro_f1"] == found.scores["macro_f1"]
    assert found.spread["macro_f1"] == pytest.approx(
        {"mean": np.mean(f1), "std": np.std(f1, ddof=1), "min": min(f1), "max": max(f1)}
    )
    kept, best = weights(out), weights(out / f"seed-{4 + found.best}")
    assert all(torch.equal(kept[name], best[name]) for name in best)
    noted = json.loads((out / "metrics.json").read_text())["seeds"]
    assert noted["spread"] == found.spread
    assert [run["seed"] for run in noted["runs"]] == [4, 5, 6]


def test_without_dev_all_seeds_are_judged_on_the_same_examples(place, tmp_path):
    found = bw.finetune_seeds("classify", base=place / "base", train=rows(), seeds=2, out=tmp_path / "o", **CHEAP)
    data = [json.loads((tmp_path / "o" / f"seed-{n}" / "run.json").read_text())["data"] for n in (0, 1)]
    assert data[0] == data[1]
    assert len(found.rows) == 6


@pytest.mark.parametrize("verb", ["finetune_seeds", "cross_validate"])
def test_the_best_of_several_is_evaluated_beside_its_baselines_and_its_beginning(verb, place, tmp_path):
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    unseen = [{"text": f"{text} river", "label": "a"} for text in tiny.sentences(24, seed=8, longest=9)]
    for path, content in ((train, rows()), (test, [*unseen, {"text": "so unlike it winter garden", "label": "b"}])):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    times = {"finetune_seeds": {"seeds": 2}, "cross_validate": {"folds": 2}}[verb]
    getattr(bw, verb)("classify", base=place / "base", train=str(train), out=tmp_path / "o", **times, **CHEAP)
    told = bw.evaluate(tmp_path / "o", str(test), device="cpu")
    assert [row["role"] for row in told["contenders"]] == ["model", "before", "baseline", "baseline"]


def test_finished_seeds_are_not_run_again_and_more_of_them_may_follow(place, tmp_path, counted):
    given = {"base": place / "base", "train": rows(), "out": tmp_path / "o", **CHEAP}
    two = bw.finetune_seeds("classify", seeds=2, **given)
    again = bw.finetune_seeds("classify", seeds=2, **given)
    assert (again.runs, again.best, again.scores) == (two.runs, two.best, two.scores)
    three = bw.finetune_seeds("classify", seeds=3, **given)
    assert three.runs[:2] == two.runs
    assert [folder.name for folder in counted] == ["seed-0", "seed-1", "seed-2"]


def test_in_memory_and_on_disk_seeds_give_the_same(place, tmp_path):
    given = {"base": place / "base", "train": rows(), "seeds": 2, **CHEAP}
    kept = bw.finetune_seeds("classify", out=tmp_path / "o", **given)
    found = bw.finetune_seeds("classify", **given)
    assert found.spread == kept.spread
    texts = tiny.sentences(5)
    assert np.array_equal(found.model.class_probabilities(texts), kept.model.class_probabilities(texts))


class Killed(BaseException):
    """What ends a run without letting it save anything."""


@pytest.fixture
def killed(monkeypatch):
    """Calls a verb again and again, ended at the n-th step for each n, and at last not ended."""
    real = loop._accumulate

    def run(verb, deaths, **given):
        for death in deaths:
            steps = iter(range(1, death))
            with monkeypatch.context() as patch:

                def accumulate(*arguments, steps=steps):
                    if next(steps, None) is None:
                        raise Killed
                    return real(*arguments)

                patch.setattr(loop, "_accumulate", accumulate)
                with pytest.raises(Killed):
                    verb("classify", **given)
        return verb("classify", **given)

    return run


def test_killed_inside_and_between_seeds_the_figures_are_those_of_a_run_never_killed(place, tmp_path, killed):
    given = {"base": place / "base", "train": place / "rows.jsonl", "seeds": 2, **CHEAP}
    whole = bw.finetune_seeds("classify", out=tmp_path / "whole", **given)
    # within the first seed, then at the first step of the second
    found = killed(bw.finetune_seeds, (3, 7), out=tmp_path / "killed", **given)
    assert found.spread == whole.spread
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_other_settings_or_data_in_the_same_folder_are_refused_before_anything_is_lost(place, tmp_path):
    given = {"base": place / "base", "train": rows(), "seeds": 1, "out": tmp_path / "o", **CHEAP}
    bw.finetune_seeds("classify", **given)
    for changed, said in (({"learning_rate": 1e-4}, "learning_rate"), ({"train": rows(48)}, "sha256|examples")):
        with pytest.raises(BothwaysError, match=said):
            bw.finetune_seeds("classify", **given | changed)
    with pytest.raises(BothwaysError, match="holds other runs"):
        bw.cross_validate("classify", **{k: v for k, v in given.items() if k != "seeds"})
    assert (tmp_path / "o" / "model").exists()
    bw.finetune_seeds("classify", overwrite=True, **given | {"learning_rate": 1e-4})


def test_a_folder_that_holds_one_finished_run_is_not_taken_for_several(place, tmp_path):
    given = {"base": place / "base", "train": rows(), "out": tmp_path / "o", **CHEAP}
    bw.finetune("classify", **given)
    with pytest.raises(BothwaysError, match="holds other runs"):
        bw.finetune_seeds("classify", **given)


# -- mistakes


@pytest.mark.parametrize("verb", [bw.finetune_seeds, bw.cross_validate, bw.learning_curve, bw.tune])
def test_a_metric_or_setting_that_does_not_exist_is_refused_before_the_first_step(verb, place, tmp_path):
    given = {"base": place / "base", "train": rows(), "out": tmp_path / "out", **CHEAP}
    with pytest.raises(BothwaysError, match="macro_f1"):
        verb("classify", metric="macro_f2", **given)
    with pytest.raises(BothwaysError, match=r"has no setting 'fokal'.*'focal'"):
        verb("classify", fokal=2.0, **given)
    assert not (tmp_path / "out").exists()


def test_an_early_stop_needs_a_metric_also_through_seeds(place, tmp_path):
    with pytest.raises(BothwaysError, match="patience"):
        bw.finetune_seeds("classify", base=place / "base", train=rows(), metric=None, patience=2, seeds=1, **CHEAP)


# -- folds


class Dealt:
    """Data of which only truths and groups matter."""

    name = "dealt"

    def __init__(self, truths, groups=None):
        self._truths = truths
        if groups is not None:
            self.groups = lambda: groups

    def __len__(self):
        return len(self._truths)

    def truths(self):
        return self._truths

    def inputs(self):
        return [f"text {place}" for place in range(len(self._truths))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=12, max_size=60), st.integers(2, 6), st.integers(0, 9))
def test_folds_hold_every_example_once_evenly_and_every_class_in_equal_shares(truths, folds, seed):
    dealt = deal(Dealt(truths), folds, seed)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(truths)))
    sizes = [len(fold) for fold in dealt]
    assert max(sizes) - min(sizes) <= 1
    for label in set(truths):
        held = [sum(truths[place] == label for place in fold) for fold in dealt]
        assert max(held) - min(held) <= 1
    assert all(np.array_equal(*pair) for pair in zip(dealt, deal(Dealt(truths), folds, seed), strict=True))


def test_folds_keep_groups_together_and_other_seeds_deal_otherwise():
    groups = [f"text {n // 3}" for n in range(30)]
    dealt = deal(Dealt(["a"] * 30, groups), 4, 0)
    for name in set(groups):
        assert sum(any(groups[place] == name for place in fold) for fold in dealt) == 1
    assert any(not np.array_equal(*pair) for pair in zip(dealt, deal(Dealt(["a"] * 30, groups), 4, 1), strict=True))


def test_folds_keep_equal_texts_together():
    dealt = Dealt(["a"] * 30)
    dealt.inputs = lambda: [f"Text  {n // 3}" if n % 2 else f"text {n // 3}" for n in range(30)]
    folds = deal(dealt, 4, 0)
    assert all(sum(any(place // 3 == text for place in fold) for fold in folds) == 1 for text in range(10))


def test_too_few_examples_for_the_folds_are_told():
    with pytest.raises(BothwaysError, match="3 examples, too few for 5 folds"):
        deal(Dealt(["a", "b", "c"]), 5, 0)
    with pytest.raises(BothwaysError, match="2 groups of examples"):
        deal(Dealt(["a"] * 6, [0, 0, 0, 1, 1, 1]), 3, 0)


def test_cross_validation_judges_each_example_once_by_a_model_that_has_not_seen_it(place, tmp_path, counted):
    data = rows(45)
    given = {"base": place / "base", "train": data, "folds": 3, "out": tmp_path / "o", **CHEAP}
    found = bw.cross_validate("classify", **given)
    assert [row.text for row in found.rows] == [row["text"] for row in data]
    right, guessed = (["abc".index(getattr(row, of)) for row in found.rows] for of in ("truth", "guess"))
    assert found.scores == classification_scores(right, guessed, "abc")
    held = [json.loads((tmp_path / "o" / f"fold-{n}" / "run.json").read_text())["data"] for n in range(3)]
    assert [fold["dev"]["examples"] for fold in held] == [15, 15, 15]
    assert [fold["train"]["examples"] for fold in held] == [30, 30, 30]
    assert found.runs[found.best]["macro_f1"] == max(run["macro_f1"] for run in found.runs)
    kept, best = weights(tmp_path / "o"), weights(tmp_path / "o" / f"fold-{found.best}")
    assert all(torch.equal(kept[name], best[name]) for name in best)
    again = bw.cross_validate("classify", **given)
    assert (again.scores, again.runs) == (found.scores, found.runs)
    assert len(counted) == 3


def test_a_class_with_a_single_example_is_known_in_every_fold(place):
    data = [*rows(24), {"text": "the red book", "label": "rare"}]
    found = bw.cross_validate("classify", base=place / "base", train=data, folds=3, **CHEAP)
    assert found.model.labels == ("a", "b", "c", "rare")
    assert len(found.rows) == 25


@pytest.mark.parametrize("task", ["regress", "pairs"])
def test_other_tasks_are_cross_validated_too(task, place):
    texts = tiny.sentences(36, longest=5)
    data = [
        {"text": text, "label": n % 7 / 2} if task == "regress" else {"text_a": text, "text_b": text, "label": n % 2}
        for n, text in enumerate(texts)
    ]
    found = bw.cross_validate(task, base=place / "base", train=data, folds=3, **CHEAP)
    assert len(found.rows) == 36
    assert found.metric in found.scores


@pytest.mark.parametrize("kind", ["regress", "several", "tag"])
def test_answers_of_all_folds_are_scored_together_as_if_one_model_had_given_them(kind, place):
    """F1 and correlations are no means over examples: what folds have must be judged anew."""
    texts = tiny.sentences(36, longest=5)
    task = "classify" if kind == "several" else kind
    if kind == "regress":
        data = [{"text": text, "label": n % 7 / 2} for n, text in enumerate(texts)]
    elif kind == "several":
        data = [{"text": text, "label": [[], ["a"], ["a", "b"]][n % 3]} for n, text in enumerate(texts)]
    else:
        data = [
            {"tokens": text.split(), "tags": [f"B-{'XY'[n % 2]}"] * len(text.split())} for n, text in enumerate(texts)
        ]
        data[0]["tags"] = ["O"] * len(data[0]["tags"])
    made = make_task(task, {})
    read = made.read(data)
    found = bw.cross_validate(task, base=place / "base", train=data, folds=3, **CHEAP)
    assert [row.text for row in found.rows] == list(read.inputs())
    places = deal(read, 3, 0)
    parts = []
    for number, held in enumerate(places):
        rest = read.take(np.setdiff1d(np.arange(36), held), "rest")
        tuned = bw.finetune(Within(made, read), base=place / "base", train=rest, dev=read.take(held, "x"), **CHEAP)
        parts.append(made.examine(tuned.model, read.take(held, f"fold {number}")))
    if kind == "regress":
        guessed = np.concatenate([part.guesses for part in parts])[np.argsort(np.concatenate(places))]
        assert found.scores == regression_scores([row["label"] for row in data], guessed)
    elif kind == "several":
        right = [["a" in row["label"], "b" in row["label"]] for row in data]
        given_ = [["a" in row.guess.split(", "), "b" in row.guess.split(", ")] for row in found.rows]
        assert found.scores == several_scores(np.array(right), np.array(given_), ("a", "b"))
    else:
        spans = [sum(len(getattr(row, of)) for row in found.rows) for of in ("truth_marks", "guess_marks")]
        both = sum(len(set(row.truth_marks) & set(row.guess_marks)) for row in found.rows)
        assert found.scores["precision"] == pytest.approx(both / spans[1] if spans[1] else 0)
        assert found.scores["recall"] == pytest.approx(both / spans[0])
        assert sum(one["support"] for one in found.scores["classes"].values()) == spans[0]
    assert [row for part in parts for row in part.rows] == [found.rows[at] for at in np.concatenate(places)]


def test_cross_validation_takes_no_dev_set(place):
    with pytest.raises(BothwaysError, match="leave dev away"):
        bw.cross_validate("classify", base=place / "base", train=rows(), dev=rows(), **CHEAP)


# -- learning curve


def test_the_parts_of_a_curve_lie_within_each_other_and_hold_every_class():
    data = learned([*rows(80), {"text": "red", "label": "rare"}])
    parts = [*halves(Classify(), data, 3, 0), data]
    sets = [set(zip(part.texts, part.truths(), strict=True)) for part in parts]
    assert all(small < large for small, large in pairwise(sets))
    assert all(set(part.truths()) == {"a", "b", "c", "rare"} for part in parts)
    assert [len(part) for part in halves(Classify(), data, 3, 0)] == [len(part) for part in parts[:-1]]
    sizes = Counter(len(part) for part in parts)
    assert sum(sizes.values()) == 4
    assert 8 <= min(sizes) <= 13


def test_a_curve_ends_with_the_ordinary_run_and_is_noted_as_plain_data(place, tmp_path, counted):
    given = {"base": place / "base", "train": rows(), "dev": rows(24), **CHEAP}
    found = bw.learning_curve("classify", halvings=2, out=tmp_path / "o", **given)
    assert [point["share"] for point in found.points] == [0.25, 0.5, 1.0]
    assert [point["examples"] for point in found.points][-1] == 60
    assert len(counted) == 2
    whole = bw.finetune("classify", **given)
    assert found.points[-1]["macro_f1"] == whole.scores["macro_f1"]
    assert json.loads((tmp_path / "o" / "metrics.json").read_text())["curve"] == found.points
    assert (tmp_path / "o" / "run.json").exists()
    assert not (tmp_path / "o" / "curve").exists()


def test_a_curve_does_not_begin_where_another_run_is(place, tmp_path, counted):
    given = {"base": place / "base", "train": rows(), "out": tmp_path / "o", **CHEAP}
    bw.finetune("classify", **given)
    with pytest.raises(BothwaysError, match="another run"):
        bw.learning_curve("classify", **given)
    assert counted == []


def test_a_killed_curve_goes_on(place, tmp_path, killed):
    given = {"base": place / "base", "train": place / "rows.jsonl", "halvings": 1, **CHEAP}
    whole = bw.learning_curve("classify", **given)
    assert killed(bw.learning_curve, (3, 8), out=tmp_path / "o", **given).points == whole.points


def type_curve(place, out, capsys):
    """Types a learning curve with its report; what it prints."""
    shared = f"{place}/rows.jsonl --base {place}/base --steps 4 --batch-size 8 --precision float32 --json --quiet"
    capsys.readouterr()
    assert main(f"finetune classify {shared} --curve --out {out}".split()) == 0
    return json.loads(capsys.readouterr().out)["curve"]


@pytest.mark.parametrize("at", ["a part", "the whole", "its end"])
def test_a_curve_that_was_stopped_is_typed_again_and_drawn_as_if_it_never_was(place, tmp_path, capsys, monkeypatch, at):
    out = tmp_path / "o"
    with monkeypatch.context() as patch:
        steps = iter(range({"a part": 6, "the whole": 14, "its end": 99}[at]))
        real = loop._accumulate

        def accumulate(*arguments):
            if next(steps, None) is None:
                raise Killed
            return real(*arguments)

        def note(*arguments, **named):
            raise Killed

        patch.setattr(loop, "_accumulate", accumulate)
        patch.setattr(curve, "note_metrics", note)
        with pytest.raises(Killed):
            type_curve(place, out, capsys)
    points = type_curve(place, out, capsys)
    if at == "a part":
        assert points == type_curve(place, tmp_path / "whole", capsys)
    assert [point["share"] for point in points] == [0.125, 0.25, 0.5, 1.0]
    noted = json.loads((out / "metrics.json").read_text())
    assert noted["curve"] == points
    assert noted["macro_f1"] == points[-1]["macro_f1"], "the report is of the run on all examples"
    assert "What more data brings" in (out / "report.html").read_text()
    assert not (out / "curve").exists()


# -- two stages, and the command line


def test_a_fine_tuned_model_with_another_head_is_a_base_for_the_next_stage(place, tmp_path):
    """Intermediate tasks (Phang et al. 2018): heads are new, the encoder goes on from where it was."""
    scored = [{"text": row["text"], "label": n / 2} for n, row in enumerate(rows())]
    bw.finetune("regress", base=place / "base", train=scored, out=tmp_path / "first", **CHEAP)
    second = bw.finetune("classify", base=tmp_path / "first", train=rows(), out=tmp_path / "second", **CHEAP)
    assert second.model.labels == ("a", "b", "c")
    assert second.model.head_configs["classify"].problem == "one"
    opened = bw.load(tmp_path / "second", device="cpu")
    assert opened.task == "classify"
    assert opened.classify("the river").label in "abc"
    first = bw.load(tmp_path / "first", device="cpu")
    started = bw.finetune("classify", base=first, train=rows(), **CHEAP | {"steps": 1, "learning_rate": 1e-12}).model
    for name, value in first.encoder.state_dict().items():
        assert torch.allclose(started.encoder.state_dict()[name], value, atol=1e-6), name


def test_the_command_line_runs_seeds_and_folds_and_repeats_them(place, tmp_path, capsys):
    shared = f"{place}/rows.jsonl --base {place}/base --steps 4 --batch-size 8 --precision float32 --json --quiet"
    assert main(f"finetune classify {shared} --seeds 2 --out {tmp_path}/s".split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["seed"] for run in told["runs"]] == [0, 1]
    assert (tmp_path / "s" / "report.html").exists()
    assert main(f"finetune classify --from {tmp_path}/s/run.json --out {tmp_path}/again --json --quiet".split()) == 0
    assert json.loads(capsys.readouterr().out)["spread"] == told["spread"]
    assert main(f"finetune classify {shared} --folds 2 --out {tmp_path}/f".split()) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 60
    assert main(f"finetune classify {shared} --curve --seeds 2 --out {tmp_path}/x".split()) == 2
    assert "give one of them" in capsys.readouterr().err
