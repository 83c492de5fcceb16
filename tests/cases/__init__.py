"""What the tests of every family need to know about one of them: a file a family, named like it.

Each file has

- ``NARROW``: changes that make the family's smallest size small enough for tests (three layers, 48 wide);
- ``ODD``: changes that give every setting an unusual value, all of which the family's ``config.json`` must carry;
- ``MATTERS``: changes each of which must change parameters or output;
- ``LENGTHS`` if the common ones do not suit: lengths in tokens of the sequences in a batch;
- ``POOLED`` if there are published classes with a pooler that their heads do not read: their sets of heads;
- ``ATTENTIONS = False`` if `transformers` gives its attention weights in another shape than ``(H, L, L)``, or none;
- ``SAID_OF_HEADS`` if ``config.json`` says how heads are made: those keys for the family's own heads.
"""

import importlib

COMMON_LENGTHS = (17, 512, 1, 2, 511, 2, 64)


def case(name):
    """The file of a family."""
    return importlib.import_module(f"cases.{name.replace('-', '_')}")


def lengths(name):
    """Lengths of the sequences that a family is tried with."""
    return getattr(case(name), "LENGTHS", COMMON_LENGTHS)
