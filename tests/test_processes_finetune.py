"""Several processes fine-tune as one does: the same losses, the same negatives, the same weights."""

import csv
import shutil

import pytest
from safetensors.torch import load_file

import ranks
import tiny
from bothways.errors import BothwaysError
from bothways.learn.curve import learning_curve
from bothways.learn.folds import cross_validate
from bothways.learn.several import finetune_seeds
from bothways.learn.tune import tune

TEXTS = tiny.sentences(54, longest=10)
RUNS = {
    "classify": ("classify", {"micro_tokens": 30, "lora": 2}),
    "regularised": ("classify", {"adversarial": "fgm", "unfreeze": 0.5, "average": 0.9}),
    "plain": ("embed", {"loss": "mnrl"}),
    "cached": ("embed", {"loss": "mnrl", "micro_tokens": 30, "symmetric": True, "dims": [16]}),
    "mined": ("embed", {"loss": "mined"}),
    "late": ("late", {"micro_tokens": 30}),
    "sparse": ("sparse", {}),
}
"""What is learned by one process and by two. Of 17 groups, 8 a step, the last step has one: a process has none."""
DATA = {
    "classify": [("text", "label"), *((text, "ab"[place % 2]) for place, text in enumerate(TEXTS[:41]))],
    "embed": [("anchor", "positive"), *zip(TEXTS[:17], TEXTS[17:34], strict=True)],
    "mined": [("text", "label"), *((text, "xyz"[place % 3]) for place, text in enumerate(TEXTS))],
}


def written(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every run by one process and by two; and one that two begin and others finish."""
    folder = tmp_path_factory.mktemp("finetuned")
    base = tiny.folder(folder / "base", heads=("mlm",))
    jobs = []
    for name, (task, settings) in RUNS.items():
        data = folder / f"{name}.csv"
        written(data, DATA.get(name) or DATA["classify" if task == "classify" else "embed"])
        jobs += [ranks.tuned(count, task, data, base, folder / f"{name}-{count}", **settings) for count in (1, 2)]
    begun = (folder / "plain.csv", base, folder / "begun")
    codes, said = ranks.run(*jobs, ranks.tuned(2, "embed", *begun, loss="mnrl", deaths=[[1, "SIGTERM", 2]]))
    assert codes == [[0], [0, 0]] * len(RUNS) + [[0, 0]], said
    assert said.count("Stopped after step 2 of 3") == 1  # the first process speaks, no other does
    shutil.copytree(folder / "begun", folder / "then-one")
    codes, said = ranks.run(
        ranks.tuned(1, "embed", *begun[:2], folder / "then-one", loss="mnrl"),
        ranks.tuned(2, "embed", *begun, loss="mnrl", report=True),
        ranks.tuned(2, "embed", *begun[:2], folder / "few", batch_size=1),
        ranks.tuned(2, "embed", "-", base, folder / "piped"),
    )
    assert codes == [[0], [0, 0], [2, 2], [2, 2]], said
    assert said.count("a step of 1 examples (batch_size) has none for each of 2 processes") == 1
    assert said.count("standard input cannot be read by 2 processes: keep it in a file first") == 1
    return folder


def assert_same_numbers(out, expected, begin=1):
    found, wanted = ranks.losses(out), ranks.losses(expected)
    steps = [step for step in wanted if step >= begin]
    assert steps
    assert [found[step] for step in steps] == pytest.approx([wanted[step] for step in steps], rel=1e-5, abs=1e-6)
    for event in ("step", "evaluation"):
        for line, other in zip(ranks.log(out, event), ranks.log(expected, event), strict=True):
            for name in other.keys() - {"seconds", "waiting", "tokens_per_second"}:
                if "loss" in name or "accuracy" in name or name in ("gradient_norm", "tokens", "step", "epoch"):
                    assert line[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name
    one, other = (load_file(each / "model" / "model.safetensors") for each in (out, expected))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns(trained, name):
    assert_same_numbers(trained / f"{name}-2", trained / f"{name}-1")


def test_what_two_processes_have_begun_one_or_two_finish(trained):
    for name in ("then-one", "begun"):
        assert_same_numbers(trained / name, trained / "plain-1", begin=3)


def test_every_example_is_read_by_one_process(trained):
    shared = [ranks.keys(trained / "classify-2", rank) for rank in range(2)]
    assert not set(shared[0]) & set(shared[1])
    assert sorted(shared[0] + shared[1]) == sorted(ranks.keys(trained / "classify-1", 0))


def test_only_the_first_process_writes(trained):
    names = [{path.name for path in (trained / name).iterdir()} for name in ("plain-1", "plain-2", "begun")]
    assert names[0] == names[1] == {"log.jsonl", "model", "run.json"}
    assert names[2] == names[0] | {"metrics.json", "report.html"}


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        (finetune_seeds, "A run of several seeds"),
        (cross_validate, "Cross-validation"),
        (learning_curve, "A learning curve"),
        (lambda *task, **given: tune(*task, out="nowhere", **given), "A search for settings"),
    ],
)
def test_groups_of_runs_are_refused_in_several_processes(monkeypatch, verb, told):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BothwaysError, match=f"{told} runs in one process, but torchrun has started 2"):
        verb("classify", base="none", train="none")
