"""A small made-up language that a tiny encoder learns in seconds: each text has a topic, and topics have words.

Which word is masked can be told from the words around it: they say the topic, and a topic has few words. So a loss is
known that word frequencies reach, and a lower one that reading the context reaches.
"""

import numpy as np

import tiny
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer

COMMON = ("the", "of", "and", "to", "is", "in")
LETTERS = "bdfgklmnprst"


def word(number):
    """A word of three syllables, another for each number below 46,656."""
    return "".join(LETTERS[number // 36**place % 12] + "aeo"[number // 36**place // 12 % 3] for place in range(3))


def sentence(draw, words, steep=1.0, common=0.25):
    """A few words of a topic, frequent ones first, a share of them common ones."""
    shares = np.arange(1, len(words) + 1.0) ** -steep
    chosen = draw.choice(words, size=draw.integers(4, 10), p=shares / shares.sum())
    replaced = draw.random(len(chosen)) < common
    return " ".join(np.where(replaced, draw.choice(COMMON, size=len(chosen)), chosen)).capitalize() + "."


def documents(count, *, topics=6, words=6, coherent=True, steep=1.0, common=0.25, seed=0):
    """Texts of 3 to 8 sentences. Incoherent ones change their topic with every sentence."""
    draw = np.random.default_rng(seed)
    lists = [[word(topic * words + place) for place in range(words)] for topic in range(topics)]
    made = []
    for _ in range(count):
        chosen = draw.integers(topics, size=draw.integers(3, 9))
        if coherent:
            chosen[:] = chosen[0]
        made.append(" ".join(sentence(draw, lists[topic], steep, common) for topic in chosen))
    return made


def tokenizer(words=36):
    """A tokenizer that knows every word of so many, one token each."""
    return Tokenizer.from_vocabulary([*tiny.SPECIALS, ".", *COMMON, *map(word, range(words))], Normalization())


def spelling_tokenizer():
    """A tokenizer that knows the letters alone."""
    return Tokenizer.from_vocabulary(
        [*tiny.SPECIALS, ".", *LETTERS, *"aeo", *(f"##{a}" for a in LETTERS + "aeo")], Normalization()
    )
