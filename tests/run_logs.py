"""Logs of runs, made by formula."""

import math

import numpy as np


def lines(steps=2000, *, loss, accuracy=lambda x: 0.05 + 0.3 * x, rate=1.5e-3, noise=0.02, end=1.0, **more):
    """Lines of a log every ten steps; what is a function takes the share of the run."""
    draw = np.random.default_rng(0)
    made = []
    for step in range(10, int(end * steps) + 1, 10):
        x = step / steps
        line = {
            "event": "step", "step": step, "tokens": 1024 * step, "tokens_per_second": 10_000, "epoch": x,
            "loss.mlm": loss(x) + noise * draw.normal(), "accuracy.mlm": accuracy(x) + 0.005 * draw.normal(),
            "seconds": step / 10, "rate": rate * min(x / 0.1, (1 - x) / 0.9), "gradient_norm": 2.0,
        }  # fmt: skip
        made.append(line | {"loss": line["loss.mlm"]} | {name: value(x) for name, value in more.items()})
    return made


def evaluations(steps=2000, *, loss):
    return [
        {"event": "evaluation", "step": step, "loss.mlm": loss(step / steps)} for step in range(200, steps + 1, 200)
    ]


def falling(x):
    """As a healthy loss falls: quickly to the frequencies of words, then with the logarithm of the steps."""
    return 9 - 2.8 * min(1, x / 0.05) - (0.6 * math.log(x / 0.08) if x > 0.08 else 0)
