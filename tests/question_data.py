"""Questions over texts of known words, for the tests of answering."""

import numpy as np

import tiny
from bothways.learn.tasks.answering.data import Questions
from bothways.text.questions import Question

WORDS = tiny.KNOWN.split()


def question(number, words, answer=None, asked="who was it"):
    """A question whose answer is the words `answer` of its context, or that has none."""
    context = " ".join(words)
    if answer is None:
        return Question(f"q{number}", asked, context, (), (), f"row {number}")
    start = len(" ".join(words[: answer[0]])) + (answer[0] > 0)
    text = " ".join(words[answer[0] : answer[1]])
    return Question(f"q{number}", asked, context, (text,), ((start, start + len(text)),), f"row {number}")


def questions(count, seed=0, longest=60, without=0.3):
    """Questions over texts of one to `longest` words; about a third have no answer."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = draw.choice(WORDS, draw.integers(1, longest + 1)).tolist()
        first = int(draw.integers(len(words)))
        answer = None if draw.random() < without else (first, min(len(words), first + int(draw.integers(1, 4))))
        rows.append(question(number, words, answer))
    return Questions(rows, "questions")


def learnable(count, seed=0):
    """The answer is the word behind "was"; without that word there is none."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = draw.choice([word for word in WORDS if word != "was"], draw.integers(6, 14)).tolist()
        place = int(draw.integers(len(words) - 1))
        has = draw.random() < 0.7
        words[place] = "was" if has else words[place]
        rows.append(question(number, words, (place + 1, place + 2) if has else None))
    return Questions(rows, "questions")
