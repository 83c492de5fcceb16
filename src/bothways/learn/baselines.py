"""What a classifier must beat: the most frequent class, and a linear model over words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bothways.errors import BothwaysError, need


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
    need("sklearn", "torch", "The TF-IDF baseline")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    # One-letter words count too: "I", and every character of a script that writes none longer.
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
    try:
        features = vectorizer.fit_transform(train_texts)
    except ValueError:  # an empty vocabulary
        return fallback
    if not len(texts):
        return fallback
    model = LogisticRegression(C=10.0, max_iter=1000).fit(features, labels)
    return np.asarray(model.predict(vectorizer.transform(texts)), dtype=np.int64)
