"""From a model to a graph that other runtimes run."""
