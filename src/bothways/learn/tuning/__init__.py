"""What fine-tuning does beside plain training: a file each."""
