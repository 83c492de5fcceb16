"""The heads that turn hidden states into predictions."""
