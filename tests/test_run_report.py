"""The page of a run: it shows what the log says, of finished and unfinished runs alike, and needs nothing else."""

from __future__ import annotations

import json
import math
import re

import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.learn import report as module
from bothways.report import charts
from bothways.report.page import render_page
from bothways.report.run_page import run_page
from test_cli import check_typed
from test_insight import documents
from test_report import HARM, Page, headings

pytestmark = pytest.mark.usefixtures("drawn")
STEPS = [
    {
        "event": "step",
        "step": step,
        "loss": 7.0 - step / 100,
        "loss.mlm": 6.3 - step / 100,
        "accuracy.mlm": step / 1000,
        "loss.nsp": 0.7,
        "accuracy.nsp": 0.5,
        "rate": 1e-3,
        "gradient_norm": 2.0,
        "gradient_norm.embeddings": 1.0,
        "gradient_norm.layer 1": 0.5,
        "gradient_norm.layer 2": 0.25,
        "gradient_norm.layer 3": 0.125,
        "gradient_norm.heads": 1.5,
        "tokens": 4096 * step,
        "tokens_per_second": 5000.0,
        "waiting": 0.01,
        "utilisation": 0.41,
        "seconds": 1.5 * step,
    }
    for step in range(10, 310, 10)
]


def insight(step, share):
    rows = [
        {"from": 0, "to": 10, "count": 40, "right": int(40 * share)},
        {"from": 10, "to": 100, "count": 8, "right": 4},
    ]
    masked = [{"right": "river", "guesses": [[f"guess{step}", 0.4], ["river", share], [HARM, 0.01]]}]
    return {
        "event": "insight",
        "step": step,
        "frequency": [{**row, "loss": 1.0} for row in rows],
        "word_length": [{"from": 1, "to": 2, "count": 5, "right": 2}, {"from": 4, "to": None, "count": 3, "right": 0}],
        "samples": [{"text": f"the [MASK] rose {HARM}", "masked": masked}],
        "original": {"count": 100, "right": 97, "loss": 1.0},
        "replaced": {"count": 10, "right": 3, "loss": 1.0},
    }


def evaluation(step):
    values = {"loss": 6.5, "loss.mlm": 5.8, "accuracy.mlm": 0.212, "loss.nsp": 0.7, "accuracy.nsp": 0.51}
    return {"event": "evaluation", "step": step, **values}


BEGUN = {
    "event": "run",
    "step": 0,
    "model": f"BERT mini {HARM}",
    "parameters": {"encoder": 11_000_000, "heads": 171_218},
    "steps": 300,
    "examples": 9_000,
    "held_out": 450,
}
CORPUS = {
    "event": "corpus",
    "step": 0,
    "tokens": 1_234_567,
    "documents": 77,
    "vocabulary": 8000,
    "tokens_per_word": 1.3456,
    "unigram_loss": 6.2,
    "unigram_accuracy": 0.051,
}
MACHINE = {
    "processor": {"name": f"a processor {HARM}"},
    "gpus": [],
    "threads": {"allowed": 2},
    "precision": {"name": "bf16"},
    "torch": "2.13",
}
RUN = {
    "command": "pretrain",
    "settings": {"size": "mini", "corpus": HARM, "mask_rate": None, "warmup": 0.1, "resume": True, "loss_weights": []},
    "seed": 0,
    "results": {"steps": 300},
    "machine": MACHINE,
}
MEASURED = [
    line for step, share in ((30, 0.1), (150, 0.5), (300, 0.9)) for line in (evaluation(step), insight(step, share))
]
LOG = [BEGUN, CORPUS, *STEPS, *MEASURED]


def page(run=RUN, lines=LOG):
    return render_page(run_page("my-bert", run, lines, made="today"))


def words(text):
    return " ".join(" ".join(Page(text).words).split())


def test_the_page_shows_what_was_run_and_what_came_of_it():
    text = page()
    said = words(text)
    assert headings(text) == [
        "Results on held-out examples",
        "Corpus",
        "Curves",
        "What is guessed right",
        "Samples over time",
        "Settings",
        "What to type next",
    ]
    for figure in (
        "Pre-training of BERT mini",
        "After 300 steps 21.2% of the masked tokens of held-out text are guessed right",
        "by frequency alone it would be 5.1%",
        "11,171,218",
        "1,228,800",  # tokens seen
        "7 min 30 s",
        "a processor",
        "2 threads, bf16, torch 2.13",
        "1,234,567",
        "77",
        "8,000",
        "1.35",
        "9,000",
        "450",
        "97.0%",
        "30.0%",
        "warmup",
    ):
        assert figure in said, figure
    assert "mask rate" not in said, "what was not set is not told"
    assert "not finished" not in said


