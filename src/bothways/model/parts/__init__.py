"""The parts that an encoder is assembled from: small modules with plain constructor arguments."""
