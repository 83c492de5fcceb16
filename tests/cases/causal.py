"""The causal twin: as BERT, without a pooled output."""

from cases import bert

NARROW = bert.NARROW
ODD = bert.ODD
MATTERS = {key: value for key, value in bert.MATTERS.items() if key != "pooler"}
