"""Whether two models, as folders hold them, give the same numbers."""

import numpy as np
import torch

from bothways.batch import make_batch

BATCH = make_batch([np.arange(5, 25), np.arange(40, 47)], [np.repeat((0, 1), 10), np.zeros(7, int)])


@torch.no_grad()
def outputs(saved):
    out = saved.encoder(BATCH)
    return [
        out.sequence,
        *(h.eval()(out.sequence, saved.encoder.token_table) for k, h in saved.heads.items() if k == "mlm"),
    ]


def assert_same_outputs(saved, expected):
    assert all(torch.equal(a, b) for a, b in zip(outputs(saved), outputs(expected), strict=True))