def test_every_figure_has_a_title_and_units():
    text = page()
    figures = re.findall(r"<figure>(.*?)</figure>", text, flags=re.DOTALL)
    titles = (
        "All objectives: loss",
        "Masked tokens: loss",
        "Masked tokens: guessed right",
        "Next sentences: loss",
        "Next sentences: guessed right",
        "Learning rate",
        "Length of the gradient",
        "Length of the gradient by layer",
        "Speed",
        "Share of the machine's arithmetic that was used",
        "Share of the time spent waiting for data",
        "Masked tokens guessed right, by frequency",
        "Masked tokens guessed right, by length of the word",
    )
    assert len(figures) == len(titles)
    for figure, title in zip(figures, titles, strict=True):
        said = re.findall(r">([^<>]+)</text>", figure.replace("&#x27;", "'"))
        assert title in said
        units = {"nats a guess", "loss", "share", "rate", "norm", "tokens a second"}
        assert units & set(said), title
        assert {"step", "times the token stands in the corpus; places", "tokens of the word; places"} & set(said), title


def test_what_can_be_reached_without_reading_stands_beside_it():
    charts_of = {chart["title"]: chart for chart in run_page("my-bert", RUN, LOG)["curves"]["charts"]}
    found = {title: chart["level"]["value"] for title, chart in charts_of.items() if "level" in chart}
    assert found == {
        "Masked tokens: loss": 6.2,
        "Masked tokens: guessed right": 0.051,
        "Next sentences: loss": pytest.approx(math.log(2)),
        "Next sentences: guessed right": 0.5,
    }
    assert page().count("by frequency alone</text>") == 2


def test_replaced_tokens_are_compared_with_calling_all_of_them_original():
    steps = [{"event": "step", "step": 10, "loss.mlm": 6.0, "loss.rtd": 0.4, "accuracy.rtd": 0.9, "accuracy.mlm": 0.1}]
    measured = {"event": "evaluation", "step": 10, "loss.mlm": 6.0, "accuracy.mlm": 0.1, "accuracy.rtd": 0.92}
    begun = {**BEGUN, "parameters": {"encoder": 1000, "heads": 10, "generator": 500}}
    shown = run_page("x", RUN, [begun, *steps, measured, insight(10, 0.5)])
    assert "by their shares alone" in render_page(shown)
    assert "92.0% of the tokens of held-out text are rightly called original or replaced; " in shown["summary"]
    assert "if all are called original it would be 90.9%" in shown["summary"]
    assert {"name": "parameters", "value": "1,010"} in shown["facts"], "those that are kept"
    titles = [chart["title"] for chart in shown["curves"]["charts"]]
    assert "Generator's masked tokens: loss" in titles
    level = next(chart["level"] for chart in shown["curves"]["charts"] if chart["title"] == "Replaced tokens: loss")
    assert level["value"] == pytest.approx(-(10 / 11 * math.log(10 / 11) + 1 / 11 * math.log(1 / 11)))


def test_samples_stand_early_in_the_middle_and_late():
    text = page()
    (heading,) = re.findall(r"<thead><tr><th></th><th>there stood</th>(.*?)</tr>", text)
    assert re.findall(r"step (\d+)", heading) == ["30", "150", "300"]
    for step in (30, 150, 300):
        assert f"guess{step}" in text
    assert text.count('class="guess right-guess">river') == 3
    twice = [*LOG, insight(400, 0.9), insight(500, 0.9)]
    assert run_page("x", RUN, twice)["samples"]["steps"] == [30, 300, 500]
    once = [BEGUN, *STEPS, insight(30, 0.1)]
    assert run_page("x", RUN, once)["samples"]["steps"] == [30]


