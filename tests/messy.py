"""Messy documents for the tests of cleaning, made from a small grammar; a process of its own cleans them till killed.

Typed: python messy.py SOURCE OUT WORKERS SLOW. Where SLOW is not 0, every window takes so many seconds.
"""

import json
import re
import sys
import time

import numpy as np

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


if __name__ == "__main__":
    from bothways.progress import silent
    from bothways.text.cleaning import draft
    from bothways.text.cleaning.draft import Draft
    from bothways.use import corpus

    source, out, workers, slow = sys.argv[1:]
    draft._SECONDS, corpus._WINDOW = 0.0, 16
    append = Draft.append

    def slowly(self, washed, digest):
        append(self, washed, digest)
        time.sleep(float(slow))

    Draft.append = slowly
    silent()
    corpus.clean_corpus(source, out, workers=int(workers))
