"""Kernels of our own, and what learns through them."""
