"""Serving: models behind a web interface, each asked what it can answer, many callers answered together."""
