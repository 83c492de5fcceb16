"""What runs a model's token batches: plain torch, packed weights on a processor, an exported graph."""
