"""How an encoder learns: objectives, tasks, the one training loop, and how results are measured."""
