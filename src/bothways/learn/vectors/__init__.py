"""Encoders of sentence vectors, trained: groups of texts in, an encoder out whose vectors say what belongs together."""
