"""Each illness that the course of the numbers shows is found in a log made by formula."""

import json
import math

import pytest

import tiny
from bothways.learn.diagnose import judge
from bothways.learn.diagnosis.course import Course, Series
from run_logs import evaluations, falling, lines

FACTS = {
    "tokens": 1e6, "documents": 1000, "sentences": 5e4, "document_tokens": 1000, "vocabulary": 8000, "used": 0.97,
    "looked_at": 1e6, "unknown_share": 0.0, "tokens_per_word": 1.3, "unigram_loss": 6.2, "unigram_accuracy": 0.05,
    "duplicate_share": 0.02,
}  # fmt: skip
MINI = tiny.config("bert", width=256, embeddings__width=256, embeddings__vocab_size=8000)


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
    """A trial of some seconds, which has learned nothing: while it goes on nobody knows, once it is over it has not."""
    log = lines(10 * count, loss=lambda x: 8.0)
    found = judge(course(tmp_path, log, over=over, held_out=evaluations(200, loss=lambda x: 8.0)[: count // 5]))
    assert found.verdict == ("sick" if over and count else "too early to say")
    assert [finding.name for finding in found.findings] == ["on the plateau of word frequencies"] * bool(over and count)


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
