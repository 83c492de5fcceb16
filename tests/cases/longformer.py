"""Longformer: RoBERTa's settings and windows; what it gives for attention weights is of another shape."""

from cases import roberta

NARROW = roberta.NARROW | {"attention__windows": (8,), "embeddings__positions": 514}
ODD = roberta.ODD | {"attention__windows": (3,)}
MATTERS = roberta.MATTERS | {"attention__windows": (2,)}
ATTENTIONS = False
