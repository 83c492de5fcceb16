"""The search for settings: what is typed is understood, nothing is tried twice, and the best can be had again."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn import loop
from bothways.learn.tune import _suited_space, searchable
from bothways.learn.tuning import study
from bothways.learn.tuning.search import Choices, Range, read_search
from bothways.learn.tuning.settings import TuningSettings
from bothways.run.sentence_folder import SentenceRecipe

pytest.importorskip("optuna")
HINTS = searchable("classify")
SEARCH = {"learning_rate": "1e-5:1e-2:log", "batch_size": [8, 16]}
WORDS = ("river", "garden", "winter")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base and a file of rows, whose last word says the class."""
    folder = tmp_path_factory.mktemp("tune")
    tiny.model(heads=("mlm",)).save(folder / "base")
    texts = tiny.sentences(60, longest=5)
    rows = [{"text": f"{text} {WORDS[n % 3]}", "label": "abc"[n % 3]} for n, text in enumerate(texts)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture
def given(place):
    """What every search here shares."""
    fixed = {"steps": 6, "precision": "float32", "report": False}
    return {"base": str(place / "base"), "train": str(place / "rows.jsonl"), "search": SEARCH, **fixed}


@pytest.fixture
def made(monkeypatch):
    """The settings of the fine-tunings that were begun."""
    begun = []
    real = study.run_once

    def run_once(task, folder, **settings):
        begun.append({name: settings[name] for name in SEARCH})
        return real(task, folder, **settings)

    monkeypatch.setattr(study, "run_once", run_once)
    return begun


# -- what is typed


def test_ranges_and_choices_are_read_as_the_setting_has_them():
    typed = ["learning-rate=1e-5:5e-4:log", "epochs=2,3,5", "batch_size=8:64", "schedule=linear,cosine"]
    assert read_search([*typed, "dropout=none,0.1", "freeze=true,false"], HINTS) == {
        "learning_rate": Range(1e-5, 5e-4, log=True),
        "epochs": Choices((2, 3, 5)),
        "batch_size": Range(8, 64, whole=True),
        "schedule": Choices(("linear", "cosine")),
        "dropout": Choices((None, 0.1)),
        "freeze": Choices((True, False)),
    }
    assert read_search({"epochs": [2, 3], "layer_decay": "0.7:1"}, HINTS) == {
        "epochs": Choices((2, 3)),
        "layer_decay": Range(0.7, 1.0),
    }


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("learning_rate", "NAME=LOW:HIGH"),
        ("learning_rat=1:2", "did you mean 'learning_rate'"),
        ("out=a,b", "no setting 'out'"),
        ("learning_rate=5e-4:1e-5", "from a lower to a higher"),
        ("learning_rate=0:1e-5:log", "above 0"),
        ("learning_rate=1e-5:1e-4:lin", "'lin'"),
        ("learning_rate=fast", "'fast'.*float"),
        ("epochs=2.5,3", "'2.5'.*int"),
        ("epochs=", "''.*int"),
        ("epochs=3,3", "same value twice"),
        ("schedule=linear:cosine", "no number"),
        ("freeze=1,0", "'1'.*bool"),
        ("adversarial=fmg", "'fgm'"),
        ("learning_rate=nan:1", "from a lower"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(typed, said):
    with pytest.raises(BothwaysError, match=said) as told:
        read_search([typed], HINTS)
    assert "\n" not in str(told.value)


def test_a_setting_is_given_or_searched_but_not_both(given, tmp_path):
    with pytest.raises(BothwaysError, match="learning_rate is given and searched"):
        bw.tune("classify", out=tmp_path / "o", learning_rate=1e-4, **given)
    with pytest.raises(BothwaysError, match="searched twice"):
        read_search(["epochs=1,2", "epochs=3"], HINTS)
    assert not (tmp_path / "o").exists()


def test_without_optuna_one_sentence_says_what_to_install(given, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BothwaysError, match=r"pip install 'bothways\[tune\]'"):
        bw.tune("classify", out=tmp_path / "o", **given)


# -- the search


def test_a_search_keeps_the_best_and_its_run_repeats_to_the_same_score(given, tmp_path, made, capsys):
    out = tmp_path / "o"
    found = bw.tune("classify", trials=5, out=out, **given)
    assert [trial["settings"] for trial in found.trials] == made
    values = [trial["value"] for trial in found.trials if trial["state"] == "complete"]
    assert found.value == max(values) == found.scores["macro_f1"]
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "model", "run.json", "trials.jsonl"]
    assert json.loads((out / "metrics.json").read_text())["tune"]["trials"] == found.trials
    again = tmp_path / "again"
    assert main(["finetune", "classify", "--from", str(out / "run.json"), "--out", str(again), "--quiet"]) == 0
    results = json.loads((again / "run.json").read_text())["results"]
    assert results["macro_f1"] == found.value
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (out, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_search_goes_on_where_it_was_and_proposes_what_it_would_have(given, tmp_path, made):
    whole = bw.tune("classify", trials=5, out=tmp_path / "whole", **given)
    proposed = list(made)
    made.clear()
    for trials in (2, 2, 5):
        found = bw.tune("classify", trials=trials, out=tmp_path / "parts", **given)
    assert made == proposed
    assert found.trials == whole.trials
    assert found.scores == whole.scores


def test_a_trial_that_was_killed_goes_on_from_its_checkpoint(given, tmp_path, monkeypatch):
    whole = bw.tune("classify", trials=3, out=tmp_path / "whole", **given)
    real, steps, most = loop._accumulate, [], 9

    def accumulate(*arguments):
        if len(steps) == most:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*arguments)

    monkeypatch.setattr(loop, "_accumulate", accumulate)
    with pytest.raises(KeyboardInterrupt):
        bw.tune("classify", trials=3, out=tmp_path / "o", **given)
    running = [path.name for path in (tmp_path / "o").glob("trial-*")]
    assert running == ["trial-1"]
    most = -1
    found = bw.tune("classify", trials=3, out=tmp_path / "o", **given)
    assert found.trials == whole.trials
    assert not list((tmp_path / "o").glob("trial-*"))


def test_settings_that_were_tried_are_not_tried_again(given, tmp_path, made):
    found = bw.tune("classify", trials=6, out=tmp_path / "o", **given | {"search": SEARCH | {"learning_rate": [1e-3]}})
    assert len(made) == len({tuple(one.values()) for one in made}) == 2
    assert len(found.trials) == 6
    by = {trial["settings"]["batch_size"]: trial["value"] for trial in found.trials}
    assert all(trial["value"] == by[trial["settings"]["batch_size"]] for trial in found.trials)


@pytest.fixture
def falling(monkeypatch):
    """Scores that fall from call to call, so that from the third trial on each is below the median of those before."""
    monkeypatch.setattr(study, "_UNPRUNED", 2)
    from bothways.learn import finetune as module

    calls = []

    def overall(task, model, data):
        calls.append(1)
        return {name: 1.0 / len(calls) for name in task.metrics}

    monkeypatch.setattr(module, "_overall", overall)
    return calls


def test_a_trial_that_does_worse_than_others_did_is_stopped_early(given, tmp_path, falling):
    found = bw.tune("classify", trials=4, out=tmp_path / "o", **given)
    assert [trial["state"] for trial in found.trials] == ["complete", "complete", "pruned", "pruned"]
    assert all(trial["value"] is None for trial in found.trials[2:])
    assert len(falling) == 6 + 6 + 1 + 1  # steps, each evaluated


@pytest.mark.usefixtures("falling")
def test_a_trial_that_was_stopped_early_is_not_tried_again_either(given, tmp_path):
    search = SEARCH | {"learning_rate": [1e-3], "batch_size": [4, 8, 16]}
    found = bw.tune("classify", trials=8, out=tmp_path / "o", **given | {"search": search})
    assert len(found.trials) == 8
    states = {trial["settings"]["batch_size"]: [] for trial in found.trials}
    for trial in found.trials:
        states[trial["settings"]["batch_size"]].append(trial["state"])
    assert ["pruned", "pruned"] in [each[:2] for each in states.values()]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BothwaysError("the loss is not finite"), "the loss is not finite"),
        (torch.OutOfMemoryError("CUDA out of memory"), "it ran out of memory"),
    ],
)
def test_a_trial_that_fails_is_told_and_the_search_goes_on(given, tmp_path, monkeypatch, error, why):
    real, seen = study.run_once, []

    def run_once(*arguments, **settings):
        seen.append(1)
        if len(seen) == 2:
            raise error
        return real(*arguments, **settings)

    monkeypatch.setattr(study, "run_once", run_once)
    found = bw.tune("classify", trials=3, out=tmp_path / "o", **given)
    assert found.trials[1]["state"] == "fail"
    assert found.trials[1]["why"] == why
    assert len(found.trials) == 3


