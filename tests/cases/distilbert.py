"""DistilBERT."""

NARROW = {"width": 48, "embeddings__width": 48, "attention__heads": 4, "feed_forward__width": 96, "layers": 3}
ODD = {
    "layers": 2, "width": 60, "embeddings__width": 60, "attention__heads": 5, "feed_forward__width": 70,
    "feed_forward__activation": "gelu_tanh", "dropout": 0.25, "embeddings__dropout": 0.25, "attention__dropout": 0.35,
    "init_std": 0.5, "embeddings__positions": 99, "embeddings__pad_id": 7, "embeddings__vocab_size": 123,
}  # fmt: skip
MATTERS = {
    "layers": 2, "attention__heads": 6, "feed_forward__activation": "relu", "feed_forward__width": 80,
    "norm_eps": 0.1, "dropout": 0.5, "init_std": 0.5, "pooler": "tanh", "embeddings__norm_eps": 0.1,
    "embeddings__dropout": 0.5, "embeddings__positions": 100, "embeddings__segments": 2, "embeddings__pad_id": 7,
    "attention__dropout": 0.5,
}  # fmt: skip
