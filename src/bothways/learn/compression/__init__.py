"""Compression: models with fewer tokens, fewer layers, narrower layers, and what each costs on given texts."""
