"""Runs the code of a page in a process of its own, forked from one that has imported what most pages import."""

import multiprocessing
import os
import runpy
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["bothways.learn.finetune", "bothways.learn.pretrain"])
CODE, SAID = "page.py", "said.txt"


def run_page(folder, **environment):
    """Runs the code that lies in a folder, there; returns the exit code and all that was said."""
    process = FORKS.Process(target=_work, args=(folder, environment))
    process.start()
    process.join()
    return process.exitcode, Path(folder, SAID).read_text(encoding="utf-8")


def _work(folder, environment):
    os.chdir(folder)
    os.environ |= environment
    with Path(SAID).open("wb", buffering=0) as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    runpy.run_path(CODE, run_name="__main__")
