"""Objectives that compare a student with its teacher: DistilBERT's, MiniLM's, TinyBERT's; the teacher and its cache."""
