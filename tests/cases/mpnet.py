"""MPNet: the bias by distance needs sequences longer than the distance from which on all share a bucket."""

from cases import bert

NARROW = bert.NARROW
ODD = {
    key: value
    for key, value in bert.ODD.items()
    if key not in ("embeddings__segments", "embeddings__pad_id")  # has none; always 1
}
MATTERS = {key: value for key, value in bert.MATTERS.items() if key != "embeddings__segments"} | {
    "attention__buckets": 16,
    "attention__max_distance": 12,
    "embeddings__position_offset": 3,
}
