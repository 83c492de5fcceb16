"""Evaluation of any task: what is returned, written and drawn, from a folder, a run, or a checkpoint of others."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.learn.evaluate import task_of
from bothways.learn.judging.card import card
from bothways.learn.judging.judgement import Before, judge
from bothways.learn.tasks.protocol import Examined, Judged, Mark
from bothways.report.judgement_page import judgement_page, verdict
from bothways.report.page import render_page
from bothways.text.truncation import Truncation
from test_report import HARM, Page, headings

pytestmark = pytest.mark.usefixtures("drawn")
GOOD, BAD = ("music", "garden", "summer", "letter"), ("stone", "winter", "old", "must")
SETTINGS = {"epochs": 2, "max_length": 48, "learning_rate": 2e-3, "device": "cpu", "precision": "float32"}


def rows(count, seed, noise=0.0):
    """Texts that hold words of one of two kinds, some with the other label."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = int(draw.random() < 0.6)
        words = [*draw.choice(["the", "and", "river", "town", "some", "time"], 4), *draw.choice((BAD, GOOD)[label], 2)]
        said = label if draw.random() >= noise else 1 - label
        text = " ".join([*draw.permutation(words), f"{seed}{number:03d}"])
        made.append({"text": text, "label": ("bad", "good <b>")[said]})
    return made


