"""The settings of objectives that are one of a few words; no torch, so that the command line can read them."""

from __future__ import annotations

from typing import Literal

Sequences = Literal["blocks", "full-sentences", "doc-sentences"]
MaskUnit = Literal["token", "word", "span"]
MaskOrder = Literal["at-once", "permuted"]
MaskDecoder = Literal["plain", "enhanced"]
GeneratorTables = Literal["shared", "disentangled", "own"]
SoftTargets = Literal["all", "masked"]
Parallel = Literal["auto", "ddp", "fsdp"]
