"""Checkpoints: complete at any moment, exact, and honest about a full disk."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import learner
from bothways.errors import BothwaysError
from bothways.learn import checkpoint as checkpoint_module
from bothways.learn.checkpoint import BestWeights, Checkpoint, own_tensors
from bothways.learn.optimizer import make_optimizer
from bothways.whole import replace_text


class Killed(BaseException):
    """The process ends here."""


def trained(steps, model=None, optimizer=None):
    model = model or learner.Network()
    optimizer = optimizer or make_optimizer(model, learner.settings())
    torch.manual_seed(0)
    for number in range(steps):
        learner.NextAndParity().backward(model, learner.make_item(number), {"next": 1, "parity": 1})
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def everything(model, optimizer):
    """All weights, then all averages in the optimizer's order of parameters."""
    averages = [sorted(parts.items()) for _, parts in sorted(optimizer.state_dict()["state"].items())]
    tensors = [tensor for parts in averages for _, tensor in parts]
    return [tensor.clone() for tensor in (*own_tensors(model).values(), *tensors)]


def loaded(out):
    model, optimizer = trained(0)
    Checkpoint(out).load(model, optimizer)
    return everything(model, optimizer)


def same(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_weights_and_averages_come_back_to_the_bit_and_training_goes_on_alike(tmp_path):
    model, optimizer = trained(5)
    Checkpoint(tmp_path).save(model, optimizer, {"step": 5})
    other, other_optimizer = trained(2)
    Checkpoint(tmp_path).load(other, other_optimizer)
    assert same(everything(model, optimizer), everything(other, other_optimizer))
    for pair in ((model, optimizer), (other, other_optimizer)):
        trained(3, *pair)
    assert same(everything(model, optimizer), everything(other, other_optimizer))


def test_a_shared_tensor_is_stored_once_and_stays_shared(tmp_path):
    model, optimizer = trained(3)
    Checkpoint(tmp_path).save(model, optimizer, {})
    names = load_file(tmp_path / "checkpoint" / "a" / "weights.safetensors").keys()
    assert len({"table.weight", "score.weight"} & names) == 1
    other, other_optimizer = trained(0)
    Checkpoint(tmp_path).load(other, other_optimizer)
    assert other.score.weight is other.table.weight


def test_killed_at_any_moment_a_complete_checkpoint_remains(tmp_path, monkeypatch):
    """The second save is cut off before each of its operations on the disk in turn."""
    first, second = trained(3), trained(4)
    operations = [
        (checkpoint_module, "save_file"),
        (checkpoint_module, "sync"),
        (shutil, "rmtree"),
        (Path, "mkdir"),
        (Path, "write_text"),
        (Path, "replace"),
    ]
    found = []
    for survived in range(40):
        out = tmp_path / str(survived)
        Checkpoint(out).save(*first, {"step": 3})
        left = survived

        def dying(function):
            def call(*arguments, **options):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for owner, name in operations:
                patch.setattr(owner, name, dying(getattr(owner, name)))
            try:
                Checkpoint(out).save(*second, {"step": 4})
                finished = True
            except Killed:
                finished = False
        step = Checkpoint(out).read_state()["step"]
        assert same(loaded(out), everything(*(first if step == 3 else second))), survived
        found.append(step)
        Checkpoint(out).save(*second, {"step": 5})  # and the next save is not in the way of the leftovers
        assert same(loaded(out), everything(*second))
        if finished:
            break
    assert len(found) > 8
    assert found == sorted(found)
    assert (found[0], found[-1]) == (3, 4)


def test_only_the_last_checkpoint_is_kept(tmp_path):
    pair = trained(1)
    for step in range(3):
        Checkpoint(tmp_path).save(*pair, {"step": step})
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["a", "current"]
    assert Checkpoint(tmp_path).read_state()["step"] == 2


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    def tiny(path):
        return shutil._ntuple_diskusage(10_000_000, 9_000_000, 1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", tiny)
    with pytest.raises(BothwaysError, match=r"checkpoint: checkpoints need 1 MB and 1 MB are free: make room"):
        learner.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def full_disk(tensors, path):
    Path(path).write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_leaves_the_checkpoint_before_and_nothing_half_written(tmp_path, monkeypatch):
    first = trained(3)
    Checkpoint(tmp_path).save(*first, {"step": 3})
    monkeypatch.setattr(checkpoint_module, "save_file", full_disk)
    with pytest.raises(BothwaysError, match="because the disk is full; what was saved before is kept"):
        Checkpoint(tmp_path).save(*trained(4), {"step": 4})
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["a", "current"]
    assert same(loaded(tmp_path), everything(*first))
    with pytest.raises(BothwaysError, match="the disk is full"):
        BestWeights(tmp_path).save(first[0], 3)
    assert list((tmp_path / "best").iterdir()) == []


def test_a_damaged_checkpoint_is_one_sentence(tmp_path):
    pair = trained(1)
    Checkpoint(tmp_path).save(*pair, {"step": 1})
    place = tmp_path / "checkpoint" / "a"
    weights = place / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BothwaysError, match="cannot be read"):
        Checkpoint(tmp_path).load(*pair)
    (place / "state.json").write_text("{")
    with pytest.raises(BothwaysError, match="remove that folder to begin anew"):
        Checkpoint(tmp_path).read_state()
    (place / "state.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(BothwaysError, match="format 99"):
        Checkpoint(tmp_path).read_state()


def test_shapes_that_disagree_are_named(tmp_path):
    BestWeights(tmp_path).save(learner.Network(), 1)
    other = learner.Network()
    other.mix = torch.nn.Linear(16, 8)
    with pytest.raises(BothwaysError, match=r"mix.weight has shape \(16, 16\), not \(8, 16\)"):
        BestWeights(tmp_path).load(other, 1)


def test_best_weights_in_memory_do_not_change_with_the_model():
    model, optimizer = trained(1)
    best, before = BestWeights(None), everything(model, optimizer)
    best.save(model, 1)
    trained(2, model, optimizer)
    best.load(model, 1)
    assert same(list(own_tensors(model).values()), before[: len(own_tensors(model))])


def test_best_weights_are_kept_by_step_until_others_are_wanted_only(tmp_path):
    best, models = BestWeights(tmp_path), {step: trained(step)[0] for step in (1, 2, 3)}
    for step, model in models.items():
        best.save(model, step)
    best.keep_only(1, 3, None)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["step-1.safetensors", "step-3.safetensors"]
    for step in (1, 3):
        fresh = learner.Network()
        best.load(fresh, step)
        assert same(list(own_tensors(fresh).values()), list(own_tensors(models[step]).values()))
    (tmp_path / "best" / "step-3.safetensors").rename(tmp_path / "best" / "weights.safetensors")
    best.load(fresh, 3)
    assert same(list(own_tensors(fresh).values()), list(own_tensors(models[3]).values()))


def test_discarded_it_is_gone(tmp_path):
    Checkpoint(tmp_path).save(*trained(1), {})
    assert Checkpoint(tmp_path).exists()
    Checkpoint(tmp_path).discard()
    assert not Checkpoint(tmp_path).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_is_replaced_whole(tmp_path, monkeypatch):
    replace_text(tmp_path / "file", "old")
    monkeypatch.setattr("bothways.whole.sync", lambda path: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        replace_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
