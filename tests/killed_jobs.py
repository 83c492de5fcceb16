"""Runs bulk jobs in children that are killed three times at random moments; a process of its own for it.

Typed: python killed_jobs.py MODEL IN FOLDER SEED. Prints how many rows were kept at each kill of each job.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from bothways.progress import silent
from bothways.run import stream
from bothways.run.opening import load
from bothways.use import bulk

WINDOW = 40
KILLS = 3
OUTPUTS = (("out.npy", None), ("out.parquet", None), ("out.jsonl", 150))


def job(model, source, out, shard_rows=None):
    stream.WINDOW = WINDOW
    silent()
    bulk.embed(load(model, engine="reference"), source, out, shard_rows=shard_rows)
    silent(False)


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


def killed(model, source, out, shard_rows, draw):
    kept = []
    while len(kept) < KILLS:
        number = child(model, source, out, shard_rows)
        wanted = (kept[-1] if kept else 0) + int(draw.integers(1, 5)) * WINDOW
        while rows_kept(out) < wanted:
            assert os.waitpid(number, os.WNOHANG) == (0, 0), "the job ended before it could be killed"
            time.sleep(0.001)
        time.sleep(float(draw.random()) * 0.05)
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        kept.append(rows_kept(out))
        assert not out.exists()
    number = child(model, source, out, shard_rows)
    assert os.waitpid(number, 0)[1] == 0
    return kept


def main(model, source, folder, seed):
    draw = np.random.default_rng(int(seed))
    print(json.dumps([killed(model, source, Path(folder, name), rows, draw) for name, rows in OUTPUTS]))


if __name__ == "__main__":
    main(*sys.argv[1:])
