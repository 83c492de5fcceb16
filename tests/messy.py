"""Messy documents for the tests of cleaning, made from a small grammar; as a process of its own it cleans till killed.

Typed: python messy.py SOURCE FOLDER SEED.
"""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np

from bothways.progress import silent
from bothways.text.cleaning import draft
from bothways.text.cleaning.draft import Draft
from bothways.text.cleaning.languages import language_of
from bothways.use import clean

WORDS = re.findall(
    r"\w+",
    "river bridge teacher letter garden winter engine doctor harbour market window mountain bird village road crosses "
    "follows remembers paints builds loses repairs watches carries forgets before evening many years without near old "
    "children sing small town every house",
)
MENU = "Home News Sport Weather and more"


def sentence(draw):
    return f"The {' '.join(draw.choice(WORDS, 10))} {draw.integers(1000)}."


def documents(count, seed=0, sentences=12):
    """Documents that share no run of five words but by rare chance."""
    draw = np.random.default_rng(seed)
    return ["\n".join(sentence(draw) for _ in range(sentences)) for _ in range(count)]


def perturbed(text, seed, share=0.02):
    """A text with some of its words exchanged."""
    draw = np.random.default_rng(seed)
    words = text.split(" ")
    for place in draw.choice(len(words), max(1, int(share * len(words))), replace=False):
        words[place] = "changed"
    return " ".join(words)


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def job(source, out, slow):
    """Cleans in a child of this process; gives its number."""
    if number := os.fork():
        return number
    append = Draft.append

    def slowly(self, washed, digest):
        append(self, washed, digest)
        time.sleep(slow)

    Draft.append, draft._SECONDS, clean._WINDOW = slowly, 0.0, 16
    silent()
    clean.clean_corpus(source, out)
    os._exit(0)


def read(out):
    try:
        return json.loads((out / ".cleaning" / "state.json").read_text())["figures"]["read"]
    except (OSError, ValueError):
        return 0


def main(source, folder, seed):
    """Cleans in one go, and beside it killed twice; prints how many documents had been read at each kill."""
    language_of("once for all children")
    draw, out, seen = np.random.default_rng(int(seed)), folder / "killed", [0]
    assert os.waitpid(job(source, folder / "whole", 0.0), 0)[1] == 0
    while len(seen) < 3:
        number = job(source, out, 0.05)
        while read(out) < seen[-1] + 16 * int(draw.integers(1, 4)):
            assert os.waitpid(number, os.WNOHANG) == (0, 0), "it ended before it could be killed"
            time.sleep(0.002)
        time.sleep(float(draw.random()) * 0.05)
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        seen.append(read(out))
        assert not (out / "card.json").exists()
    assert os.waitpid(job(source, out, 0.0), 0)[1] == 0
    print(json.dumps(seen[1:]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