def write(path, given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fine-tuning run with a dev set of which two texts were trained on."""
    folder = tmp_path_factory.mktemp("evaluate")
    train = rows(120, 1, noise=0.05)
    write(folder / "train.jsonl", [*train, train[3]])
    write(folder / "dev.jsonl", [*rows(60, 2), {**train[0], "text": train[0]["text"].upper() + " "}, train[1]])
    write(
        folder / "test.jsonl", [*rows(70, 3, noise=0.1), {"text": f"music garden summer letter {HARM}", "label": "bad"}]
    )
    tiny.folder(folder / "base")
    with pytest.warns(BothwaysWarning, match="2 of the 62 examples of .*dev.jsonl stand in the training data too"):
        made = bw.finetune(
            "classify", base=folder / "base", train=str(folder / "train.jsonl"), dev=str(folder / "dev.jsonl"),
            out=folder / "run", seed=5, **SETTINGS,
        )  # fmt: skip
    return folder, made


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


# -- the end of a run


def test_a_run_leaves_its_judgement(run):
    folder, made = run
    told = metrics(folder / "run")
    assert told == json.loads(json.dumps(made.judgement))
    assert told["accuracy"] == made.scores["accuracy"]
    for metric in ("macro_f1", "accuracy", "mcc"):
        low, high = told["intervals"][metric]
        assert low <= told[metric] <= high
    assert [row["role"] for row in told["contenders"]] == ["model", "before", "baseline", "baseline"]
    assert told["copies"]["overlap"] == 2
    assert (told["copies"]["in_train"], told["copies"]["otherwise"]) == (1, 0)
    assert set(told["copies"]["without"]) == {"macro_f1", "accuracy", "mcc"}
    assert sum(told["trained"].values()) == 121
    assert told["train"]["examples"] == 121
    assert json.loads((folder / "run" / "run.json").read_text())["data"]["train"]["sha256"] == told["train"]["sha256"]
    assert any("were chosen by these very examples" in note for note in told["notes"])


def test_a_run_leaves_one_page_with_its_worth_first_and_its_course_after(run):
    folder, made = run
    text = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert Page(text).open == []
    found = headings(text)
    assert found[:4] == ["Before you read on", "Scores, and what they must beat", "Class by class",
                         "What is taken for what"]  # fmt: skip
    assert found[-3:] == ["Curves", "Settings", "What to type next"]
    assert verdict(made.judgement) in " ".join(Page(text).words)
    assert "<b>" not in text.replace("<b style", "").replace('<b class="t', "").split("<h2>Class by class")[1]
    identifiers = [value for name, value in Page(text).attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))


def test_the_page_is_drawn_anew_with_a_learning_curve(run, tmp_path):
    folder, _ = run
    for name in ("log.jsonl", "run.json"):
        (tmp_path / name).write_bytes((folder / "run" / name).read_bytes())
    points = [{"share": s, "examples": int(120 * s), "macro_f1": 0.5 + s / 4, "spread": 0.02} for s in (0.25, 0.5, 1)]
    (tmp_path / "metrics.json").write_text(json.dumps({**metrics(folder / "run"), "curve": points}))
    assert "What more data brings" in bw.write_report(tmp_path).read_text(encoding="utf-8")
    assert "What more data brings" not in (folder / "run" / "report.html").read_text(encoding="utf-8")


def test_the_card_says_what_it_is_and_how_to_use_it(run):
    folder, made = run
    text = (folder / "run" / "model" / "README.md").read_text(encoding="utf-8")
    head, rest = text.removeprefix("---\n").split("---\n", 1)
    yaml = pytest.importorskip("yaml").safe_load(head)
    assert yaml["library_name"] == "bothways"
    assert yaml["pipeline_tag"] == "text-classification"
    assert "base_model" not in yaml, "a path on this machine is no name on a hub"
    results = yaml["model-index"][0]["results"][0]["metrics"]
    assert {one["type"]: one["value"] for one in results} == pytest.approx(
        {name: made.scores[name] for name in ("macro_f1", "accuracy", "mcc")}, abs=1e-4
    )
    for told in ("bw.load", "AutoModelForSequenceClassification", made.judgement["train"]["sha256"], "48 tokens",
                 verdict(made.judgement), "good \\<b\\>", "before training"):  # fmt: skip
        assert told in rest
    assert 'base_model: "bert-base-uncased"' in card(made.model, made.judgement, "bert-base-uncased")
    assert bw.load(folder / "run").labels == ("bad", "good <b>"), "the folder opens with the card in it"


def test_without_a_report_or_a_folder_nothing_is_judged(run, tmp_path):
    folder, _ = run
    train = rows(30, 9)
    for out in (None, tmp_path / "run"):
        made = bw.finetune("classify", base=folder / "base", train=train, dev=train, out=out, report=False, steps=1,
                           max_length=16, device="cpu")  # fmt: skip
        assert made.judgement is None
    assert not {"metrics.json", "report.html"} & {path.name for path in (tmp_path / "run").iterdir()}


# -- evaluate


def test_a_run_is_evaluated_beside_its_baselines_and_its_beginning(run, tmp_path):
    folder, _ = run
    told = bw.evaluate(folder / "run", str(folder / "test.jsonl"), out=tmp_path / "ev", device="cpu")
    assert json.loads(json.dumps(told)) == metrics(tmp_path / "ev")
    assert [row["role"] for row in told["contenders"]] == ["model", "before", "baseline", "baseline"]
    text = (tmp_path / "ev" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert HARM in str(told["worst"]) + str(told["doubtful"]), "a text that is shown"
    assert "&lt;script&gt;" in text, "and escaped"


@pytest.mark.usefixtures("fastest")
def test_the_beginning_is_the_one_that_the_run_had(run):
    folder, made = run
    with pytest.warns(BothwaysWarning, match="stand in the training data too"):
        told = bw.evaluate(folder / "run" / "model", str(folder / "dev.jsonl"), seed=5, device="cpu")
    for found, wanted in zip(told["contenders"], made.judgement["contenders"], strict=True):
        assert found["metrics"] == pytest.approx(wanted["metrics"], abs=1e-4)
        assert (found["name"], found["role"]) == (wanted["name"], wanted["role"])


def test_without_training_data_there_is_no_baseline_and_that_is_said(run, tmp_path):
    folder, made = run
    made.model.save(tmp_path / "alone")
    told = bw.evaluate(tmp_path / "alone", str(folder / "test.jsonl"), device="cpu")
    assert [row["role"] for row in told["contenders"]] == ["model"]
    assert (told["copies"], told["familiarity"], told["train"]) == (None, [], None)
    assert any("not known: there are no baselines" in note for note in told["notes"])
    given = bw.evaluate(tmp_path / "alone", str(folder / "test.jsonl"), train=rows(50, 8), device="cpu")
    assert [row["role"] for row in given["contenders"]] == ["model", "baseline", "baseline"]


def test_training_data_that_changed_are_not_taken_for_those_of_the_run(run, tmp_path):
    folder, _ = run
    content = json.loads((folder / "run" / "run.json").read_text())
    content["settings"]["train"] = str(write(tmp_path / "train.jsonl", rows(120, 4)))
    (tmp_path / "run.json").write_text(json.dumps(content))
    bw.load(folder / "run").save(tmp_path / "model")
    told = bw.evaluate(tmp_path, str(folder / "test.jsonl"), device="cpu")
    assert any("are not what they were in training" in note for note in told["notes"])


def test_a_run_that_was_given_its_dev_set_in_memory_is_known_too(run, tmp_path):
    folder, _ = run
    given = {"base": folder / "base", "train": str(folder / "train.jsonl"), "dev": rows(20, 9), **SETTINGS}
    bw.finetune("classify", out=tmp_path / "run", **given | {"report": False})
    told = bw.evaluate(tmp_path / "run", str(folder / "test.jsonl"), device="cpu")
    assert [row["role"] for row in told["contenders"]] == ["model", "before", "baseline", "baseline"]


def test_a_classifier_that_others_trained_is_evaluated():
    model = tiny.model(("classify",))
    told = bw.evaluate(model, [{"text": text, "label": "good"} for text in tiny.sentences(8)])
    assert told["task"] == "classify"
    assert 0 <= told["accuracy"] <= 1


def test_columns_are_as_in_training_and_can_be_named_anew(run, tmp_path):
    folder, _ = run
    content = json.loads((folder / "run" / "run.json").read_text())
    content["settings"]["text"] = "review"
    (tmp_path / "run.json").write_text(json.dumps(content))
    bw.load(folder / "run").save(tmp_path / "model")
    model = bw.load(tmp_path)
    assert task_of(model, {}).text == "review"
    assert task_of(model, {"text": "body", "label": None}).text == "body"
    with pytest.raises(BothwaysError, match=r"has no setting 'lable'; did you mean 'label'"):
        bw.evaluate(model, [{"text": "a", "label": "bad"}], lable="label")


def test_nothing_is_overwritten_unless_said_and_a_run_never(run, tmp_path):
    folder, _ = run
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(BothwaysError, match=r"holds a metrics.json already: choose another --out or --overwrite"):
        bw.evaluate(folder / "run", str(folder / "test.jsonl"), out=tmp_path)
    with pytest.raises(BothwaysError, match="is the folder of a run"):
        bw.evaluate(folder / "run", str(folder / "test.jsonl"), out=folder / "run", overwrite=True)


def test_the_command_prints_a_table_and_where_the_page_is(run, tmp_path, capsys):
    folder, _ = run
    arguments = ["evaluate", str(folder / "run"), str(folder / "test.jsonl"), "--device", "cpu", "--quiet"]
    assert main([*arguments, "--set", "text=text", "--out", str(tmp_path / "ev")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"this model +0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\)", said)
    assert "TF-IDF + logistic regression" in said
    assert f"Report: {tmp_path / 'ev' / 'report.html'}" in said
    assert main([*arguments, "--set", "text"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "classify"


# -- other kinds of tasks


class Any:
    """A task whose answers are handed in."""

    name, metrics = "tag", ("f1",)

    def baselines(self, train, test):
        raise BothwaysError("nothing is simple enough")


class Texts:
    """Texts without classes."""

    name = f"the list {HARM}"

    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def inputs(self):
        return self.texts

    def truths(self):
        return self.texts

    def class_counts(self):
        return {}

    def describe(self):
        return {"name": self.name, "examples": len(self), "sha256": "0"}


def judged(examined, train=None):
    texts = Texts([row.text for row in examined.rows])
    return judge(Any(), tiny.model(()), examined, texts, Truncation(), Before(train))


def test_marked_texts_are_shown_in_colour_and_escaped():
    text = f"{HARM} Anna Lee went to Paris with Bo"
    start = len(HARM) + 1
    right = (Mark(start, start + 8, HARM), Mark(start + 17, start + 22, "LOC"))
    guessed = (Mark(start, start + 4, HARM), Mark(start + 17, start + 22, "PER"), Mark(start + 28, start + 30, "PER"))
    row = Judged(text, HARM, "x", 0.25, 0.5, 0.1, right, guessed)
    told = judged(Examined({"f1": 0.25}, [row], lambda places: {"f1": 0.25}))
    page = render_page(judgement_page(told))
    assert "<script" not in page
    for kind, part in (("agreed", "Anna"), ("missed", " Lee"), ("other", "Paris"), ("wrong", "Bo")):
        assert re.search(rf'<mark class="{kind}" title="[^"]*">{part}', page), part
    assert "credit 25%" in page


def test_numbers_are_drawn_as_a_cloud_and_the_furthest_shown():
    rows = [Judged(f"text {place}", str(place), str(place / 2), -place / 2) for place in range(30)]
    told = judged(Examined({"f1": 0.9}, rows, lambda places: {"f1": 0.9}))
    assert sorted(told["scatter"])[-1] == [29.0, 14.5]
    assert told["worst"][0]["truth"] == "29"
    page = render_page(judgement_page(told))
    assert "Scores guessed" in page
    assert "off by 14.5" in page


def test_a_task_without_baselines_says_so_and_what_is_no_number_becomes_null():
    rows = [Judged("a", "x", "y", 0.0)] * 3
    nothing = Examined({"f1": float("nan")}, rows, lambda places: {"f1": float("nan")})
    told = judged(nothing, train=Texts(["b"] * 3))
    assert any("There are no baselines: nothing is simple enough" in note for note in told["notes"])
    assert told["f1"] is None
    assert told["intervals"]["f1"] == [None, None]
    json.dumps(told, allow_nan=False)
    assert Page(render_page(judgement_page(told))).open == []