def test_a_distance_is_searched_downwards(given, place, tmp_path):
    rows = [{"text": text, "label": n % 5} for n, text in enumerate(tiny.sentences(30, longest=5))]
    given = given | {"train": rows, "metric": "mae"}
    found = bw.tune("regress", trials=3, out=tmp_path / "o", **given)
    assert found.value == min(trial["value"] for trial in found.trials)


def test_what_fails_from_the_first_trial_on_is_the_users_mistake(given, tmp_path):
    with pytest.raises(BothwaysError, match="max_length is 9999"):
        bw.tune("classify", trials=3, out=tmp_path / "o", max_length=9999, **given)


def test_another_search_in_the_same_folder_is_refused(given, tmp_path):
    out = tmp_path / "o"
    bw.tune("classify", trials=1, out=out, **given)
    with pytest.raises(BothwaysError, match=r"holds another search \(search\.learning_rate"):
        bw.tune("classify", trials=1, out=out, **given | {"search": {"batch_size": [8]}})
    with pytest.raises(BothwaysError, match="another run, which is finished"):
        bw.finetune("classify", base=given["base"], train=given["train"], out=out)
    bw.tune("classify", trials=1, out=out, overwrite=True, **given | {"search": {"batch_size": [8]}})


def test_overwrite_never_removes_what_the_search_reads(given, place, tmp_path):
    out = tmp_path / "o"
    bw.tune("classify", trials=1, out=out, **given)
    there = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rows = out / "trial-9" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_bytes((place / "rows.jsonl").read_bytes())
    for changed in ({"base": out}, {"base": out / "model"}, {"train": rows}, {"dev": [str(rows)]}):
        with pytest.raises(BothwaysError, match="is what this run reads, and --overwrite would remove it"):
            bw.tune("classify", trials=1, out=out, overwrite=True, **given | changed)
    assert there == {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path != rows}


