"""What the tests of tasks share: a run that is stopped and goes on, a single step, and one cut into batches."""

import signal

import pytest
import torch

import bothways as bw
import tiny
from bothways.learn.objectives.protocol import Together
from bothways.learn.stream import Stream


def modules(model):
    """A model's parts as one module, by the names that objectives know."""
    return torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})


def step_of(task, model, rows):
    """The modules, one item and the objective of a task on a model; dropout is off."""
    data = task.read(rows)
    objective = task.objective(model, data)
    (item,) = Stream(task.examples(model, data), objective.prepare, batch_size=len(rows)).next_step(0.0)
    return modules(model).eval(), item, objective


def gradients(model, objective, items):
    """What a step over some batches gives the parameters that learn from it."""
    total = {objective.name: sum(objective.count(targets) for _, targets in items)}
    parts = modules(model)
    for item in items:
        Together([objective]).backward(parts, item, total)
    return [each.grad for each in parts.parameters() if each.grad is not None]


def run(out, task, rows, settings, callbacks=(), base=None):
    """Fine-tunes a tiny model."""
    return bw.finetune(
        task,
        base=base or tiny.model(()),
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


def assert_resumes_exactly(folder, task, rows, settings, after=3, base=None):
    """A run that is stopped after some steps, and begun again, goes on there and ends with the same bits."""
    whole = run(folder / "whole", task, rows, settings, base=base)

    def stop(event):
        if event.step == after:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(folder / "broken", task, rows, settings, [stop], base)
    assert not (folder / "broken" / "model").exists()
    steps = []
    again = run(folder / "broken", task, rows, settings, [lambda event: steps.append(event.step)], base)
    assert steps == list(range(after + 1, 7))
    assert again.model.decoding == whole.model.decoding
    assert again.scores == whole.scores
    pairs = zip(parameters(whole.model), parameters(again.model), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def parameters(model):
    """All of a model's parameters, in order."""
    return [value for part in (model.encoder, *model.heads.values()) for value in part.parameters()]
