"""Each illness is found in a run that was made sick that way, and comes first; a healthy run is called healthy.

Most runs are real: a tiny encoder and a made-up language that it learns in seconds. Where only the course of the
numbers matters, the log is made by formula.
"""

import json
import math

import numpy as np
import pytest

import bothways as bw
import grammar
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.diagnose import judge
from bothways.learn.diagnosis.course import Course, Series, read_course
from bothways.text.prepare import prepare

FACTS = {
    "tokens": 1e6, "documents": 1000, "sentences": 5e4, "document_tokens": 1000, "vocabulary": 8000, "used": 0.97,
    "looked_at": 1e6, "unknown_share": 0.0, "tokens_per_word": 1.3, "unigram_loss": 6.2, "unigram_accuracy": 0.05,
    "duplicate_share": 0.02,
}  # fmt: skip
MINI = tiny.config("bert", width=256, embeddings__width=256, embeddings__vocab_size=8000)


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


HEALTHY = {
    "masked tokens": {},
    "another seed": {"seed": 1},
    "with dropout": {"dropout": 0.1},
    "more masked": {"mask_rate": 0.3},
    "with next sentences": {"objective": "mlm+nsp", "steps": 300},
    "wider": {"shape": {"width": 64, "embeddings__width": 64}, "learning_rate": 3e-3},
    "muon": {"optimizer": "muon", "learning_rate": 1e-2},
    "replaced tokens": {"objective": "rtd", "family": "electra", "steps": 300},
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


# -- logs by formula


def lines(steps=2000, *, loss, accuracy=lambda x: 0.05 + 0.3 * x, rate=1.5e-3, noise=0.02, end=1.0, **more):
    """Lines of a log every ten steps; what is a function takes the share of the run."""
    draw = np.random.default_rng(0)
    made = []
    for step in range(10, int(end * steps) + 1, 10):
        x = step / steps
        line = {
            "event": "step", "step": step, "tokens": 1024 * step, "tokens_per_second": 10_000, "epoch": x,
            "loss.mlm": loss(x) + noise * draw.normal(), "accuracy.mlm": accuracy(x) + 0.005 * draw.normal(),
            "seconds": step / 10, "rate": rate * min(x / 0.1, (1 - x) / 0.9), "gradient_norm": 2.0,
        }  # fmt: skip
        made.append(line | {"loss": line["loss.mlm"]} | {name: value(x) for name, value in more.items()})
    return made


def evaluations(steps=2000, *, loss):
    return [
        {"event": "evaluation", "step": step, "loss.mlm": loss(step / steps)} for step in range(200, steps + 1, 200)
    ]


def falling(x):
    """As a healthy loss falls: quickly to the frequencies of words, then with the logarithm of the steps."""
    return 9 - 2.8 * min(1, x / 0.05) - (0.6 * math.log(x / 0.08) if x > 0.08 else 0)


def course(
    tmp_path, log=None, *, over=True, facts=FACTS, held_out=(), failure="", insight=None, config=MINI, **settings
):
    base = {"learning_rate": 1.5e-3, "optimizer": "muon", "batch_tokens": 1024, "max_length": 32, "objective": "mlm"}
    return Course(
        folder=tmp_path / "run",
        over=over,
        steps=2000,
        log=Series(lines(loss=falling) if log is None else log),
        held_out=Series(list(held_out)),
        settings=base | settings,
        config=config,
        facts=dict(facts),
        failure=failure,
        insight=insight or {},
    )


def names(made):
    return [finding.name for finding in judge(made).findings]


def test_a_healthy_log_has_no_finding_and_neither_has_its_beginning(tmp_path):
    assert judge(course(tmp_path)).verdict == "healthy"
    for end, verdict in ((0.01, "too early to say"), (0.2, "too early to say"), (0.6, "healthy"), (0.9, "healthy")):
        found = judge(course(tmp_path, lines(loss=falling, end=end), over=False))
        assert (found.verdict, found.findings) == (verdict, ()), end


@pytest.mark.parametrize("facts", [FACTS, {}])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_healthy_logs_stay_healthy_under_noise_and_with_less_known(facts, noise, optimizer, tmp_path):
    made = course(tmp_path, lines(loss=falling, noise=noise), facts=facts, optimizer=optimizer)
    assert judge(made).verdict == "healthy", judge(made)
    assert judge(course(tmp_path, lines(loss=falling, noise=noise), facts=facts, config=None)).verdict == "healthy"


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("over", [True, False])
def test_a_run_of_a_few_lines_can_be_asked_about(count, over, tmp_path):
    """A trial of some seconds, which has learned nothing yet."""
    log = lines(10 * count, loss=lambda x: 8.0)
    found = judge(course(tmp_path, log, over=over, held_out=evaluations(200, loss=lambda x: 8.0)[: count // 5]))
    assert found.verdict == "too early to say" or (over and count)


def test_a_spike_that_is_made_good_is_no_illness(tmp_path):
    def spiking(x):
        return falling(x) + (3 if 0.5 < x < 0.53 else 0)

    assert names(course(tmp_path, lines(loss=spiking))) == []


def test_a_loss_that_is_lost_again_is_one(tmp_path):
    def lost(x):
        return falling(x) + (1.5 if x > 0.5 else 0)

    assert names(course(tmp_path, lines(loss=lost)))[0] == "rate too high"
    assert names(course(tmp_path, lines(loss=lost), facts={}, config=None))[0] == "rate too high"
    assert names(course(tmp_path, lines(loss=lost, end=0.7), over=False))[0] == "rate too high"
    assert "rate too high" not in names(course(tmp_path, lines(loss=lost), mask_rate=0.15, mask_rate_end=0.5))


def test_a_plateau_is_put_down_to_the_rate_only_where_the_rate_is_unusual(tmp_path):
    def stuck(x):
        return max(6.1, 9 - 2.9 * x / 0.1)

    assert names(course(tmp_path, lines(loss=stuck))) == ["on the plateau of word frequencies"]
    assert names(course(tmp_path, lines(loss=stuck, rate=2e-2), learning_rate=2e-2)) == ["rate too high"]
    assert names(course(tmp_path, lines(loss=stuck), facts={})) == [], "what is not known is not said"


def test_steps_to_leave_the_plateau_are_taken_from_comparable_runs(tmp_path):
    def write(name, log, fingerprint):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        run = {
            "command": "pretrain",
            "settings": {"steps": 4000},
            "seed": 0,
            "data": {"corpus": fingerprint},
            "results": {},
        }
        (folder / "run.json").write_text(json.dumps(run))

    write("other", lines(4000, loss=falling), "same")
    write("elsewhere", lines(400, loss=falling), "different")
    write("hardly begun", lines(20, loss=lambda x: 3.0), "same")
    stuck = Course(**{**vars(course(tmp_path, lines(400, loss=lambda x: 6.1))), "fingerprint": "same"})
    (finding,) = judge(stuck).findings
    (needed,) = [one for one in finding.evidence if "others left" in one.what]
    assert needed.source == "a run beside this one"
    left = next(line["step"] for line in lines(4000, loss=falling, noise=0) if line["loss.mlm"] < 0.88 * 6.2)
    assert needed.value == pytest.approx(left, rel=0.2)
    assert "--steps" in finding.remedy


def test_masking_that_grew_too_heavy(tmp_path):
    log = lines(loss=falling, accuracy=lambda x: 0.4 * min(1, x / 0.3) - max(0, x - 0.4) * 0.5)
    assert names(course(tmp_path, log, mask_rate=0.15, mask_rate_end=0.6)) == ["masking too heavy"]
    assert names(course(tmp_path, log, mask_rate=0.15)) == []


def test_a_model_too_small_is_told_from_one_that_has_learned_all_there_is(tmp_path):
    narrow = tiny.config("bert", width=48, embeddings__width=48, embeddings__vocab_size=8000)
    facts = FACTS

    def levelled(x):
        return max(5.0, falling(x) - 0.8)

    held = evaluations(loss=levelled)
    assert names(course(tmp_path, lines(loss=levelled), held_out=held, config=narrow, facts=facts)) == [
        "model too small"
    ]
    assert names(course(tmp_path, lines(loss=levelled), held_out=held)) == [], "256 numbers do for 8,000 tokens"
    low = lines(loss=lambda x: max(2.5, 9 - 6.5 * x / 0.3))
    assert names(course(tmp_path, low, config=narrow, facts=facts)) == []
    known = [
        {"from": 1, "to": 10, "count": 500, "right": 200, "loss": 1.0},
        {"from": 10, "to": None, "count": 500, "right": 250, "loss": 1.0},
    ]
    made = course(tmp_path, lines(loss=levelled), config=narrow, facts=facts, insight={"frequency": known})
    assert names(made) == [], "rare tokens are learned as well as frequent ones"


def test_overfitting_is_told_from_a_held_out_loss_that_wavers(tmp_path):
    def held(x):
        return falling(min(x, 0.5)) + max(0, x - 0.5)

    assert names(course(tmp_path, held_out=evaluations(loss=held))) == ["overfitting"]
    assert names(course(tmp_path, held_out=evaluations(loss=lambda x: falling(x) + 0.02 * math.sin(40 * x)))) == []


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"duplicate_share": 0.6}, "duplicated data"),
        ({"unknown_share": 0.2}, "vocabulary mismatch"),
        ({"tokens_per_word": 4.0}, "vocabulary mismatch"),
        ({"used": 0.1}, "vocabulary mismatch"),
        ({"used": 0.13, "tokens_per_word": 1.7, "looked_at": 30_000}, "vocabulary mismatch"),
    ],
)
def test_what_is_wrong_with_the_corpus_is_said_at_once(facts, name, tmp_path):
    made = course(tmp_path, lines(loss=falling, end=0.02), over=False, facts=FACTS | facts)
    assert names(made) == [name]


