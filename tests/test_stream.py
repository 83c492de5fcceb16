"""Examples come once an epoch, in an order whose position is data."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.learn.stream import Stream


class Numbered:
    """Examples of unequal lengths whose tokens are their own number; the third entry says what they were made for."""

    def __init__(self, count):
        self.lengths = 1 + np.random.default_rng(count).integers(0, 20, count)

    def __len__(self):
        return len(self.lengths)

    def sequence(self, epoch, number):
        ids = np.full(self.lengths[number], number)
        return ids, np.full(len(ids), epoch % 2), (epoch, number)


def finish(batch, keys, examples, progress):
    """Targets that show whether keys and examples stand in the order of the batch."""
    assert [example[2] for example in examples] == list(keys)
    assert batch.token_ids[batch.starts[:-1]].tolist() == [number for _, number in keys]
    assert batch.segment_ids[batch.starts[:-1]].tolist() == [epoch % 2 for epoch, _ in keys]
    return batch, {"keys": np.array(keys)}


def stream(count=50, **options):
    return Stream(Numbered(count), finish, **{"batch_tokens": 60, "seed": 3, **options})


def keys_of(step):
    return sorted(tuple(key) for _, targets in step for key in targets["keys"].tolist())


def all_steps(of, most=10**6):
    steps = []
    while len(steps) < most and (step := of.next_step(0.0)) is not None:
        steps.append(step)
    return steps


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 200), st.integers(1, 100), st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_example_comes_once_an_epoch(count, epochs, size, micro, by_tokens):
    options = {"batch_tokens": size} if by_tokens else {"batch_tokens": None, "batch_size": size}
    steps = all_steps(stream(count, epochs=epochs, micro_tokens=micro, **options))
    seen = [key for step in steps for key in keys_of(step)]
    assert sorted(seen) == [(epoch, number) for epoch in range(epochs) for number in range(count)]


@given(st.integers(1, 200), st.integers(1, 100))
@settings(deadline=None, max_examples=60)
def test_steps_are_filled_and_their_batches_within_bounds(size, micro):
    steps = all_steps(stream(epochs=2, batch_tokens=size, micro_tokens=micro))
    for step in steps:
        tokens = [batch.tokens for batch, _ in step]
        assert all(total <= micro or batch.sequences == 1 for total, (batch, _) in zip(tokens, step, strict=True))
        assert sum(tokens) < size + 20, "filled until it holds so many, and no further"
    assert all(sum(batch.tokens for batch, _ in step) >= size for step in steps[:-1])


def test_a_size_in_sequences_is_kept():
    steps = all_steps(stream(50, batch_tokens=None, batch_size=16, epochs=1))
    assert [sum(batch.sequences for batch, _ in step) for step in steps] == [16, 16, 16, 2]


def test_the_stream_ends_after_its_epochs_and_stays_ended():
    of = stream(epochs=2)
    assert of.epoch == 0
    all_steps(of)
    assert of.epoch == 2
    assert of.next_step(0.0) is None
    assert of.next_step(0.0) is None


def test_without_epochs_it_does_not_end():
    of = stream(7)
    assert len(all_steps(of, 100)) == 100
    assert of.epoch > 5


@pytest.mark.parametrize("taken", [0, 1, 5, 13])
def test_a_position_is_restored_exactly(taken):
    """Forward in a new stream and back in the same one; the state is plain data."""
    of = stream(epochs=3)
    all_steps(of, taken)
    state = json.loads(json.dumps(of.state()))
    rest = all_steps(of)
    for other in (stream(epochs=3), of):
        other.restore(state)
        again = all_steps(other)
        assert len(again) == len(rest)
        for ours, theirs in zip(again, rest, strict=True):
            for (batch, targets), (expected, expected_targets) in zip(ours, theirs, strict=True):
                assert np.array_equal(batch.token_ids, expected.token_ids)
                assert np.array_equal(batch.starts, expected.starts)
                assert np.array_equal(targets["keys"], expected_targets["keys"])


def test_the_order_is_shuffled_by_seed_and_epoch():
    def order(seed):
        steps = all_steps(stream(200, seed=seed, epochs=2, batch_tokens=1))
        numbers = [number for step in steps for _, number in keys_of(step)]
        return numbers[:200], numbers[200:]

    first, second = order(0)
    assert first != second
    assert first != sorted(first)
    assert order(0) == (first, second)
    assert order(1)[0] != first


def test_a_part_of_the_examples_may_be_used():
    numbers = np.array([3, 17, 40])
    steps = all_steps(stream(50, numbers=numbers, epochs=2))
    seen = [key for step in steps for key in keys_of(step)]
    assert sorted(seen) == [(epoch, number) for epoch in (0, 1) for number in (3, 17, 40)]


def test_nothing_to_learn_from_is_one_sentence():
    with pytest.raises(BothwaysError, match="no examples"):
        stream(50, numbers=np.array([], dtype=int))


def test_a_position_of_another_stream_is_refused():
    with pytest.raises(BothwaysError, match="belongs to an order of count 7, not 50"):
        stream(50).restore(stream(7).state())
