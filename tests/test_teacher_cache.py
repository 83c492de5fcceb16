"""What a teacher made of each example is kept on the disk: what comes back, what counts as empty, what is refused."""

from collections import namedtuple

import numpy as np
import pytest
import torch

from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.objectives.distil import cache as cache_module
from bothways.learn.objectives.distil.cache import Shape, TeacherCache

SHAPE = Shape(copies=2, examples=5, length=8, states=3, width=4)


def filled(folder, keys=((0, 1), (1, 4)), lengths=(8, 5), **changes):
    """A cache with some sequences, and what it was given."""
    cache = TeacherCache(folder, SHAPE, {"teacher": "x", **changes}, bf16=False)
    batch = make_batch([np.arange(length) for length in lengths])
    states = torch.randn((3, batch.tokens, 4), generator=torch.Generator().manual_seed(1))
    cache.keep(np.array(keys)[batch.rows], batch, states)
    return cache, np.array(keys)[batch.rows], batch, states


def test_what_is_kept_comes_back_in_16_bits(tmp_path):
    cache, keys, batch, states = filled(tmp_path / "kept")
    found = cache.find(keys, batch)
    assert torch.equal(found, states.half().float())
    assert torch.equal(TeacherCache(tmp_path / "kept", SHAPE, {"teacher": "x"}, bf16=False).find(keys, batch), found)
    assert cache.find(keys + np.array([2, 0]), batch) is not None, "two copies: epoch 2 is epoch 0 again"
    assert cache.find(keys + np.array([1, 0]), batch) is None
    assert cache.find(keys - [0, 1], batch) is None


def test_numbers_beyond_the_type_are_kept_as_its_largest(tmp_path):
    cache, keys, batch, _ = filled(tmp_path / "kept")
    cache._marks[:] = 0
    cache.keep(keys, batch, torch.full((3, batch.tokens, 4), 1e6))
    assert torch.isfinite(cache.find(keys, batch)).all()


def test_what_another_input_left_or_was_half_written_counts_as_empty(tmp_path):
    """Whatever is not borne out by its checksum is made again, and the rest stays."""
    cache, keys, batch, states = filled(tmp_path / "kept")
    other = batch.with_tokens(batch.token_ids + (batch.token_ids == 3))
    assert cache.find(keys, other) is None
    with (tmp_path / "kept" / "states.bin").open("r+b") as file:
        file.seek(SHAPE.place_bytes * 1 + 5)
        file.write(b"\xff")
    assert cache.find(keys, batch) is None
    shorter = make_batch([np.arange(5)])
    assert cache.find(keys[:1], shorter) is not None, "the other sequence is whole"
    cache.keep(keys, batch, states)
    assert torch.equal(cache.find(keys, batch), states.half().float())


def test_files_that_were_cut_short_are_made_anew(tmp_path):
    _, keys, batch, states = filled(tmp_path / "kept")
    (tmp_path / "kept" / "states.bin").write_bytes(b"")
    cache, *_ = filled(tmp_path / "kept")
    assert torch.equal(cache.find(keys, batch), states.half().float())
    (tmp_path / "kept" / "cache.json").unlink()
    cache, *_ = filled(tmp_path / "kept")
    assert cache.find(keys, batch) is not None


def test_a_cache_of_another_run_is_refused_by_what_differs(tmp_path):
    filled(tmp_path / "kept")
    with pytest.raises(BothwaysError, match=r"teacher is 'x' there and 'y' here.*another folder"):
        filled(tmp_path / "kept", teacher="y")
    with pytest.raises(BothwaysError, match=r"numbers is 'torch.float16' there and 'torch.bfloat16' here"):
        TeacherCache(tmp_path / "kept", SHAPE, {"teacher": "x"}, bf16=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BothwaysError, match="holds something else"):
        filled(tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_cache_that_will_not_fit_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(BothwaysError, match=r"take up to .* GB and 0.0 GB are free: make room"):
        filled(tmp_path / "kept")
    assert not (tmp_path / "kept" / "states.bin").exists()
