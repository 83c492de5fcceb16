"""What the task `tag` is made of: its data, its examples and its scores."""
