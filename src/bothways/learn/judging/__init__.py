"""Judging a model: what its scores are worth, where it fails, what is wrong with the data. Plain data comes out."""