def test_no_trial_begins_without_time_for_it(given, tmp_path):
    found = bw.tune("classify", trials=50, minutes=1e-6, out=tmp_path / "o", **given)
    assert len(found.trials) == 1
    with pytest.raises(BothwaysError, match="minutes"):
        bw.tune("classify", minutes=0, out=tmp_path / "x", **given)


def test_without_a_space_the_rate_around_what_suits_is_searched(given, tmp_path):
    found = bw.tune("classify", trials=1, out=tmp_path / "o", **given | {"search": None})
    assert set(found.settings) == {"learning_rate", "batch_size"}  # steps are given, so epochs decide nothing
    assert 3e-4 / 4 <= found.settings["learning_rate"] <= 4 * 3e-4


def test_a_model_of_vectors_that_learns_on_is_searched_at_its_own_rate():
    model = tiny.model(())
    model.sentence = SentenceRecipe(pooling="mean", stated=True)
    space = _suited_space("embed", model, 100, {}, TuningSettings())
    assert space["learning_rate"].low == pytest.approx(5e-6)
    assert _suited_space("classify", model, 100, {}, TuningSettings())["learning_rate"].low > 5e-5


def test_the_command_line_searches(place, tmp_path, capsys):
    typed = f"tune classify {place}/rows.jsonl --base {place}/base --steps 4 --precision float32 --trials 2 --quiet"
    searched = "--search learning_rate=1e-4:1e-3:log --search batch_size=8,16"
    assert main(f"{typed} {searched} --out {tmp_path}/o --json".split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert [set(trial["settings"]) for trial in told["trials"]] == [{"learning_rate", "batch_size"}] * 2
    assert (tmp_path / "o" / "report.html").exists()
    assert main(f"{typed} --search epochs=two --out {tmp_path}/x".split()) == 2
    assert "epochs cannot be 'two': it takes int" in capsys.readouterr().err
