"""What an encoder can be fine-tuned for; each task is one small file."""
