"""What is learned from queries with texts: by cross-encoders, late interaction and sparse vectors."""
