"""Bulk jobs on a cluster of Ray's: every row once, whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.run import stream
from bothways.run.model import Model
from bothways.use import bulk, cluster

ray = pytest.importorskip("ray")
TEXTS = tiny.sentences(300, seed=6)


@pytest.fixture(scope="module")
def model():
    """On the engine that users get, which each worker makes for itself."""
    return Model(tiny.saved(("classify",)), device="cpu", engine="packed", name="tiny")


@pytest.fixture(scope="module", autouse=True)
def local():
    """One cluster on this machine for all tests."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 20)
    monkeypatch.setattr("bothways.text.rows.PEEKED", 3)


def test_a_cluster_makes_the_bytes_that_one_process_makes(tmp_path, model):
    bulk.embed(model, TEXTS, tmp_path / "here.npy")
    done = bulk.embed(model, TEXTS, tmp_path / "ray.npy", on="ray", workers=2)
    assert (done.texts, done.truncation.all_texts) == (300, 300)
    assert (tmp_path / "ray.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()


def test_workers_that_are_killed_are_replaced_and_every_row_is_answered_once(tmp_path, model, monkeypatch):
    bulk.predict(model, TEXTS, tmp_path / "here.jsonl")

    class Mortal(cluster._Actor):
        def answer(self, columns, sent):
            if TEXTS[150] in columns[0] and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().answer(columns, sent)

    once = tmp_path / "killed"
    monkeypatch.setattr(cluster, "_Actor", Mortal)
    bulk.predict(model, TEXTS, tmp_path / "ray.jsonl", on="ray", workers=2)
    assert once.exists()
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    assert [json.loads(line)["text"] for line in (tmp_path / "ray.jsonl").read_text().splitlines()] == TEXTS


def test_a_window_that_kills_every_worker_is_told_and_the_rows_before_are_kept(tmp_path, model, monkeypatch):
    class Doomed(cluster._Actor):
        def answer(self, columns, sent):
            if TEXTS[47] in columns[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().answer(columns, sent)

    monkeypatch.setattr(cluster, "_TRIES", 1)
    monkeypatch.setattr(cluster, "_Actor", Doomed)
    with pytest.raises(BothwaysError, match="workers have died 2 times") as told:
        bulk.embed(model, iter(TEXTS), tmp_path / "out.npy", on="ray", workers=1)
    kept = int(re.search(r"(\d+) rows are kept", str(told.value))[1])
    assert kept in (20, 40)  # what a worker answered just before it is killed may not have come back
    assert bulk.embed(model, iter(TEXTS), tmp_path / "out.npy").resumed == kept
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model.embed(TEXTS), atol=1e-5)


def test_what_a_worker_refuses_is_the_same_sentence_as_here(tmp_path, model):
    model = tiny.model((), max_length=16, truncation="error")
    with pytest.raises(BothwaysError, match="tokens where") as told:
        bulk.embed(model, ["short", "river " * 40], tmp_path / "out.npy", on="ray", workers=1)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []
