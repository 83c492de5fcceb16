"""A small network, objective and stream for the tests of the loop; run as a program it trains in a folder.

    python learner.py OUT [SIGNAL:CALL ...]

It trains in one process after another, each of which is sent a signal in the middle of its CALL-th item (0: never).
It prints how each ended. LEARNER in the environment holds further settings, as JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bothways.batch import make_batch
from bothways.chance import derived_seed, generator
from bothways.learn.loop import Evaluation, LoopSettings, train
from bothways.learn.tally import evaluate_items

TOKENS, WIDTH = 40, 16


class Network(nn.Module):
    """Embeds tokens, mixes, scores all tokens with the (shared) embedding table."""

    def __init__(self, dropout=0.1):
        super().__init__()
        torch.manual_seed(derived_seed("weights", 0))
        self.table = nn.Embedding(TOKENS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(WIDTH)
        self.score = nn.Linear(WIDTH, TOKENS)
        self.score.weight = self.table.weight
        self.side = nn.Linear(WIDTH, 2)

    def forward(self, batch):
        hidden_TD = self.table(torch.as_tensor(batch.token_ids))
        return self.norm(hidden_TD + self.dropout(torch.tanh(self.mix(hidden_TD))))


class NextAndParity:
    """Two kinds of predictions: the successor of every third token, and whether it is even."""

    def counts(self, item):
        return {"next": len(item[1]["places"]), "parity": item[0].tokens}

    def backward(self, model, item, totals):
        losses, sums = self._losses(model, item)
        sum(loss / totals[kind] for kind, loss in losses.items()).backward()
        return sums

    def evaluate(self, model, item):
        return self._losses(model, item)[1]

    def _losses(self, model, item):
        batch, targets = item
        hidden_TD = model(batch)
        tokens, places = torch.as_tensor(batch.token_ids), torch.as_tensor(targets["places"])
        scores = model.score(hidden_TD[places])
        labels = (tokens[places] + 1) % TOKENS
        parity = model.side(hidden_TD)
        losses = {
            "next": nn.functional.cross_entropy(scores.float(), labels, reduction="sum"),
            "parity": nn.functional.cross_entropy(parity.float(), tokens % 2, reduction="sum"),
        }
        hits = {"next": (scores.argmax(1) == labels).sum(), "parity": (parity.argmax(1) == tokens % 2).sum()}
        sums = {f"loss.{kind}": float(loss.detach()) for kind, loss in losses.items()}
        return losses, sums | {f"hits.{kind}": float(value) for kind, value in hits.items()}


def make_item(number, sequences=3):
    """An item of sequences of unequal lengths, a pure function of its number."""
    draw = generator("item", number)
    batch = make_batch([draw.integers(0, TOKENS, draw.integers(2, 9)) for _ in range(sequences)])
    return batch, {"places": np.arange(0, batch.tokens, 3)}


class Steps:
    """Steps of a few items each."""

    def __init__(self, length=None, items=2):
        self.length, self.items, self.at = length, items, 0

    @property
    def epoch(self):
        return self.at / 10

    def next_step(self, progress):
        if self.length is not None and self.at >= self.length:
            return None
        self.at += 1
        return [make_item(self.at * self.items + place, sequences=1 + 3 * place) for place in range(self.items)]

    def state(self):
        return {"at": self.at}

    def restore(self, state):
        self.at = state["at"]


def settings(**changes):
    base = {"learning_rate": 1e-2, "steps": 60, "precision": "float32", "log_every": 3, "evaluate_every": 10}
    return LoopSettings(**{**base, **changes})


def held_out(model, items=4):
    names = ("loss", "loss.next", "loss.parity", "accuracy.next", "accuracy.parity")
    items = [make_item(10_000 + number) for number in range(items)]
    return Evaluation(names, lambda: evaluate_items(model, NextAndParity(), items))


def run(out=None, model=None, stream=None, callbacks=(), objective=None, force=False, **changes):
    """Trains; returns the model and the history."""
    model = model or Network()
    history = train(
        model,
        objective or NextAndParity(),
        stream or Steps(),
        settings(**changes),
        out=out,
        evaluate=held_out(model),
        callbacks=callbacks,
        force=force,
    )
    return model, history


class Dying(NextAndParity):
    """Sends its own process a signal in the middle of a step."""

    def __init__(self, at, number):
        self.at, self.number, self.calls = at, number, 0

    def backward(self, model, item, totals):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.number)
        return super().backward(model, item, totals)


def run_in_child(out, number, at):
    """Trains in a forked process (torch is imported once for all of them); returns its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    more = json.loads(os.environ.get("LEARNER", "{}"))
    run(out, objective=Dying(at, number), metric="loss", save_every=4, **more)
    return sys.exit(0)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    run(steps=1)  # what torch imports at a first step is then imported for all children
    for death in sys.argv[2:] or ["SIGKILL:0"]:
        name, at = death.split(":")
        print(run_in_child(out, getattr(signal, name), int(at)), flush=True)