def test_bars_are_the_shares_of_the_first_and_the_last_evaluation():
    frequency, length = run_page("my-bert", RUN, LOG)["bars"]["charts"]
    assert frequency["groups"] == ["< 10\n40", "10–100\n8"]
    assert [each["name"] for each in frequency["bars"]] == ["step 30", "step 300"]
    assert [each["values"] for each in frequency["bars"]] == [[0.1, 0.5], [0.9, 0.5]]
    assert length["groups"] == ["1\n5", "4+\n3"]
    large = [{"from": 10**k, "to": 10 ** (k + 1), "count": 1, "right": 1, "loss": 0.0} for k in (3, 6, 9)]
    (shown,) = run_page("x", RUN, [*STEPS, {"event": "insight", "step": 1, "frequency": large}])["bars"]["charts"]
    assert shown["groups"] == ["1k–10k\n1", "1M–10M\n1", "1G–10G\n1"]


def test_the_page_is_whole_harmless_and_loads_nothing():
    text = page()
    parsed = Page(text)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert "link" not in parsed.tags
    assert not [value for name, value in parsed.attributes if name in ("src", "href") and not value.startswith("#")]
    assert not re.search(r"url\((?!#)", text)
    identifiers = [value for name, value in parsed.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    assert text.count("&lt;script&gt;") >= 5


def test_a_run_that_is_not_over_says_so_and_how_to_go_on():
    unfinished = {**RUN, "results": None}
    lines = [BEGUN, CORPUS, *STEPS[:12], *MEASURED[:2]]
    said = words(page(unfinished, lines))
    assert "The run is not finished: this is its state after step 120 of 300." in said
    assert "bothways pretrain --from my-bert/run.json --out my-bert" in said
    assert "bothways fill" not in said
    bare = words(page({}, STEPS[:3]))
    assert "after step 30." in bare
    assert "--from" not in bare, "there is no run.json"


@pytest.mark.parametrize("run", [RUN, {**RUN, "results": None}, {**RUN, "command": "finetune classify"}, {}])
def test_what_it_says_to_type_next_can_be_typed(run):
    commands = [row["command"] for row in run_page("my-bert", run, LOG)["next"]]
    assert commands
    for command in commands:
        check_typed(command)


def test_only_what_guesses_masked_tokens_is_asked_to_fill_in_words():
    for objective, asked in (("mlm+nsp", True), ("rtd", False), ("minilm", False)):
        run = {**RUN, "settings": {"objective": objective}}
        commands = [row["command"] for row in run_page("x", run, LOG)["next"]]
        assert any(command.startswith("bothways fill") for command in commands) == asked


def test_settings_that_the_run_settled_itself_are_told_too():
    asked = {"objective": "mlm", "learning_rate": None, "optimizer": "adamw", "mask_rate_end": None}
    begun = {**BEGUN, "settings": {"learning_rate": 0.0015, "optimizer": "muon", "mask_rate_end": None, "clip": 1.0}}
    rows = run_page("x", {**RUN, "settings": asked}, [begun, *LOG[1:]])["settings"]
    assert {row["name"]: row["value"] for row in rows} == {
        "objective": "mlm",
        "learning rate": "0.0015",
        "optimizer": "adamw",
    }


def test_settings_of_teachers_are_told_where_there_is_one():
    for objective, told in (("mlm", False), ("mlm+distil", True)):
        settings = {"objective": objective, "temperature": 2.0, "start_from_teacher": True}
        names = [row["name"] for row in run_page("x", {**RUN, "settings": settings}, LOG)["settings"]]
        assert ("temperature" in names) == ("start from teacher" in names) == told


def test_a_fine_tuning_has_its_curves_too():
    steps = [{"event": "step", "step": 10, "loss": 1.0, "loss.classify": 1.0, "accuracy.classify": 0.5, "rate": 1e-4}]
    scores = {"event": "evaluation", "step": 10, "accuracy": 0.875, "macro_f1": 0.8, "mcc": -0.1}
    text = page({**RUN, "command": "finetune classify"}, [*steps, scores])
    said = words(text)
    assert "Fine-tuning: classify" in said
    assert "the accuracy on the dev set is 87.5%" in said
    for title in ("Classes: loss", "Classes: guessed right", "Scores on the dev set", "Learning rate"):
        assert title in said
    assert "macro-F1" in said


def test_what_the_log_does_not_say_is_left_out():
    for lines in ([STEPS[0]], [evaluation(3)], [{"event": "step", "step": 1, "loss.mlm": None, "rate": 0.1}]):
        text = page({}, lines)
        assert Page(text).open == []
        assert "None" not in words(text)
        assert "nan" not in words(text).lower().split()


def test_a_long_run_makes_no_large_page():
    many = [{**STEPS[0], "step": step} for step in range(1, 20_001)]
    shown = run_page("x", RUN, many)["curves"]["charts"]
    assert max(len(line["points"]) for chart in shown for line in chart["lines"]) <= 300
    (rate,) = [chart for chart in shown if chart["title"] == "Learning rate"]
    assert rate["lines"][0]["points"][-1] == [20_000, pytest.approx(1e-3)]


def test_neighbouring_points_become_their_mean():
    lines = [{"event": "step", "step": step, "rate": float(step)} for step in range(1, 601)]
    (rate,) = run_page("x", RUN, lines)["curves"]["charts"]
    assert rate["lines"][0]["points"][:2] == [[2, 1.5], [4, 3.5]]


def test_a_chart_without_values_is_none():
    assert charts.lines("a", "A", [{"look": "smooth", "points": [(1, None), (2, float("nan"))]}]) == ""
    assert charts.bars("a", "A", [], []) == ""
    assert "<svg" in charts.bars("a", "A", ["x"], [{"name": "b", "values": [None]}, {"name": "c", "values": [0.5]}])


@pytest.mark.parametrize("scale", ["log", "linear", "percent"])
def test_lines_take_their_colours_from_the_page(scale):
    layers = [
        {"name": name, "look": "layer", "colour": colour, "points": [(1, 0.001), (2, 0.9)]}
        for name, colour in (("a", "first"), ("b", "second"), ("c", "ink"))
    ]
    drawn = charts.lines("a", "A", layers, scale=scale, level={"name": "level", "value": 0.5})
    assert {f"var(--{name})" for name in ("first", "second", "ink", "muted")} <= set(re.findall(r"var\(--\w+\)", drawn))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)


