"""RoBERTa: BERT's settings, with positions that follow the padding id."""

from cases import bert

NARROW = bert.NARROW
ODD = bert.ODD | {"embeddings__position_offset": 8, "embeddings__positions": 107}
MATTERS = bert.MATTERS | {"embeddings__position_offset": 3, "embeddings__positions": 515}
