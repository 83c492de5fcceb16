"""How good vectors are at what they are used for, a file a kind of use; `bothways.learn.measures.evaluate` asks all."""
