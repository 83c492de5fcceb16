"""Each illness is found in a run that was made sick that way, and comes first; a healthy run is called healthy.

The runs are real: a tiny encoder and a made-up language that it learns in seconds.
"""

import json
import math
import time
from contextlib import suppress

import numpy as np
import pytest

import bothways as bw
import grammar
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.diagnosis.course import read_course
from bothways.learn.stream import Stream
from bothways.text.prepare import prepare
from run_logs import falling, lines

# -- real runs


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """Trains a tiny encoder on the made-up language; the same run only once. Returns its folder."""
    made, corpora = {}, {}

    def corpus_of(tokenizer, count, copies, **changes):
        texts = grammar.documents(count, **changes) * copies
        draw = np.random.default_rng(0)
        folder = tmp_path_factory.mktemp("language") / "corpus"
        return prepare([texts[place] for place in draw.permutation(len(texts))], tokenizer, folder)

    def run(*, tokenizer=None, count=700, copies=1, language=None, shape=None, family="bert", **settings):
        key = json.dumps([count, copies, language, shape, family, settings], sort_keys=True, default=str) + str(
            tokenizer
        )
        if key in made:
            return made[key]
        language = language or {}
        words = language.get("topics", 6) * language.get("words", 6)
        tokenizer = tokenizer or grammar.tokenizer(words)
        place = json.dumps([tokenizer.fingerprint, count, copies, language])
        if place not in corpora:
            corpora[place] = corpus_of(tokenizer, count, copies, **language)
        config = tiny.config(
            family, **{"layers": 2, "width": 32, "embeddings__width": 32, "init_std": 0.2, **(shape or {})}
        )
        config = config.for_vocabulary(tokenizer.size, tokenizer.pad_id)
        made[key] = tmp_path_factory.mktemp("runs") / "run"
        defaults = {"objective": "mlm", "steps": 200, "learning_rate": 5e-3, "max_length": 32, "batch_tokens": 512}
        bw.pretrain(
            corpora[place],
            base=bw.Model.random(config, tokenizer),
            out=made[key],
            **{**defaults, "dropout": 0.0, "precision": "float32", "device": "cpu", **settings},
        )
        return made[key]

    return run


