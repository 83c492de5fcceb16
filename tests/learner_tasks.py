"""What the tests of tasks share: a run that is stopped and goes on, and a single step."""

import signal

import pytest
import torch

import bothways as bw
import tiny
from bothways.learn.stream import Stream


def step_of(task, model, rows):
    """The modules, one item and the objective of a task on a model; dropout is off."""
    data = task.read(rows)
    objective = task.objective(model, data)
    (item,) = Stream(task.examples(model, data), objective.prepare, batch_size=len(rows)).next_step(0.0)
    modules = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads}).eval()
    return modules, item, objective


def run(out, task, rows, settings, callbacks=()):
    """Fine-tunes a tiny model."""
    return bw.finetune(
        task,
        base=tiny.model(()),
        train=rows,
        dev=rows[:20],
        out=out,
        steps=6,
        batch_size=8,
        evaluate_every=2,
        precision="float32",
        device="cpu",
        report=False,
        callbacks=callbacks,
        **settings,
    )


def assert_resumes_exactly(folder, task, rows, settings, after=3):
    """A run that is stopped after some steps, and begun again, goes on there and ends with the same bits."""
    whole = run(folder / "whole", task, rows, settings)

    def stop(event):
        if event.step == after:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(folder / "broken", task, rows, settings, [stop])
    assert not (folder / "broken" / "model").exists()
    steps = []
    again = run(folder / "broken", task, rows, settings, [lambda event: steps.append(event.step)])
    assert steps == list(range(after + 1, 7))
    assert again.model.decoding == whole.model.decoding
    assert again.scores == whole.scores
    pairs = zip(parameters(whole.model), parameters(again.model), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def parameters(model):
    """All of a model's parameters, in order."""
    return [value for part in (model.encoder, *model.heads.values()) for value in part.parameters()]
