"""How a run ends, and what is said of it; asked for again it is read, not made, and another run is refused."""

import json
import shutil

import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError

TEXT = "The old river ran by the town.\nThe house had a garden.\n\nA teacher read a letter.\nThe child had a book.\n\n"
ROWS = "text,label\n" + "".join(f"{'river' if n % 2 else 'house'} {n},{'ab'[n % 2]}\n" for n in range(40))
VERBS = {
    "pretrain": (
        "pretrain text.txt --objective mlm --size tiny --vocab-size 60 --max-length 16 --batch-tokens 64 --steps 2"
    ),
    "finetune": "finetune classify table.csv --base base --steps 2",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text(TEXT * 20)
    (tmp_path / "table.csv").write_text(ROWS)
    tiny.folder(tmp_path / "base", ("mlm",))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_command_again_has_nothing_to_do(verb, place, capsys):
    command = [*VERBS[verb].split(), "--out", "out"]
    assert main(command) == 0
    before, first = everything(place / "out"), capsys.readouterr().out
    assert main(command) == 0
    second, told = capsys.readouterr()
    assert "Finished already: nothing to do. The model lies in out/model" in told
    assert second == first
    assert everything(place / "out") == before
    for more, how in (
        (["--steps", "3"], "steps is 2 there and 3 here"),
        (["--seed", "7"], "seed is 0 there and 7 here"),
    ):
        assert main([*command, *more]) == 2
        told = capsys.readouterr().err
        assert "out holds another run, which is finished" in told
        assert how in told
    assert main([*command, "--no-resume"]) == 2
    assert everything(place / "out") == before
    assert main([*command, "--overwrite", "--seed", "7"]) == 0


@pytest.mark.parametrize("verb", VERBS)
def test_with_other_data_it_is_another_run(verb, place, capsys):
    command = [*VERBS[verb].split(), "--out", "out"]
    assert main(command) == 0
    before = everything(place / "out")
    if verb == "pretrain":
        (place / "text.txt").write_text(TEXT * 21)
    else:
        (place / "table.csv").write_text(ROWS + "one more,a\n")
    assert main(command) == 2
    assert "holds another run, which is finished" in capsys.readouterr().err
    assert everything(place / "out") == before


@pytest.mark.parametrize("verb", VERBS)
def test_with_other_weights_under_the_same_name_it_is_another_run(verb, place, capsys):
    """A base that was trained again since: what was made of the old one is not what is asked for."""
    more = ["--base", "base"] if verb == "pretrain" else []
    words = [word for word in VERBS[verb].split() if not (more and word in ("--size", "tiny"))]
    command = [*words, *more, "--out", "out"]
    assert main(command) == 0
    shutil.rmtree(place / "base")
    tiny.folder(place / "base", ("mlm",), seed=1)
    assert main(command) == 2
    assert "which is finished (base is" in capsys.readouterr().err


def test_in_python_the_finished_result_is_returned(place):
    def run(**given):
        return bw.finetune("classify", base="base", train="table.csv", out="out", **{"steps": 2, **given})

    first = run()
    second = run()
    assert second.history == first.history
    assert second.scores == {name: first.scores[name] for name in first.metrics}
    assert second.metrics == first.metrics
    assert second.judgement == first.judgement
    assert second.model.classify(["river"]) == first.model.classify(["river"])
    shutil.rmtree(place / "out" / "model")
    with pytest.raises(BothwaysError, match="holds another run, which is finished: choose"):
        run()


def test_a_run_that_stops_early_says_why(place, capsys):
    """At its end, in its closing lines, in run.json and on its page; when it is asked for again, too."""
    hopeless = ["--epochs", "50", "--learning-rate", "1e-9", "--patience", "2"]
    command = ["finetune", "classify", "table.csv", "--base", "base", *hopeless, "--out", "out"]
    assert main(command) == 0
    closing, told = capsys.readouterr()
    history = json.loads((place / "out" / "run.json").read_text())["history"]
    assert history["stopped"] == "no better metric"
    assert history["steps"] < history["planned"]
    why = (
        f"Stopped early, after step {history['steps']} of {history['planned']}: the metric has not become better since "
        f"step {history['best_step']}."
    )
    assert f"· {why}" in told
    assert why in closing
    assert why in bw.write_report("out").read_text()
    assert main(command) == 0
    assert why in capsys.readouterr().out


def test_a_run_that_takes_all_its_steps_says_nothing_of_its_end(place, capsys):
    assert main([*VERBS["finetune"].split(), "--out", "out"]) == 0
    assert "Stopped" not in "".join(capsys.readouterr())
    assert json.loads((place / "out" / "run.json").read_text())["history"]["stopped"] == "all steps taken"


@pytest.mark.parametrize("killed", ["BestWeights", "Checkpoint"])
def test_best_weights_go_when_the_model_is_saved_and_a_kill_between_loses_nothing(killed, place, monkeypatch):
    def run(out):
        return bw.finetune("classify", base="base", train="table.csv", out=out, steps=4, average=0.5, evaluate_every=1)

    def dies(self):
        raise KeyboardInterrupt

    whole = run("whole")
    assert {path.name for path in (place / "whole").iterdir() if path.is_dir()} == {"model"}
    with monkeypatch.context() as kill:
        kill.setattr(f"bothways.learn.finetune.{killed}.discard", dies)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    assert (place / "broken" / "best").exists()
    again = run("broken")
    assert again.scores.items() >= {name: whole.scores[name] for name in whole.metrics}.items()
    weights = [(place / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]
    assert {path.name for path in (place / "broken").iterdir() if path.is_dir()} == {"model"}


@pytest.mark.parametrize("verb", VERBS)
def test_checkpoints_come_as_often_as_is_asked(verb, place, monkeypatch):
    saved = []
    monkeypatch.setattr("bothways.learn.checkpoint.Checkpoint.save", lambda self, *arguments: saved.append(arguments))
    command = [*VERBS[verb].split(), "--steps", "3"]
    assert main([*command, "--out", "seldom"]) == 0
    assert len(saved) == 1
    assert main([*command, "--save-minutes", "1e-9", "--out", "often"]) == 0
    assert len(saved) == 1 + 3
