"""What a classifier must beat: the most frequent class, and a linear model over words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need

_PART = 10_000
"""Texts that are told at a time."""
_MANY = 2000
"""Training texts, more of which have so many words that those of one text alone can be left out."""


def majority(train_labels: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Predicts the most frequent class of the training set, always.

    Args:
        train_labels: ``(N,)`` classes as integers.
        count: How many predictions to make.

    Returns:
        ``(count,)`` that class (the lowest of equally frequent ones).

    Raises:
        BothwaysError: The training set is empty.
    """
    if len(train_labels) == 0:
        raise BothwaysError("there is nothing to learn from: the training data hold no labelled example")
    return np.full(count, np.bincount(np.asarray(train_labels, dtype=np.int64)).argmax(), dtype=np.int64)


def tfidf_logistic(
    train_texts: Sequence[str], train_labels: Sequence[int] | np.ndarray, texts: Sequence[str]
) -> np.ndarray:
    """Logistic regression over words and pairs of neighbouring words, weighted by TF-IDF (1 + log of the frequency).

    Args:
        train_texts: N texts.
        train_labels: ``(N,)`` their classes as integers.
        texts: M texts to classify.

    Returns:
        ``(M,)`` predicted classes. Where no training text holds a word there is nothing to weigh, and the most frequent
        class is predicted.

    Raises:
        BothwaysError: The training set is empty or holds a single class.
    """
    labels = np.asarray(train_labels, dtype=np.int64)
    fallback = majority(labels, len(texts))
    if len(np.unique(labels)) < 2:
        raise BothwaysError("all training examples have the same class: a classifier needs at least two")
    features = _features(train_texts, texts)
    if features is None:
        return fallback
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10.0, max_iter=1000).fit(features[0], labels)
    return np.concatenate([model.predict(part) for part in features[1]]).astype(np.int64)


def tfidf_labels(train_texts: Sequence[str], train_flags: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """The same where a text may have several labels: a logistic regression for each, one against the rest.

    Args:
        train_texts: N texts.
        train_flags: ``(N, C)`` 1 where a label holds.
        texts: M texts to label.

    Returns:
        ``(M, C)`` float32 probabilities; of a label that holds everywhere or nowhere, or where no text holds a word,
        how often it holds.

    Raises:
        BothwaysError: The training set is empty.
    """
    if not len(train_flags):
        raise BothwaysError("there is nothing to learn from: the training data hold no labelled example")
    found = np.tile(train_flags.mean(0, dtype=np.float32), (len(texts), 1))
    features = _features(train_texts, texts)
    if features is None:
        return found
    from sklearn.linear_model import LogisticRegression

    told = [place for place, column in enumerate(train_flags.T > 0) if column.any() and not column.all()]
    models = [LogisticRegression(C=10.0, max_iter=1000).fit(features[0], train_flags[:, place] > 0) for place in told]
    begin = 0
    for part in features[1]:
        for place, model in zip(told, models, strict=True):
            found[begin : begin + part.shape[0], place] = model.predict_proba(part)[:, 1]
        begin += part.shape[0]
    return found


def tfidf_ridge(train_texts: Sequence[str], train_scores: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Ridge regression over the same words and pairs of words.

    Args:
        train_texts: N texts.
        train_scores: ``(N,)``.
        texts: M texts to score.

    Returns:
        ``(M,)`` float64; the mean score where no training text holds a word.

    Raises:
        BothwaysError: The training set is empty.
    """
    if not len(train_scores):
        raise BothwaysError("there is nothing to learn from: the training data hold no labelled example")
    features = _features(train_texts, texts)
    if features is None:
        return np.full(len(texts), np.mean(train_scores))
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0, solver="sparse_cg").fit(features[0], train_scores)
    return np.concatenate([model.predict(part) for part in features[1]]).astype(np.float64)


def _features(train_texts: Sequence[str], texts: Sequence[str]) -> tuple[Any, Iterator[Any]] | None:
    """Both as sparse matrices, the second a part at a time; None where there is nothing to weigh or nothing to tell."""
    need("sklearn", "torch", "The TF-IDF baseline")
    from sklearn.feature_extraction.text import TfidfVectorizer

    # One-letter words count too: "I", and every character of a script that writes none longer. Of many texts the pairs
    # that stand in only one are most of the features, and most of the time.
    fewest = 2 if len(train_texts) > _MANY else 1
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", min_df=fewest, dtype=np.float32
    )
    try:
        features = vectorizer.fit_transform(train_texts)
    except ValueError:  # an empty vocabulary
        return None
    parts = (vectorizer.transform(texts[begin : begin + _PART]) for begin in range(0, len(texts), _PART))
    return (features, parts) if len(texts) else None
