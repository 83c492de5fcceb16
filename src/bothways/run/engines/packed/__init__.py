"""The packed engine: the fastest way torch offers to run an encoder on a processor, with nothing to compile.

Weights are laid out once as the kernels of oneDNN want them, biases, GELU and residual sums run inside the matrix
products, and each core works on a batch of its own that fits into its cache. The operators are torch's, some of them
without a promise to stay: `bothways.run.engines.packed.linear` tries each before it is used.
"""