def test_an_unused_vocabulary_is_not_told_from_a_few_words(tmp_path):
    few = {**FACTS, "used": 0.1, "looked_at": 100_000}
    assert names(course(tmp_path, facts=few)) == []
    assert names(course(tmp_path, facts={**few, "tokens_per_word": 1.8}, base="a-multilingual-model")) == []


def test_an_objective_that_learns_nothing_is_told_only_where_others_learn(tmp_path):
    def at_chance(loss):
        more = {"loss.nsp": lambda x: 0.694, "accuracy.nsp": lambda x: 0.501}
        return course(tmp_path, lines(loss=loss, **more), objective="mlm+nsp")

    (finding,) = judge(at_chance(falling)).findings
    assert finding.name == "learns nothing"
    assert "--objective mlm," in finding.remedy
    assert names(at_chance(lambda x: 6.1)) == ["on the plateau of word frequencies"]
    learned = {"loss.nsp": lambda x: 0.65, "accuracy.nsp": lambda x: 0.6}
    assert names(course(tmp_path, lines(loss=falling, **learned), objective="mlm+nsp")) == []


def test_a_generator_that_guesses_all_leaves_nothing_to_find(tmp_path):
    rtd = {"loss.rtd": lambda x: 0.03, "accuracy.rtd": lambda x: 0.99}
    log = lines(loss=lambda x: max(0.3, 9 - 9 * x / 0.3), accuracy=lambda x: min(0.95, 2 * x), **rtd)
    assert names(course(tmp_path, log, objective="rtd")) == ["nothing to find"]


