"""ELECTRA."""

from cases import bert

NARROW = {**bert.NARROW, "embeddings__width": 32}
ODD = {**bert.ODD, "embeddings__width": 28}
MATTERS = {key: value for key, value in bert.MATTERS.items() if key != "pooler"} | {"embeddings__width": 24}
