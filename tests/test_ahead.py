"""Data prepared ahead are the same data, and nobody sees that the stream is further than the run."""

import signal
import threading
import time

import pytest
import torch

import learner
from bothways.errors import BothwaysError
from bothways.learn.ahead import Ahead
from bothways.learn.checkpoint import own_tensors


class Watched(learner.Steps):
    """Notes who asked for what."""

    def __init__(self, *arguments, fails_at=None):
        super().__init__(*arguments)
        self.asked, self.threads, self.fails_at = [], [], fails_at

    def next_step(self, progress):
        self.asked.append((self.at, progress))
        self.threads.append(threading.current_thread())
        if self.at == self.fails_at:
            raise BothwaysError("the shard is cut short; prepare the corpus again")
        return super().next_step(progress)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def tokens(items):
    return [batch.token_ids.tolist() for batch, _ in items]


def test_steps_prepared_ahead_are_those_of_the_stream_itself_and_so_is_the_position():
    plain, watched = learner.Steps(), Watched()
    with Ahead(watched) as ahead:
        for step in range(6):
            assert tokens(ahead.next_step(step / 6, (step + 1) / 6)) == tokens(plain.next_step(step / 6))
            assert ahead.state() == plain.state()
            assert ahead.epoch == plain.epoch
    assert watched.asked[:6] == [(step, step / 6) for step in range(6)]
    assert watched.asked[6:] in ([], [(6, 1.0)])  # prepared in vain, if it was begun at all
    assert watched.threads[0] is threading.current_thread()
    assert {thread.name for thread in watched.threads[1:]} == {"data_0"}


def test_the_stream_is_left_where_the_run_stands():
    stream = Watched()
    with Ahead(stream) as ahead:
        ahead.next_step(0.0, 0.1)
        ahead.next_step(0.1, 0.2)
        while len(stream.asked) < 3:
            time.sleep(0.001)  # until the third step is being prepared
    assert stream.state() == {"at": 2}


def test_what_was_prepared_for_another_progress_is_prepared_again():
    stream = Watched()
    with Ahead(stream) as ahead:
        ahead.next_step(0.0, 0.5)
        found = ahead.next_step(0.1)
    assert stream.asked == [(0, 0.0), (1, 0.5), (1, 0.1)]
    assert tokens(found) == tokens([learner.make_item(2 * 2 + place, 1 + 3 * place) for place in range(2)])


def test_going_to_a_position_throws_away_what_lies_ready():
    with Ahead(learner.Steps()) as ahead:
        first = tokens(ahead.next_step(0.0, 0.1))
        ahead.restore({"at": 0})
        assert ahead.state() == {"at": 0}
        assert tokens(ahead.next_step(0.0)) == first


def test_the_end_of_the_data_is_told_when_it_is_reached():
    with Ahead(learner.Steps(2)) as ahead:
        assert ahead.next_step(0.0, 0.1) is not None
        assert ahead.next_step(0.1, 0.2) is not None
        assert ahead.next_step(0.2, 0.3) is None


def test_a_mistake_in_the_thread_is_told_by_the_step_that_needs_the_data():
    with Ahead(Watched(fails_at=1)) as ahead:
        ahead.next_step(0.0, 0.1)
        with pytest.raises(BothwaysError, match="the shard is cut short"):
            ahead.next_step(0.1)


def test_a_mistake_in_data_that_nobody_needs_is_nobodys_concern():
    stream = Watched(fails_at=1)
    with Ahead(stream) as ahead:
        ahead.next_step(0.0, 0.1)
        ahead.restore({"at": 0})
        ahead.next_step(0.0, 0.1)
    assert stream.state() == {"at": 1}, "after the step that was taken since, not where the thread was"


@pytest.fixture(params=[True, False])
def ahead(request, monkeypatch):
    """As on a device that computes by itself, and as on a processor."""
    monkeypatch.setattr("bothways.learn.loop.prepares_ahead", lambda device: request.param)
    return request.param


def test_a_run_asks_for_each_step_once_and_for_none_too_many(ahead):
    stream = Watched()
    learner.run(stream=stream, steps=7)
    assert stream.asked == [(step, step / 7) for step in range(7)]
    assert len({thread.name for thread in stream.threads}) == 1 + ahead


def test_a_mistake_in_the_data_ends_the_run_with_its_sentence(tmp_path, ahead):
    with pytest.raises(BothwaysError, match="the shard is cut short"):
        learner.run(tmp_path, stream=Watched(fails_at=5), save_every=2)
    model, _ = learner.run(tmp_path, save_every=2)
    whole, _ = learner.run()
    for name, tensor in own_tensors(whole).items():
        assert torch.equal(tensor, own_tensors(model)[name]), name


def test_stopped_with_data_lying_ready_a_run_resumes_to_the_same_bits(tmp_path, ahead):
    def interrupt(event):
        if event.step == 17:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        learner.run(tmp_path, callbacks=[interrupt])
    model, history = learner.run(tmp_path)
    whole, expected = learner.run(stream=learner.Steps())
    for name, tensor in own_tensors(whole).items():
        assert torch.equal(tensor, own_tensors(model)[name]), name
    assert history.values("loss") == expected.values("loss")


def test_a_time_budget_tries_steps_out_and_puts_the_data_back(ahead):
    stream = Watched()
    _, history = learner.run(stream=stream, steps=4, minutes=0.02)
    assert history.steps == 4
    assert stream.asked[-4:] == [(step, step / 4) for step in range(4)]
