"""What an encoder is: its configuration, parts, heads, families, and how they are put together."""
