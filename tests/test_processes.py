"""Several processes train as one does: the same losses, the same checkpoints, and nothing is read twice or lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

import ranks
import tiny
from bothways.errors import BothwaysError
from bothways.learn import parallel, processes
from bothways.learn.processes import Processes

EVERY_STEP = 1e-9  # minutes between checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run by one process; by two, each holding all or a part; and one that two begin and others finish."""
    folder = tmp_path_factory.mktemp("processes")
    corpus = ranks.corpus(folder / "corpus").folder
    stop = [[1, "SIGTERM", 2]]  # one of the processes is asked to end
    first, said = ranks.run(
        ranks.job(1, corpus, folder / "one"),
        ranks.job(2, corpus, folder / "replicas"),
        ranks.job(2, corpus, folder / "shards", parallel="fsdp"),
        ranks.job(2, corpus, folder / "begun", deaths=stop),
        ranks.job(2, corpus, folder / "begun-shards", parallel="fsdp", deaths=stop),
    )
    assert first == [[0], [0, 0], [0, 0], [0, 0], [0, 0]], said
    assert said.count("Stopped after step 2 of 6") == 2  # the first process speaks, no other does
    for name in ("one", "three"):
        shutil.copytree(folder / "begun", folder / f"then-{name}")
    shutil.copytree(folder / "begun-shards", folder / "shards-then-two")
    second, said = ranks.run(
        ranks.job(1, corpus, folder / "then-one"),
        ranks.job(3, corpus, folder / "then-three"),
        ranks.job(2, corpus, folder / "shards-then-two"),
    )
    assert second == [[0], [0, 0, 0], [0, 0]], said
    return folder


def assert_same_numbers(out, expected, steps=range(1, 7)):
    found, wanted = ranks.losses(out), ranks.losses(expected)
    assert [found[step] for step in steps] == pytest.approx([wanted[step] for step in steps], rel=1e-5)
    for event in ("evaluation", "insight"):
        ours, theirs = ranks.log(out, event), ranks.log(expected, event)
        assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [3, 6]
        for line, other in zip(ours, theirs, strict=True):
            for name in line.keys() & {"loss", "loss.mlm", "accuracy.mlm", "accuracy.nsp"}:
                assert line[name] == pytest.approx(other[name], rel=1e-5)
    groups = [
        [(row["from"], row["count"]) for row in ranks.log(each, "insight")[-1]["frequency"]] for each in (out, expected)
    ]
    assert groups[0] == groups[1]  # what is measured on held-out examples is measured on all of them
    one, other = (load_file(each / "model" / "model.safetensors") for each in (out, expected))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("name", ["replicas", "shards"])
def test_two_processes_learn_what_one_learns(trained, name):
    assert_same_numbers(trained / name, trained / "one")


@pytest.mark.parametrize("name", ["then-one", "then-three", "shards-then-two"])
def test_what_two_processes_have_saved_any_number_continues(trained, name):
    assert_same_numbers(trained / name, trained / "one", range(3, 7))


def test_every_example_is_read_by_one_process_and_the_order_is_that_of_one(trained):
    alone = ranks.keys(trained / "one", 0)
    shared = [set(ranks.keys(trained / "replicas", rank)) for rank in range(2)]
    assert not shared[0] & shared[1]
    assert set(alone) <= shared[0] | shared[1]  # what was read beyond a step is the next one's
    tokens = [ranks.log(trained / name)[-1]["tokens"] for name in ("one", "replicas", "shards", "then-three")]
    assert len(set(tokens)) == 1


def test_only_the_first_process_writes(trained):
    names = [sorted(path.name for path in (trained / name).iterdir()) for name in ("one", "replicas", "shards")]
    assert names[0] == names[1] == names[2]
    assert len((trained / "replicas" / "log.jsonl").read_text().splitlines()) == len(
        (trained / "one" / "log.jsonl").read_text().splitlines()
    )


