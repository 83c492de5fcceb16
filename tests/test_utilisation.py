"""Utilisation: the operations counted are those that torch multiplies, and the roof is one that can be reached."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import learner
import tiny
from bothways.batch import make_batch
from bothways.learn.live import Live
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.protocol import Together
from bothways.learn.state import Taken
from bothways.learn.tally import Tally
from bothways.learn.utilisation import batch_work, guess_work, utilisation
from bothways.model.counts import work, work_after_attention
from bothways.model.parts import attend
from bothways.model.parts.stack import recompute_layers
from bothways.run.precision import resolve_precision
from bothways.run.roof import roof


def trained(**changes):
    """An encoder without a pooler and its head for masked tokens, with what they learn."""
    saved = tiny.saved(("mlm",), pooler=None, **changes)
    model = torch.nn.ModuleDict({"encoder": saved.encoder, **saved.heads}).train()
    return model, Together([MaskedTokens(Masking.of(saved.tokenizer))])


def item(together, lengths):
    batch = make_batch([list(range(5, 5 + length)) for length in lengths])
    return together.objectives[0].prepare(batch, [(0, number) for number in range(len(lengths))], [], 0.0)


def counted(model, together, one):
    """What torch's own counter finds in a step: two operations a multiplication."""
    with FlopCounterMode(display=False) as counter:
        together.backward(model, one, together.counts(one))
    return counter.get_total_flops()


@pytest.mark.parametrize("lengths", [[16, 16, 16], [5, 9, 9, 30]])
@pytest.mark.parametrize("shape", [{}, {"blocks": 1}, {"embeddings__width": 24}])
def test_a_step_is_counted_as_torch_counts_its_products(lengths, shape, monkeypatch):
    monkeypatch.setattr(attend, "groups", lambda plan, heads: plan)  # padding between near lengths is no work
    model, together = trained(**shape)
    one = item(together, lengths)
    assert 2 * together.work(model, one) == counted(model, together, one)


def test_what_checkpointing_computes_again_is_not_counted():
    model, together = trained()
    one = item(together, [12, 12])
    before, plain = together.work(model, one), counted(model, together, one)
    recompute_layers(model, True)
    assert counted(model, together, one) > plain
    assert together.work(model, one) == before


def test_a_frozen_encoder_counts_its_forward_pass_alone():
    model, together = trained()
    one = item(together, [12, 12])
    config, count = model["encoder"].config, together.counts(one)["mlm"]
    head = 3 * count * guess_work(config)
    body = 24 * work(config, 12) - (24 - count) * work_after_attention(config)
    assert together.work(model, one) == pytest.approx(3 * body + head)
    model["encoder"].requires_grad_(False)
    assert together.work(model, one) == pytest.approx(body + head)


def test_a_batch_is_its_sequences_at_their_true_lengths():
    config = tiny.config()
    batch = make_batch([[7] * length for length in (3, 8, 8)])
    assert batch_work(config, batch.plan) == pytest.approx(3 * work(config, 3) + 16 * work(config, 8))


def test_utilisation_is_two_operations_a_multiplication_over_the_roof():
    assert utilisation(50.0, 2.0, 100.0) == 0.5


def test_the_roof_is_measured_once_and_higher_than_what_a_small_product_reaches():
    precision = resolve_precision("float32", "cpu")
    measured = roof(precision)
    assert roof(precision) == measured
    assert 1e9 < measured < 1e16


def test_the_log_and_the_event_say_how_much_was_used_and_waited(monkeypatch):
    """A clock that only data and gradients move: three seconds and one a step."""
    now = [0.0]

    class Slow(learner.Steps):
        def next_step(self, progress):
            now[0] += 3.0
            return super().next_step(progress)

    class Counting(learner.NextAndParity):
        def backward(self, model, item, totals):
            now[0] += 0.5
            return super().backward(model, item, totals)

        def work(self, model, item):
            return 1e6

    monkeypatch.setattr("bothways.learn.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("bothways.learn.loop.measured_roof", lambda precision, device: 4e6)
    monkeypatch.setattr("bothways.learn.loop.prepares_ahead", lambda device: False)
    taken = []
    _, history = learner.run(
        stream=Slow(), objective=Counting(), steps=6, callbacks=[lambda event: taken.append(event.taken)]
    )
    assert [line["waiting"] for line in history.training] == [0.75, 0.75]
    assert [line["utilisation"] for line in history.training] == [0.25, 0.25]  # two items of a million a step
    assert [(step.seconds, step.waiting, step.work) for step in taken] == [(4.0, 3.0, 2e6)] * 6


def test_an_objective_that_does_not_count_has_no_utilisation():
    _, history = learner.run(steps=3)
    assert "utilisation" not in history.training[0]
    assert 0 <= history.training[0]["waiting"] <= 1


def step(loss, hits, count, **more):
    return Taken(Tally({"loss.mlm": loss * count, "hits.mlm": hits}, {"mlm": count}), **more)


def test_the_live_line_tells_means_over_the_last_steps():
    live = Live(1e9)
    live.after(step(8.0, 0.0, 10, tokens=100, seconds=1.0, waiting=0.0, work=1e8))
    line = live.after(step(2.0, 20.0, 30, tokens=300, seconds=1.0, waiting=0.5, work=3e8))
    assert line == "loss 3.500, masked accuracy 50.0%, 200 tokens/s, utilisation 40%, waiting 25%"
    assert "utilisation" not in Live(None).after(step(8.0, 0.0, 10, tokens=100, seconds=1.0))
    for _ in range(20):
        line = live.after(step(1.0, 0.0, 10, tokens=50, seconds=1.0))
    assert line == "loss 1.000, masked accuracy 0.0%, 50 tokens/s, utilisation 0%, waiting 0%"
