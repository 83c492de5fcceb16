"""Pages and charts, made from plain data only."""
