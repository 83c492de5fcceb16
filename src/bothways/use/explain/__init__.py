"""Explaining: what each word adds to what a model says of a text, and how far such an explanation can be trusted."""
