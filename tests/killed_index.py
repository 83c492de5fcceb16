"""Builds an index in children that are killed at random moments; a process of its own for it.

Typed: python killed_index.py MODEL ROWS INDEX SEED. Prints how many pieces were kept at each kill. The parent never
opens the store, whose threads do not survive a fork.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bothways.progress import silent
from bothways.run.opening import load
from bothways.use.search import adding
from bothways.use.search.index import Index

KILLS = 3


def child(model, source, place):
    number = os.fork()
    if not number:
        silent()
        torch.set_num_threads(2)
        adding.PASSAGES = adding.ENTRIES = 16
        loaded = load(model, engine="packed")
        Index.make(place, loaded, passage_tokens=16, overlap=4).add(source)
        os._exit(0)
    return number


def kept(place):
    return len(list(Path(place, "passages.lance", "data").glob("*")))


def main(model, source, place, seed):
    draw = np.random.default_rng(int(seed))
    seen = []
    while len(seen) < KILLS:
        before, number = kept(place), child(model, source, place)
        while kept(place) <= before:
            assert os.waitpid(number, os.WNOHANG) == (0, 0), "the job ended before it could be killed"
            time.sleep(0.002)
        time.sleep(float(draw.random()) * 0.1)
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        seen.append(kept(place))
    assert os.waitpid(child(model, source, place), 0)[1] == 0
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
