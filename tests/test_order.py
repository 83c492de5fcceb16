"""The shuffled order: every id once an epoch, and a position that can be saved anywhere."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.text.order import Order


@given(count=st.integers(1, 50), seed=st.integers(0, 9), epochs=st.integers(1, 3))
def test_each_epoch_holds_every_id_once(count, seed, epochs):
    numbers, ids = Order(count, seed).take(count * epochs)
    for epoch in range(epochs):
        assert sorted(ids[numbers == epoch]) == list(range(count))


@given(count=st.integers(1, 40), steps=st.lists(st.integers(0, 60), max_size=6))
def test_how_many_are_taken_at_a_time_does_not_matter(count, steps):
    order = Order(count, seed=3)
    parts = [order.take(n) for n in steps]
    epochs, ids = Order(count, seed=3).take(sum(steps))
    assert np.array_equal(np.concatenate([np.empty(0, int), *(part[1] for part in parts)]), ids)
    assert np.array_equal(np.concatenate([np.empty(0, int), *(part[0] for part in parts)]), epochs)


@given(count=st.integers(1, 40), before=st.integers(0, 100))
def test_a_saved_position_goes_on_exactly(count, before):
    order = Order(count, seed=5)
    order.take(before)
    saved = json.loads(json.dumps(order.state()))
    expected = order.take(70)
    later = Order(count, seed=5)
    later.take(7)
    later.restore(saved)
    made = Order(**saved)
    for resumed in (later, made):
        assert all(np.array_equal(a, b) for a, b in zip(resumed.take(70), expected, strict=True))


def test_a_position_from_before_there_were_runs_is_taken():
    order = Order(6, seed=0, run=2)
    order.restore({"count": 6, "seed": 0, "epoch": 1, "cursor": 2})
    assert order.taken == 8


def test_epochs_and_seeds_shuffle_differently():
    count = 1000
    _, two_epochs = Order(count, seed=0).take(2 * count)
    _, other_seed = Order(count, seed=1).take(count)
    first, second = two_epochs[:count], two_epochs[count:]
    for other in (second, other_seed, np.arange(count)):
        assert (first == other).mean() < 0.02


def test_a_position_of_another_order_is_refused():
    with pytest.raises(BothwaysError, match="count 5, not 6"):
        Order(6, seed=0).restore(Order(5, seed=0).state())
    for before, now in ((None, 3), (3, None), (3, 2)):
        with pytest.raises(BothwaysError, match=rf"in runs of {before or 6} ids, not {now or 6}, .* where it lay then"):
            Order(6, seed=0, run=now).restore(Order(6, seed=0, run=before).state())
    with pytest.raises(BothwaysError, match="no examples"):
        Order(0, seed=0)
    with pytest.raises(BothwaysError, match="cursor 9 is no position"):
        Order(5, seed=0, cursor=9)
