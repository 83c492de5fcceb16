"""A saved model at work: reading and writing its folder, running it, turning numbers into answers."""
