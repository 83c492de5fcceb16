"""A batch holds every token once and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bothways.batch import budget_batches, make_batch, pack, unpack

LENGTHS = st.lists(st.integers(1, 40), max_size=30)


def rectangles(min_rows=0):
    """Lengths of the rows of a padded rectangle whose longest row is full."""
    return st.lists(st.integers(1, 12), min_size=min_rows, max_size=12)


def padded(lengths):
    """Ids, mask and segments; what stands under the padding is noise that must not matter."""
    draw = np.random.default_rng(len(lengths))
    shape = (len(lengths), max(lengths, default=0))
    mask = (np.arange(shape[1]) < np.asarray(lengths, dtype=int)[:, None]).astype(np.int64)
    return draw.integers(0, 99, shape), mask, draw.integers(0, 2, shape)


@given(rectangles(), st.booleans())
def test_pad_after_unpad_is_the_identity(lengths, as_torch):
    ids, mask, segments = padded(lengths)
    arrays = [torch.from_numpy(x) for x in (ids, mask, segments)] if as_torch else [ids, mask, segments]
    batch = pack(*arrays)
    assert batch.tokens == mask.sum()
    for values, flat in ((ids, batch.token_ids), (segments, batch.segment_ids)):
        spread = unpack(torch.from_numpy(flat) if as_torch else flat, batch, fill=-1)
        assert isinstance(spread, torch.Tensor if as_torch else np.ndarray)
        assert np.array_equal(spread, np.where(mask == 1, values, -1))


@given(rectangles(1), st.sampled_from([(), (3,), (2, 5)]), st.sampled_from(["float32", "float16", "int64", "bool"]))
def test_unpack_keeps_kind_and_shape_of_values(lengths, rest, dtype):
    batch = pack(*padded(lengths))
    values = np.random.default_rng(0).integers(0, 2, (batch.tokens, *rest)).astype(dtype)
    spread = unpack(values, batch)
    tensor = unpack(torch.from_numpy(values), batch)
    assert spread.dtype == values.dtype
    assert tensor.dtype == torch.from_numpy(values).dtype
    assert spread.shape == tensor.shape == (len(lengths), max(lengths), *rest)
    assert np.array_equal(spread, tensor.numpy())


@given(rectangles(1))
def test_gradients_flow_through_unpack(lengths):
    batch = pack(*padded(lengths))
    values = torch.randn(batch.tokens, 3, requires_grad=True)
    weights = torch.randn(len(lengths), max(lengths), 3)
    (unpack(values, batch) * weights).sum().backward()
    mask = np.arange(max(lengths)) < np.asarray(lengths)[:, None]
    assert torch.allclose(unpack(values.grad, batch), weights * torch.from_numpy(mask)[..., None])


def test_unpack_stands_in_anyones_own_order():
    """A batch cut out of many sequences comes back in the order of its rows."""
    batch = make_batch([[1, 2, 3], [4], [5, 6]], rows=[40, 7, 12])
    assert unpack(batch.token_ids, batch).tolist() == [[4, 0, 0], [5, 6, 0], [1, 2, 3]]


def test_pack_leaves_out_whatever_is_masked():
    """Padding on the left, and holes: positions count the real tokens."""
    batch = pack([[0, 0, 7, 8, 9], [3, 0, 4, 0, 5]], [[0, 0, 1, 1, 1], [1, 0, 1, 0, 1]])
    assert batch.token_ids.tolist() == [7, 8, 9, 3, 4, 5]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 2]


@given(LENGTHS)
def test_make_batch_holds_each_sequence_once_in_order_of_length(lengths):
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, 1000, length) for length in lengths]
    segments = [draw.integers(0, 2, length) for length in lengths]
    rows = draw.permutation(len(lengths)) + 5
    batch = make_batch(texts, segments, rows)
    assert (batch.tokens, batch.sequences, batch.longest) == (sum(lengths), len(lengths), max(lengths, default=0))
    assert batch.lengths.tolist() == sorted(lengths)
    assert batch.starts.tolist() == [0, *np.cumsum(sorted(lengths))]
    place_of = {int(row): place for place, row in enumerate(rows)}
    for place, row in enumerate(batch.rows):
        part = slice(batch.starts[place], batch.starts[place + 1])
        assert batch.token_ids[part].tolist() == texts[place_of[row]].tolist()
        assert batch.segment_ids[part].tolist() == segments[place_of[row]].tolist()
        assert batch.positions[part].tolist() == list(range(batch.lengths[place]))
        assert (batch.sequence_of_token[part] == place).all()
    same = [(length, place_of[row]) for length, row in zip(batch.lengths, batch.rows, strict=True)]
    assert same == sorted(same), "equal lengths keep their order"


@given(LENGTHS)
def test_the_plan_covers_every_token_once_in_rectangles_of_one_length(lengths):
    batch = make_batch([np.zeros(length) for length in lengths])
    covered = 0
    for start, sequences, length in batch.plan:
        assert start == covered
        first = np.searchsorted(batch.starts, start)
        assert (batch.lengths[first : first + sequences] == length).all()
        covered += sequences * length
    assert covered == batch.tokens
    assert len(batch.plan) == len(set(lengths)), "one rectangle a length"


@given(LENGTHS, st.integers(1, 100))
def test_batches_hold_each_sequence_once_and_never_more_than_the_budget(lengths, budget):
    batches = budget_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    sizes = [sum(lengths[place] for place in batch) for batch in batches]
    for batch, size in zip(batches, sizes, strict=True):
        assert size <= budget or len(batch) == 1
    longest = [max(lengths[place] for place in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True), "the longest come first"
    for batch, size, following in zip(batches, sizes, batches[1:], strict=False):
        assert size + lengths[following[0]] > budget, f"{batch} had room"


@pytest.mark.parametrize("make", [lambda: make_batch([]), lambda: pack(np.empty((0, 5), dtype=int))])
def test_an_empty_batch_is_a_batch(make):
    batch = make()
    assert (batch.tokens, batch.sequences, batch.longest, batch.plan) == (0, 0, 0, ())
    assert unpack(np.empty((0, 4)), batch).shape == (0, 0, 4)
    assert budget_batches([], 10) == []


def test_with_tokens_changes_only_the_tokens():
    batch = make_batch([[1, 2], [3]])
    other = batch.with_tokens(batch.token_ids + 10)
    assert other.token_ids.tolist() == [13, 11, 12]
    assert batch.token_ids.tolist() == [3, 1, 2]
    assert other.starts is batch.starts