# -- a real run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    (out / "text.txt").write_text("".join(documents()), encoding="utf-8")
    bw.pretrain(
        out / "text.txt",
        out=out / "bert",
        tokenizer=tiny.tokenizer(),
        size="tiny",
        steps=4,
        evaluate_every=2,
        max_length=32,
        batch_tokens=256,
        precision="float32",
        device="cpu",
    )
    return out / "bert"


def test_a_run_ends_with_its_page(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    said = words(text)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (found,) = [line for line in lines if line["event"] == "corpus"]
    last = [line for line in lines if line["event"] == "evaluation"][-1]
    assert f"{last['accuracy.mlm']:.1%} of the masked tokens" in said
    assert f"{found['tokens']:,}" in said
    assert "Samples over time" in headings(text)
    assert "Length of the gradient by layer" in said
    assert "not finished" not in said


def test_the_page_is_drawn_anew_when_asked_for(run, tmp_path):
    (run / "report.html").write_text("old")
    assert bw.write_report(run) == run / "report.html"
    assert "Curves" in (run / "report.html").read_text(encoding="utf-8")
    assert bw.write_report(str(run), tmp_path / "page.html") == tmp_path / "page.html"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_mistakes_are_one_sentence_and_exit_code_2(run, tmp_path, capsys):
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.jsonl").write_text("")
    for typed, told in (
        (["absent"], "absent does not exist"),
        ([tmp_path], "holds no run"),
        ([tmp_path / "empty"], "holds no step yet"),
        ([run.parent], f"did you mean {run}"),
        ([run, "--out", tmp_path / "there.html"], "there.html exists already: choose another --out or --overwrite"),
        ([run, "--out", tmp_path / "nowhere" / "page.html"], "is no folder"),
    ):
        assert main(["report", *map(str, typed)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert told in err
    assert (tmp_path / "there.html").read_text() == "mine"
    assert main(["report", str(run), "--out", str(tmp_path / "there.html"), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr()[0]) == {"report": str(tmp_path / "there.html")}
    assert "Curves" in (tmp_path / "there.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_drawn_does_not_spoil_the_run(run, monkeypatch):
    def fail(*given):
        raise BothwaysError("no room")

    monkeypatch.setattr(module, "write_page", fail)
    with pytest.warns(BothwaysWarning, match="no room; the run itself is whole"):
        module.leave_report(run)
