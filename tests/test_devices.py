"""What differs between kinds of devices: the ways are the same to the numbers."""

import numpy as np
import pytest
import torch

from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model import encoder
from bothways.model.parts import devices
from bothways.model.parts.devices import maxima, sent, sums


@pytest.mark.parametrize("reduced", [sums, maxima])
@pytest.mark.parametrize("shape", [(9, 3), (9,)])
def test_where_torch_cannot_reduce_sequences_the_same_comes_out_and_goes_back(reduced, shape, monkeypatch):
    lengths = torch.tensor([4, 1, 3, 1])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x[1] = x[2] = 5.0  # the largest, twice
    found = []
    for kinds in (("cpu",), ()):
        monkeypatch.setattr(devices, "_REDUCE", kinds)
        given = x.clone().requires_grad_()
        out = reduced(given, lengths)
        (out * torch.arange(1.0, 5.0).view(-1, *(1 for _ in shape[1:]))).sum().backward()
        found.append((out.detach(), given.grad))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=0.0)


def test_values_keep_their_type_unless_another_is_wanted():
    here = torch.device("cpu")
    assert sent(np.arange(3, dtype=np.int32), here).dtype == torch.int32
    assert sent(np.arange(3, dtype=np.int32), here, torch.int64).dtype == torch.int64
    assert sent(np.ones(2, dtype=bool), here).tolist() == [True, True]


def test_ids_that_a_model_drew_on_its_own_device_are_not_waited_for():
    ids = make_batch([np.array([1, 9])]).token_ids
    with pytest.raises(BothwaysError, match="token id 9 is outside the model's table of 9; why"):
        encoder._check_ids(ids, 9, "token", "why")
    encoder._check_ids(torch.empty(2, dtype=torch.int64, device="meta"), 9, "token", "why")
