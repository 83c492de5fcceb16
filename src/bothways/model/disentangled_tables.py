"""Gradient-disentangled sharing: a discriminator builds on its generator's tables and never moves them.

He, Gao and Chen 2021, section 3.3. Trained as one table, the two pull it apart: the generator wants like tokens near
each other, the discriminator far apart. So the discriminator looks tokens up in the generator's table as it stands,
plus a table of its own that begins as zero; its gradient reaches only that one. Shapes: V rows, E width.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from bothways.errors import BothwaysError
from bothways.model.encoder import Encoder

_SHARED = ("tokens", "positions")
_Module = TypeVar("_Module", bound=nn.Module)


class DisentangledTable(nn.Module):
    """The sum of another encoder's table, without gradient, and an own one.

    Args:
        base: The other's table; it is not part of this module, so it is neither trained nor saved with it.
    """

    def __init__(self, base: nn.Embedding) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple, where torch does not look for parameters
        self.own = nn.Embedding(base.num_embeddings, base.embedding_dim, base.padding_idx, device=base.weight.device)
        nn.init.zeros_(self.own.weight)

    @property
    def weight(self) -> Tensor:
        """``(V, E)`` the sum."""
        return self._base[0].weight.detach() + self.own.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Looks ids of any shape up: two lookups, for the sum of all rows would be made only to read a few."""
        return functional.embedding(ids, self._base[0].weight.detach()) + self.own(ids)

    def merged(self) -> nn.Embedding:
        """A plain table with the sum."""
        return nn.Embedding.from_pretrained(self.weight.detach(), freeze=False, padding_idx=self.own.padding_idx)


def disentangle_tables(generator: Encoder, discriminator: Encoder, *, keep: bool = False) -> None:
    """Makes a discriminator build on its generator's table of tokens, and on that of positions where both have one.

    Save it through `merged`.

    Args:
        generator: Is left as it is.
        discriminator: Gets tables that are sums.
        keep: Whether its own parts begin as what its tables held beyond the generator's, so that it computes what it
            did; else as zero, and what they held is given up.

    Raises:
        BothwaysError: The tables differ in rows or width; nothing is shared then.
    """
    pairs = {name: (getattr(generator.embeddings, name), getattr(discriminator.embeddings, name)) for name in _SHARED}
    pairs = {name: pair for name, pair in pairs.items() if None not in pair}
    for name, (base, table) in pairs.items():
        if base.weight.shape != table.weight.shape:
            theirs, ours = (" × ".join(map(str, one.weight.shape)) for one in (base, table))
            raise BothwaysError(
                f"the discriminator cannot build on the generator's embeddings.{name}: that has {theirs} numbers, its "
                f"own {ours}; give both the same vocabulary, positions and embedding width"
            )
    for name, (base, table) in pairs.items():
        made = DisentangledTable(base)
        if keep:
            made.own.weight.data.copy_(table.weight.data - base.weight.data)
        setattr(discriminator.embeddings, name, made)


def merged(discriminator: Encoder) -> Encoder:
    """The discriminator with plain tables, as it is saved and used: the same outputs, bit by bit.

    All other parameters are the discriminator's own, not copies.
    """
    encoder, embeddings = _shallow(discriminator), _shallow(discriminator.embeddings)
    for name in _SHARED:
        table = getattr(embeddings, name)
        if isinstance(table, DisentangledTable):
            setattr(embeddings, name, table.merged())
    encoder.embeddings = embeddings
    return encoder


def _shallow(module: _Module) -> _Module:
    made = copy.copy(module)
    made._modules = dict(module._modules)  # a copy's own list of parts, or changing one would change both
    return made
