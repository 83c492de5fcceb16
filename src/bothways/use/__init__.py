"""What the library does for people."""
