"""Two encoders with the same tables at the bottom."""

from __future__ import annotations

from torch import Tensor

from bothways.errors import BothwaysError
from bothways.model.encoder import Encoder

_SHARED = ("tokens.weight", "positions.weight", "segments.weight", "norm.weight", "norm.bias")


def share_tables(generator: Encoder, discriminator: Encoder) -> None:
    """Makes a generator use its discriminator's token, position and segment tables and the norm over their sum.

    From then on they are one tensor each: what either encoder learns moves both, and each is still saved whole. The
    projection to the encoder's width stays each one's own. Clark et al. 2020, section 3.2, name the token and position
    tables; their implementation shares all that stands before the projection, as is done here.

    Args:
        generator: Its own tables are given up, also for a masked-token head, which reads them from the encoder.
        discriminator: Keeps its tables as they are.

    Raises:
        BothwaysError: The tables differ in rows or width; nothing is shared then.
    """
    ours, theirs = (dict(encoder.embeddings.named_parameters()) for encoder in (generator, discriminator))
    for name in _SHARED:
        if _shape(ours.get(name)) != _shape(theirs.get(name)):
            raise BothwaysError(
                f"generator and discriminator cannot share embeddings.{name}: {_shape(ours.get(name))} and "
                f"{_shape(theirs.get(name))}; give both the same vocabulary, positions, segments and embedding width"
            )
    for name in _SHARED:
        if name in theirs:
            module, _, kind = name.partition(".")
            setattr(generator.embeddings.get_submodule(module), kind, theirs[name])


def _shape(table: Tensor | None) -> str:
    return "none" if table is None else " × ".join(map(str, table.shape))
