"""What the task ``answer`` is made of: its data, windows with targets, loss, excerpts and baseline."""
