"""BigBird: BERT's settings, and blocks. All common lengths are short enough for full attention: `transformers` decides
for a whole batch, so that sparse attention is compared in `test_big_bird.py`, a sequence at a time. So are attention
weights: having changed to full attention, `transformers` gives none."""

from cases import bert

NARROW = bert.NARROW
ODD = bert.ODD | {"feed_forward__activation": "relu", "attention__block": 5, "attention__random_blocks": 2}
MATTERS = bert.MATTERS | {"embeddings__dropout_first": False}
POOLED = [frozenset({kind}) for kind in ("mlm", "classify", "tag")]
ATTENTIONS = False
