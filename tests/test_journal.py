"""The log: one JSON object a line, cut back to the checkpoint, TensorBoard only when asked."""

import json
import math
import os

import pytest

import learner
from bothways.errors import BothwaysError
from bothways.learn.journal import Journal


def written(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_each_line_is_on_the_disk_as_soon_as_it_is_written(tmp_path):
    journal = Journal(tmp_path)
    for step in range(3):
        journal.write("step", step, {"loss": 0.1 + step})
        assert written(tmp_path) == journal.lines
    assert journal.lines[2] == {"event": "step", "step": 2, "loss": 2.1}


def test_what_is_not_finite_becomes_null(tmp_path):
    with Journal(tmp_path) as journal:
        journal.write("evaluation", 1, {"mcc": math.nan, "loss": math.inf})
    assert written(tmp_path) == [{"event": "evaluation", "step": 1, "mcc": None, "loss": None}]


def test_what_came_after_the_checkpoint_is_cut_off(tmp_path):
    with Journal(tmp_path) as journal:
        journal.write("step", 1, {"note": "grün"})
        end = journal.end()
        journal.write("step", 2, {})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "st')  # a line that the kill cut in half
    with Journal(tmp_path, end=end) as journal:
        assert [line["step"] for line in journal.lines] == [1]
        journal.write("step", 2, {"again": True})
    assert [line.get("again") for line in written(tmp_path)] == [None, True]


def test_a_log_that_lost_its_end_is_continued_after_its_last_whole_line(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"event": "step", "step": 1}\n{"event": "step", "st')
    with Journal(tmp_path, end=1000) as journal:
        journal.write("step", 2, {})
    assert [line["step"] for line in written(tmp_path)] == [1, 2]


def test_a_log_that_is_none_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text("dear diary\n")
    with pytest.raises(BothwaysError, match="is not the log that the run left"):
        Journal(tmp_path, end=11)


def test_a_new_run_begins_a_new_log(tmp_path):
    learner.run(tmp_path / "a", steps=3)
    assert [line["step"] for line in written(tmp_path / "a")] == [3, 3]
    with Journal(tmp_path / "a"):
        assert written(tmp_path / "a") == []


def test_without_a_folder_the_lines_are_kept_in_memory():
    with Journal(None) as journal:
        journal.write("step", 1, {"loss": 1.0})
        assert journal.end() == 0
    assert journal.lines[0]["loss"] == 1.0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    with Journal(tmp_path) as journal:
        journal.write("step", 1, {})
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, journal._file.fileno())
        monkeypatch.setattr(journal._file, "truncate", lambda size: size, raising=False)
        with pytest.raises(BothwaysError, match=r"log.jsonl: the log cannot be written \(No space left on device\)"):
            journal.write("step", 2, {})
        os.close(full)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path, monkeypatch):
    class Short:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            return self.file.write(data[:5])

        def __getattr__(self, name):
            return getattr(self.file, name)

    with Journal(tmp_path) as journal:
        journal.write("step", 1, {})
        journal._file = Short(journal._file)
        with pytest.raises(BothwaysError, match="cannot be written"):
            journal.write("step", 2, {})
    assert [line["step"] for line in written(tmp_path)] == [1]


def test_tensorboard_only_when_asked(tmp_path):
    pytest.importorskip("tensorboard")
    learner.run(tmp_path / "without", steps=3)
    assert not (tmp_path / "without" / "tensorboard").exists()
    learner.run(tmp_path / "with", steps=6, tensorboard=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "with" / "tensorboard"))
    events.Reload()
    assert [point.step for point in events.Scalars("step/loss")] == [3, 6]
    logged = [line["loss"] for line in written(tmp_path / "with") if line["event"] == "step"]
    assert [point.value for point in events.Scalars("step/loss")] == pytest.approx(logged, rel=1e-6)


def test_tensorboard_needs_a_folder_and_the_package(tmp_path, monkeypatch):
    with pytest.raises(BothwaysError, match="give an output folder"):
        Journal(None, tensorboard=True)
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(BothwaysError, match=r"pip install 'bothways\[tensorboard\]'"):
        Journal(tmp_path, tensorboard=True)
