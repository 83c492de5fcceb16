"""DeBERTa v2 and v3, with the convolution that only v2 has."""

from bothways.model.config import ConvolutionConfig

NARROW = {
    "width": 48, "embeddings__width": 48, "attention__heads": 4, "feed_forward__width": 96, "layers": 3,
    "attention__buckets": 16, "attention__max_distance": 300, "convolution": ConvolutionConfig(kernel=3),
}  # fmt: skip
ODD = {
    "layers": 2, "width": 60, "embeddings__width": 60, "attention__heads": 5, "feed_forward__width": 70,
    "feed_forward__activation": "gelu_tanh", "norm_eps": 1e-3, "embeddings__norm_eps": 1e-3, "dropout": 0.25,
    "embeddings__dropout": 0.25, "attention__dropout": 0.35, "attention__position_dropout": 0.25, "init_std": 0.5,
    "embeddings__positions": 99, "embeddings__positions_added": True, "max_length": None, "embeddings__segments": 3,
    "embeddings__pad_id": 7, "embeddings__vocab_size": 123, "attention__max_distance": 44, "attention__buckets": 20,
    "attention__share_projections": False, "attention__norm_table": False,
    "convolution": ConvolutionConfig(kernel=5, groups=3, activation="tanh"),
}  # fmt: skip
MATTERS = {
    "layers": 2, "attention__heads": 6, "feed_forward__activation": "relu", "feed_forward__width": 80,
    "norm_eps": 0.1, "dropout": 0.5, "init_std": 0.5, "embeddings__norm_eps": 0.1, "embeddings__dropout": 0.5,
    "embeddings__positions": 100, "embeddings__segments": 3, "embeddings__pad_id": 7, "attention__dropout": 0.5,
    "attention__position_dropout": 0.5, "attention__max_distance": 60, "attention__buckets": 12,
    "attention__content_to_position": False, "attention__position_to_content": False,
    "attention__share_projections": False, "attention__norm_table": False, "attention__bias": False,
    "convolution": None, "convolution__kernel": 5, "convolution__groups": 2, "convolution__activation": "relu",
}  # fmt: skip