def test_waiting_for_data_is_said_with_the_speed_that_there_could_be(tmp_path):
    (finding,) = judge(course(tmp_path, lines(loss=falling, waiting=lambda x: 0.5))).findings
    assert finding.name == "waiting for data"
    assert finding.evidence[-1].value == pytest.approx(20_000)
    assert names(course(tmp_path, lines(loss=falling, waiting=lambda x: 0.05))) == []
    short = [{**line, "seconds": line["step"] / 100} for line in lines(loss=falling, waiting=lambda x: 0.5)]
    assert names(course(tmp_path, short)) == [], "half a minute is not worth a word"


def test_numbers_that_broke_are_put_down_to_bf16_only_at_a_usual_rate(tmp_path):
    log, broke = lines(loss=falling, end=0.5), "step 1001: loss.mlm is nan"
    made = course(tmp_path, log, failure=broke, precision="bf16")
    assert names(made) == ["precision trouble"]
    assert "--precision float32" in judge(made).findings[0].remedy
    assert names(course(tmp_path, log, failure=broke, precision="float32")) == ["rate too high"]
    high = lines(loss=falling, end=0.5, rate=2e-2)
    assert names(course(tmp_path, high, failure=broke, precision="bf16", learning_rate=2e-2)) == ["rate too high"]


def test_findings_stand_in_the_order_of_their_weight_and_say_what_to_do(tmp_path):
    log = lines(loss=falling, waiting=lambda x: 0.5)
    found = judge(course(tmp_path, log, facts=FACTS | {"duplicate_share": 0.5, "unknown_share": 0.3}))
    assert [one.name for one in found.findings] == ["vocabulary mismatch", "duplicated data", "waiting for data"]
    for finding in found.findings:
        assert finding.evidence
        assert finding.remedy.endswith(".")
        assert finding.what.endswith(".")
        assert all(math.isfinite(one.value) for one in finding.evidence)


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
