"""ALBERT."""

NARROW = {"width": 48, "embeddings__width": 20, "attention__heads": 4, "feed_forward__width": 96, "layers": 3}
ODD = {
    "layers": 5, "blocks": 2, "width": 60, "embeddings__width": 24, "attention__heads": 5, "feed_forward__width": 70,
    "feed_forward__activation": "relu", "norm_eps": 1e-3, "embeddings__norm_eps": 1e-3, "dropout": 0.25,
    "embeddings__dropout": 0.25, "attention__dropout": 0.35, "init_std": 0.5, "embeddings__positions": 99,
    "embeddings__segments": 3, "embeddings__pad_id": 7, "embeddings__vocab_size": 123,
}  # fmt: skip
MATTERS = {
    "layers": 2, "blocks": 2, "attention__heads": 6, "feed_forward__activation": "gelu", "feed_forward__width": 80,
    "norm_eps": 0.1, "dropout": 0.5, "init_std": 0.5, "pooler": None, "embeddings__norm_eps": 0.1,
    "embeddings__width": 48, "embeddings__dropout": 0.5, "embeddings__positions": 100, "embeddings__segments": 3,
    "embeddings__pad_id": 7, "attention__dropout": 0.5,
}  # fmt: skip
