"""ModernBERT: windows so narrow that most sequences are longer; heads that read the mean, as the published ones do."""

NARROW = {
    "width": 48, "embeddings__width": 48, "attention__heads": 4, "feed_forward__width": 40, "layers": 4,
    "attention__windows": (0, 5, 5), "embeddings__pad_id": 0,
}  # fmt: skip
ODD = {
    "layers": 5, "width": 60, "embeddings__width": 60, "attention__heads": 5, "feed_forward__width": 70,
    "feed_forward__activation": "gelu_tanh", "feed_forward__dropout": 0.15, "norm_eps": 1e-3,
    "embeddings__norm_eps": 1e-3, "embeddings__dropout": 0.25, "attention__dropout": 0.35, "attention__base": 77.5,
    "attention__local_base": 33.0, "attention__windows": (0, 3, 3, 0), "init_std": 0.5, "max_length": 99,
    "embeddings__pad_id": 7, "embeddings__vocab_size": 123,
}  # fmt: skip
MATTERS = {
    "layers": 2, "attention__heads": 6, "feed_forward__activation": "relu", "feed_forward__width": 80,
    "feed_forward__gated": False, "feed_forward__bias": True, "feed_forward__dropout": 0.5, "norm": "post",
    "first_norm": True, "norm_eps": 0.1, "norm_bias": True, "dropout": 0.5, "init_std": 0.5, "pooler": "tanh",
    "embeddings__norm_eps": 0.1, "embeddings__norm_bias": True, "embeddings__dropout": 0.5,
    "embeddings__positions": 100, "embeddings__segments": 3, "embeddings__pad_id": 7, "attention__dropout": 0.5,
    "attention__bias": True, "attention__base": 100.0, "attention__local_base": 100.0, "attention__windows": (0, 4, 4),
}  # fmt: skip
SAID_OF_HEADS = {"classifier_pooling": "mean"}
