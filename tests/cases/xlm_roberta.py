"""XLM-R, as RoBERTa."""

from cases.roberta import MATTERS, NARROW, ODD

__all__ = ["MATTERS", "NARROW", "ODD"]
