"""What an encoder can learn from raw text; each objective is one small file."""