def test_replaced_tokens_and_muon_are_shared_out_too(trained):
    more = {"objective": "rtd", "optimizer": "muon", "steps": 3}
    corpus = trained / "corpus"
    jobs = [ranks.job(1, corpus, trained / "rtd-1", **more), ranks.job(2, corpus, trained / "rtd-2", **more)]
    codes, said = ranks.run(*jobs, ranks.job(2, corpus, trained / "rtd-shards", parallel="fsdp", **more))
    assert codes == [[0], [0, 0], [0, 0]], said
    one, *others = (list(ranks.losses(trained / f"rtd-{name}").values()) for name in ("1", "2", "shards"))
    for each in others:
        assert each == pytest.approx(one, rel=1e-3)  # Muon multiplies in bf16


def test_a_teacher_is_asked_and_its_answers_are_kept_by_all_together(trained):
    """Two processes fill one folder; from it they learn again what they learned, and one process does too."""
    tiny.folder(trained / "teacher", ("mlm",), layers=4)
    given = {"objective": "minilm", "size": "half", "family": None, "teacher": str(trained / "teacher")}
    cached = {**given, "teacher_cache": str(trained / "kept")}
    corpus = trained / "corpus"
    jobs = [ranks.job(1, corpus, trained / "taught-1", **given)]
    jobs += [ranks.job(2, corpus, trained / f"taught-{turn}", **cached) for turn in ("2", "again")]
    codes, said = ranks.run(*jobs, ranks.job(1, corpus, trained / "taught-alone", **cached))
    assert codes == [[0], [0, 0], [0, 0], [0]], said
    plain, *others = (list(ranks.losses(trained / f"taught-{name}").values()) for name in ("1", "2", "again", "alone"))
    assert all(each == pytest.approx(plain, rel=1e-3) for each in others)  # what is kept has 16 bits
    assert others[2] == pytest.approx(others[1], rel=1e-5)


def test_a_lost_worker_ends_the_run_in_a_sentence_and_the_next_start_goes_on(trained):
    corpus, out = trained / "corpus", trained / "lost"
    codes, said = ranks.run(
        ranks.job(2, corpus, out, deaths=[[1, "SIGKILL", 3]], save_minutes=EVERY_STEP),
        ranks.job(2, corpus, out, learning_rate=2e-3),
        ranks.job(2, corpus, out),
    )
    assert codes == [[2, -9], [2, 2], [0, 0]], said
    assert "bothways: another process of this run is gone" in said
    assert said.count("learning_rate is 0.001 there and 0.002 here") == 1  # what all find, one of them tells
    assert_same_numbers(out, trained / "one")


def test_torchrun_starts_the_processes_again_after_one_was_killed(trained):
    corpus, out = trained / "corpus", trained / "elastic"
    job = ranks.job(2, corpus, out, deaths=[[1, "SIGKILL", 3]], save_minutes=EVERY_STEP)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "--max-restarts", "1", ranks.__file__, job],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert_same_numbers(out, trained / "one")


@pytest.mark.parametrize(
    ("count", "tokens", "said"),
    [
        (3, 4096, r"4,096 tokens .* does not divide among 3 processes: take 4,095, or another number"),
        (8, 512, r"512 tokens .* has not a sequence of 128 tokens for each of 8 processes: take 1,024 or more"),
    ],
)
def test_a_number_of_processes_that_does_not_fit_is_refused(monkeypatch, count, tokens, said):
    monkeypatch.setattr(parallel, "here", lambda: Processes(0, count))
    with pytest.raises(BothwaysError, match=said):
        parallel.check_processes("auto", tokens, 128)


def test_messages_of_any_length_arrive_whole(monkeypatch):
    """Two processes that say the same, a short thing and one that takes a second round."""
    monkeypatch.setattr(processes.distributed, "get_world_size", lambda group: 2)

    def all_gather(found, own, group):
        for each in found:
            each.copy_(own)

    monkeypatch.setattr(processes.distributed, "all_gather", all_gather)
    for value in ({"a": 1 / 3, "b": None}, ["x" * 10_000]):
        assert Processes(0, 2).gathered(value) == [value, json.loads(json.dumps(value))]
