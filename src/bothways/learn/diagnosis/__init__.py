"""What may be wrong with a pre-training run, one small file a kind of illness; `bothways.learn.diagnose` asks all."""