EASY = {"objective": "rtd", "family": "electra", "language": {"words": 1, "common": 0.0}, "steps": 200}
"""Replaced tokens, of a language whose words can be told from those beside them."""
HEALTHY = {
    "masked tokens": {},
    "with dropout": {"dropout": 0.1},
    "with next sentences": {"objective": "mlm+nsp", "steps": 300},
    "muon": {"optimizer": "muon", "learning_rate": 1e-2},
    "replaced tokens": {"objective": "rtd", "family": "electra", "steps": 300},
    "replaced tokens that are easy": EASY,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_called_healthy(name, train):
    found = bw.diagnose(train(**HEALTHY[name]))
    assert (found.verdict, found.findings) == ("healthy", ()), found


SICK = {
    "rate too high": {"learning_rate": 0.3, "steps": 150},
    "rate too low": {"learning_rate": 2e-5, "steps": 150},
    "on the plateau of word frequencies": {"learning_rate": 3e-4, "steps": 100},
    "too few steps": {"steps": 120, "warmup": 0.9},
    "masking too heavy": {"mask_rate": 0.95, "steps": 150},
    "masking too light": {"mask_rate": 0.01, "steps": 100},
    "model too small": {
        "language": {"topics": 12, "words": 67, "steep": 3.0},
        "shape": {
            "embeddings__width": 4,
            "init_std": 0.3,
            "layers": 1,
            "attention__heads": 1,
            "feed_forward__width": 32,
        },
        "mask_rate": 0.3,
        "learning_rate": 6e-3,
        "batch_tokens": 256,
        "steps": 900,
    },
    "overfitting": {"count": 60, "static_masks": 1, "shape": {"width": 64, "embeddings__width": 64}, "steps": 120},
    "duplicated data": {"count": 100, "copies": 7, "steps": 150},
    "vocabulary mismatch": {"tokenizer": grammar.spelling_tokenizer(), "steps": 100},
    "learns nothing": {
        "objective": "mlm+nsp",
        "language": {"topics": 4, "words": 3, "coherent": False},
        "steps": 300,
    },
    "nothing to find": EASY | {"mask_rate": 0.05},
}


@pytest.mark.parametrize("name", SICK)
def test_a_run_made_sick_is_told_what_it_has(name, train):
    found = bw.diagnose(train(**SICK[name]))
    assert found.verdict == "sick", found
    assert found.findings[0].name == name, found


def test_a_discriminator_whose_loss_has_no_weight_learns_nothing(train):
    found = bw.diagnose(train(objective="rtd", family="electra", loss_weights={"rtd": 0.0}, steps=300))
    assert found.findings[0].name == "learns nothing"
    assert "rtd" in found.findings[0].what


def test_a_run_that_broke_off_is_told_why(train, tmp_path):
    def poison(event):
        if event.step == 100:
            next(event.model.parameters()).data[:] = math.inf

    config = tiny.config("bert", layers=2)
    words = grammar.tokenizer()
    with pytest.raises(BothwaysError, match="step 101"):
        bw.pretrain(
            grammar.documents(200),
            base=bw.Model.random(config.for_vocabulary(words.size, words.pad_id), words),
            out=tmp_path / "run",
            objective="mlm",
            steps=200,
            max_length=32,
            batch_tokens=256,
            learning_rate=0.05,
            callbacks=[poison],
        )
    (finding,) = bw.diagnose(tmp_path / "run").findings
    assert finding.name == "rate too high"
    assert "broke off after step 100" in finding.what


@pytest.mark.parametrize(
    ("precision", "verdict", "finding"), [("bf16", "sick", ["precision trouble"]), ("float32", "healthy", [])]
)
def test_a_number_that_only_bf16_cannot_hold_is_put_down_to_it(precision, verdict, finding, tmp_path):
    """A weight between the largest numbers of bf16 and of float32, behind a unit that is never on: harmless there."""

    def poison(event):
        if event.step == 100:
            unit = event.model["encoder"].stack.blocks[0].feed_forward
            unit.inner.weight.data[0] = 0.0
            unit.inner.bias.data[0] = -1e4
            unit.output.weight.data[:, 0] = 3.4e38

    words = grammar.tokenizer()
    config = tiny.config("bert", layers=2, width=32, embeddings__width=32, init_std=0.2)
    given = {"max_length": 32, "batch_tokens": 512, "dropout": 0.0, "device": "cpu", "callbacks": [poison]}
    with suppress(BothwaysError):
        bw.pretrain(
            grammar.documents(700),
            base=bw.Model.random(config.for_vocabulary(words.size, words.pad_id), words),
            **{"out": tmp_path / "run", "objective": "mlm", "steps": 200, "learning_rate": 1.5e-3, **given},
            precision=precision,
        )
    found = bw.diagnose(tmp_path / "run")
    assert (found.verdict, [one.name for one in found.findings[:1]]) == (verdict, finding), found


@pytest.mark.parametrize(("seconds", "findings"), [(0.05, ["waiting for data"]), (0.0, [])])
def test_a_run_whose_corpus_is_slow_waits_for_data(seconds, findings, train, monkeypatch):
    """Every step's text comes late, as from a disk far away. What is lost is worth telling after two seconds here."""
    fetched = Stream.next_step

    def late(self, progress):
        time.sleep(seconds)
        return fetched(self, progress)

    monkeypatch.setattr(Stream, "next_step", late)
    monkeypatch.setattr("bothways.learn.diagnosis.machine._WORTH_TELLING", 2.0)
    found = bw.diagnose(train(seed=2 if seconds else 3, steps=100))
    assert [one.name for one in found.findings] == findings, found


# -- what is read, and what is said


def write(folder, log, **run):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    if run:
        (folder / "run.json").write_text(json.dumps({"settings": {}, "seed": 0, "results": {}, **run}))
    return folder


def test_an_older_run_without_corpus_and_model_is_judged_by_its_log(tmp_path):
    found = bw.diagnose(write(tmp_path / "run", lines(loss=falling), command="pretrain", settings={"steps": 2000}))
    assert found.verdict == "healthy"
    assert len(found.missing) == 2
    lost = lines(loss=lambda x: falling(x) + (1.5 if x > 0.5 else 0))
    assert bw.diagnose(write(tmp_path / "other", lost, command="pretrain")).findings[0].name == "rate too high"


def test_a_run_that_goes_on_is_read_from_its_log_and_checkpoint(train, tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(event):
        if event.step == 120:
            raise StopError

    words = grammar.tokenizer()
    config = tiny.config("bert", layers=2).for_vocabulary(words.size, words.pad_id)
    monkeypatch.setattr("bothways.learn.keeper._SAVE_MINUTES", 0.0)
    with pytest.raises(StopError):
        bw.pretrain(
            grammar.documents(200), base=bw.Model.random(config, words), out=tmp_path / "run", objective="mlm",
            steps=400, max_length=32, batch_tokens=256, learning_rate=4e-3, callbacks=[stop], save_minutes=1e-9,
        )  # fmt: skip
    read = read_course(tmp_path / "run")
    assert (read.over, read.steps, read.step) == (False, 400, 120)
    assert read.settings["optimizer"] == "adamw"
    assert read.config.width == 48
    assert read.facts["vocabulary"] == words.size
    assert read.progress == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("command", "told"),
    [("finetune classify", "bothways finetune classify"), ("quickstart", "run/pretrained")],
)
def test_a_run_of_another_kind_is_refused(command, told, tmp_path):
    folder = write(tmp_path / "run", [{"event": "step", "step": 10, "loss": 1.0}], command=command)
    with pytest.raises(BothwaysError, match=told):
        bw.diagnose(folder)


def test_an_unfinished_run_of_another_kind_is_refused_too(tmp_path):
    folder = write(tmp_path / "run", [{"event": "step", "step": 10, "loss": 1.0, "loss.classify": 1.0}])
    with pytest.raises(BothwaysError, match="no run of bothways pretrain"):
        bw.diagnose(folder)


def test_a_run_that_learns_from_a_teacher_alone_is_one_of_pre_training(tmp_path):
    """Its losses have other names than objectives have; at their beginning, and at their end."""
    steps = [
        {"event": "step", "step": step, "loss": 5.0 / step, "loss.states": 4.0 / step, "loss.scores": 1.0 / step}
        for step in range(10, 2001, 10)
    ]
    for count, verdict in ((3, "too early to say"), (200, "healthy")):
        folder = write(tmp_path / str(count), steps[:count], command="pretrain", settings={"steps": 2000}, results={})
        found = bw.diagnose(folder)
        assert found.verdict == verdict
        assert "loss of states" in found.figures


def test_the_command_says_it_to_people_and_to_machines(train, tmp_path, capsys):
    folder = str(
        write(tmp_path / "run", lines(loss=lambda x: falling(x) + (1.5 if x > 0.5 else 0)), command="pretrain")
    )
    assert main(["diagnose", folder]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}: sick; rate too high")
    assert "--learning-rate" in out
    assert max(map(len, out.splitlines())) <= 200
    assert main(["diagnose", folder, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["findings"][0]["name"]) == ("sick", "rate too high")
    assert found["findings"][0]["evidence"][0].keys() == {"what", "value", "source", "form"}
    for typed in (str(tmp_path / "absent"), str(tmp_path)):
        assert main(["diagnose", typed]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
