"""Builds an index in children that are killed at random moments; a process of its own for it.

Typed: python killed_index.py MODEL ROWS INDEX SEED. Prints how many passages were kept at each kill.
"""

import json
import os
import signal
import sys
import time

import numpy as np

from bothways.progress import silent
from bothways.use.search import adding
from bothways.use.search.index import Index
from bothways.use.search.store import open_store

KILLS = 3


def build(model, source, place):
    silent()
    adding.PASSAGES = adding.ENTRIES = 16
    Index.make(place, model, passage_tokens=16, overlap=4, engine="reference").add(source)


def kept(place):
    try:
        store = open_store(place)
        return store.held().passages if store else 0
    except Exception:  # the folder is being made
        return 0


def main(model, source, place, seed):
    draw = np.random.default_rng(int(seed))
    seen = []
    while len(seen) < KILLS:
        began = kept(place)
        child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, __file__, "build", model, source, place])
        while kept(place) < began + 16:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the job ended before it could be killed"
            time.sleep(0.01)
        time.sleep(float(draw.random()) * 0.2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(kept(place))
    build(model, source, place)
    print(json.dumps(seen))


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
