"""What share of the machine's arithmetic a training step uses.

    utilisation = operations of the step / seconds it took / roof

The roof is what large products of matrices reach on this machine in the run's precision (`bothways.run.roof`). The
operations are what the design needs, not what was computed, a multiplication and an addition being two:

- **the body**: 6 for each weight of a linear layer and token (2 forward, 4 backward: for the layer's input and for its
  weights), layers that share weights each for itself; of the last layer what follows attention, for those tokens only
  that an objective looks at;
- **attention**: the products of queries with keys and of weights with values, likewise three times, for each sequence
  at its true length and with the tokens that its layers let see each other;
- **the head**, at the masked places only: its linear layer and the products with the token table, three times.

Nothing else counts: no look-ups, norms, softmax, dropout or optimizer, no padding, and not what gradient checkpointing
computes a second time. A teacher counts its forward pass alone, a frozen encoder likewise.
"""

from __future__ import annotations

from collections.abc import Sequence

from bothways.batch import Rectangle
from bothways.model.config import EncoderConfig
from bothways.model.counts import work, work_after_attention

TRAINED = 3
"""Products of a training step for one of a forward pass."""


def batch_work(config: EncoderConfig, plan: Sequence[Rectangle], places: int | None = None) -> float:
    """Multiplications (each with its addition) of an encoder's forward pass over a batch, at its true lengths.

    Args:
        config: The encoder.
        plan: The batch as rectangles of sequences of equal length.
        places: The tokens that go through all of the last layer; None: all.
    """
    total = sum(sequences * length * work(config, length) for _, sequences, length in plan)
    if places is None:
        return total
    return total - (sum(sequences * length for _, sequences, length in plan) - places) * work_after_attention(config)


def guess_work(config: EncoderConfig) -> int:
    """Multiplications for the forward pass of a masked-token head at one place."""
    tables = config.embeddings
    return tables.width * (config.width + tables.vocab_size)


def utilisation(multiplications: float, seconds: float, roof: float) -> float:
    """The share of the roof that was used.

    Args:
        multiplications: Each with its addition.
        seconds: In which they were made.
        roof: Operations a second, as `bothways.run.roof.roof` measures.
    """
    return 2 * multiplications / max(seconds, 1e-9) / roof
