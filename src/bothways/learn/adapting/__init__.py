"""Continuing a general encoder on text of a domain: its vocabulary, what it reads, what it gains and forgets."""
