"""Runs a bulk job in children that are killed three times at random moments; a process of its own for it.

Typed: python killed_jobs.py MODEL IN FOLDER SEED. Prints how many rows were kept at each kill.
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
from bothways.run import stream
from bothways.run.opening import load
from bothways.use import bulk

WINDOW = 40
KILLS = 3
OUT = "out.parquet"


def job(model, source, out):
    """On the engine that users get, whose threads compute at once."""
    stream.WINDOW, before = WINDOW, torch.get_num_threads()
    torch.set_num_threads(2)
    silent()
    bulk.embed(load(model, engine="packed"), source, out)
    silent(False)
    torch.set_num_threads(before)


def rows_kept(out):
    try:
        return json.loads((out.parent / f".{out.name}.part" / ".state.json").read_text())["rows"]
    except (OSError, ValueError):
        return 0


def child(*arguments):
    number = os.fork()
    if not number:
        job(*arguments)
        os._exit(0)
    return number


def killed(model, source, out, draw):
    kept = []
    while len(kept) < KILLS:
        number = child(model, source, out)
        wanted = (kept[-1] if kept else 0) + int(draw.integers(1, 5)) * WINDOW
        while rows_kept(out) < wanted:
            assert os.waitpid(number, os.WNOHANG) == (0, 0), "the job ended before it could be killed"
            time.sleep(0.001)
        time.sleep(float(draw.random()) * 0.05)
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        kept.append(rows_kept(out))
        assert not out.exists()
    number = child(model, source, out)
    assert os.waitpid(number, 0)[1] == 0
    return kept


def main(model, source, folder, seed):
    draw = np.random.default_rng(int(seed))
    print(json.dumps(killed(model, source, Path(folder, OUT), draw)))


if __name__ == "__main__":
    main(*sys.argv[1:])
