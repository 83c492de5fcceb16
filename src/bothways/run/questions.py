"""What a model is asked: a method a question, for one text or for several.

How each is answered stands in `bothways.run.answering`, a file a kind of question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from bothways.run import stream
from bothways.run.answering import answer, choose, classify, fill, rerank, sequences, tag, zero_shot
from bothways.run.answers import Answer, Choice, Classification, Fill, Tagged, as_list
from bothways.run.ranking_questions import RankingQuestions
from bothways.run.spot import Spot
from bothways.run.vector_questions import VectorQuestions


class Questions(VectorQuestions, RankingQuestions):
    """A model that runs, and the questions it answers through its heads.

    `embed`, `classify`, `score`, `tag` and `answer` give an iterator for an iterator, such as a generator or an open
    file: some thousands of texts are in memory at a time, and tokens are made ahead by a thread. All others read an
    iterator to its end first.
    """

    @overload
    def fill_mask(self, text: str, top: int = 5) -> list[Fill] | list[list[Fill]]: ...  # type: ignore[overload-overlap]
    @overload
    def fill_mask(self, text: Sequence[str], top: int = 5) -> list[list[Fill] | list[list[Fill]]]: ...
    def fill_mask(self, text: str | Sequence[str], top: int = 5) -> Any:
        """Fills in the masked places of a text.

        Args:
            text: One text or several, each with the tokenizer's mask token, ``[MASK]`` for BERT, at least once.
            top: How many tokens to give for a place, likeliest first.

        Returns:
            For a text with one mask a list of `top` fills; with several masks a list of such lists; for several texts a
            list of the above.

        Raises:
            BothwaysError: The model has no masked-token head, or a text has no mask or is too long.
        """
        return fill.fill_mask(self, text, top)

    @overload
    def classify(  # type: ignore[overload-overlap]
        self, texts: str, pairs: str | None = None
    ) -> Classification: ...
    @overload
    def classify(self, texts: Iterator[str], pairs: Iterable[str] | None = None) -> Iterator[Classification]: ...
    @overload
    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Classification]: ...
    def classify(self, texts: Any, pairs: Any = None) -> Any:
        """Says which class each text, or pair of texts, belongs to.

        Args:
            texts: One text, several, or an iterator of any number.
            pairs: The second text of each pair, for models trained on pairs.

        Returns:
            One `Classification` for one text, an iterator of them for an iterator, else a list, in the order of the
            texts.

        Raises:
            BothwaysError: The model has no classifier.
        """
        if isinstance(texts, Iterator):
            classify.check_classes(self, pairs is not None)
            ask = classify.classify
            return stream.answers(self, lambda _, some, others=None: ask(self, some, others), texts, pairs)
        found = classify.classify(self, as_list(texts), None if pairs is None else as_list(pairs))
        return found[0] if isinstance(texts, str) else found

    def class_probabilities(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """The probability of each class.

        Returns:
            ``(texts, classes)`` float32; windows of one long text are averaged.

        Raises:
            BothwaysError: The model has no classifier.
        """
        return classify.class_probabilities(self, as_list(texts), None if pairs is None else as_list(pairs))

    @overload
    def score(self, texts: str, pairs: str | None = None) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def score(self, texts: Iterator[str], pairs: Iterable[str] | None = None) -> Iterator[float]: ...
    @overload
    def score(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray: ...
    def score(self, texts: Any, pairs: Any = None) -> Any:
        """The number that a regression gives each text, or pair of texts, in the units it was trained on.

        Args:
            texts: One text, several, or an iterator of any number.
            pairs: The second text of each pair, for models trained on pairs.

        Returns:
            A number for one text, ``(texts,)`` float32 for several, an iterator of numbers for an iterator.

        Raises:
            BothwaysError: The model was not trained to score.
        """
        if isinstance(texts, Iterator):
            classify.check_scores(self, pairs is not None)
            ask = classify.score
            return stream.answers(self, lambda _, some, others=None: ask(self, some, others).tolist(), texts, pairs)
        found = classify.score(self, as_list(texts), None if pairs is None else as_list(pairs))
        return float(found[0]) if isinstance(texts, str) else found

    @overload
    def score_pairs(self, a: str, b: str) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def score_pairs(self, a: Sequence[str], b: Sequence[str]) -> np.ndarray: ...
    def score_pairs(self, a: Any, b: Any) -> Any:
        """How well two texts go together: what a regression over pairs says, or the probability of a class.

        Args:
            a: The first text of each pair.
            b: The second.

        Returns:
            A number for two texts, ``(pairs,)`` float32 for two lists: of a regression its score, of a classifier of
            two classes the probability of the second (``1``, ``yes``, ``duplicate``).

        Raises:
            BothwaysError: The model has no head for it, or more than two classes.
        """
        found = rerank.pair_scores(self, as_list(a), as_list(b)).told
        return float(found[0]) if isinstance(a, str) else found

    def zero_shot(
        self,
        texts: Any,
        labels: Sequence[str],
        *,
        template: str = "This text is about {}.",
        several: bool = False,
        entailment: str | None = None,
    ) -> Any:
        """Classifies into classes that were never trained, by asking which sentence about them follows from a text.

        Yin et al. 2019, "Benchmarking Zero-shot Text Classification".

        Args:
            texts: One text or several.
            labels: The classes in words.
            template: A sentence with ``{}`` where a class goes.
            several: Whether each class is decided by itself, so that a text may have several.
            entailment: The label of the model's class that means "follows"; found by its name when not given.

        Returns:
            One `Classification` for one text, else a list in the order of the texts.

        Raises:
            BothwaysError: The model is no classifier of pairs, or its classes name no entailment.
        """
        found = zero_shot.zero_shot(self, as_list(texts), labels, template, several, entailment)
        return found[0] if isinstance(texts, str) else found

    @overload
    def tag(self, texts: str) -> Tagged: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, texts: Iterator[str] | Iterator[Sequence[str]]) -> Iterator[Tagged]: ...
    @overload
    def tag(self, texts: Sequence[str] | Sequence[Sequence[str]]) -> list[Tagged]: ...
    def tag(self, texts: Any) -> Any:
        """Tags the words of texts, of any length: words in, words out.

        Args:
            texts: One text, several, or several lists of words; or an iterator of any number. A text is split into
                words as the model was trained (white space, punctuation by itself).

        Returns:
            One `Tagged` for one text, an iterator of them for an iterator, else a list, in the order of the texts.

        Raises:
            BothwaysError: The model has no tagger.
        """
        if isinstance(texts, Iterator):
            self.head("tag", "tag")
            return stream.answers(self, lambda _, some: tag.tag(self, some), texts, check=tag.check_words)
        found = tag.tag(self, [texts] if isinstance(texts, str) else texts)
        return found[0] if isinstance(texts, str) else found

    @overload
    def answer(self, question: str, context: str, *, top: int = 1) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def answer(self, question: Iterator[str], context: Iterable[str], *, top: int = 1) -> Iterator[Answer]: ...
    @overload
    def answer(self, question: Sequence[str], context: Sequence[str], *, top: int = 1) -> list[Answer]: ...
    def answer(self, question: Any, context: Any, *, top: int = 1) -> Any:
        """Finds the answer to a question in a text of any length.

        That there is none is said by models that were fine-tuned here on such questions; another says it once
        ``model.decoding["answer"] = {"threshold": 0.0}``, where "no answer" scores that much above the best part.

        Args:
            question: One question, several, or an iterator of any number.
            context: The text of each question.
            top: How many candidates to list, likeliest first.

        Returns:
            One `Answer` for one question, an iterator of them for an iterator, else a list, in the order of the
            questions.

        Raises:
            BothwaysError: The model has no answering head, or a question is empty or too long.
        """
        if isinstance(question, Iterator):
            answer.check(self, top)
            ask = answer.answer
            return stream.answers(
                self, lambda begin, some, texts: ask(self, some, texts, top, begin), question, context
            )
        found = answer.answer(self, as_list(question), as_list(context), top)
        return found[0] if isinstance(question, str) else found

    @overload
    def choose(self, prompt: str, choices: Sequence[str]) -> Choice: ...  # type: ignore[overload-overlap]
    @overload
    def choose(self, prompt: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Choice]: ...
    def choose(self, prompt: Any, choices: Any) -> Any:
        """Says which of several texts goes best with a prompt.

        Args:
            prompt: One prompt (a question, a beginning) or several.
            choices: The texts to choose from; for several prompts a list of such lists.

        Returns:
            One `Choice` for one prompt, else a list in the order of the prompts.

        Raises:
            BothwaysError: The model has no choosing head, or there are fewer than two choices.
        """
        alone = isinstance(prompt, str)
        found = choose.choose(self, as_list(prompt), [choices] if alone else choices)
        return found[0] if alone else found

    @overload
    def follows(self, a: str, b: str) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def follows(self, a: Sequence[str], b: Sequence[str]) -> np.ndarray: ...
    def follows(self, a: Any, b: Any) -> Any:
        """How likely it is that text `b` follows text `a` in a document.

        Returns:
            A probability for two texts, ``(texts,)`` float32 for two lists.

        Raises:
            BothwaysError: The model has no next-sentence head.
        """
        found = sequences.follows(self, as_list(a), as_list(b))
        return float(found[0]) if isinstance(a, str) else found

    @overload
    def spot(self, text: str) -> list[Spot]: ...  # type: ignore[overload-overlap]
    @overload
    def spot(self, text: Sequence[str]) -> list[list[Spot]]: ...
    def spot(self, text: Any) -> Any:
        """Says of each word how likely it was put there in place of another (Clark et al. 2020, section 2).

        Args:
            text: One text or several.

        Returns:
            For one text its words in order, each with its place, its probability and whether it looks replaced; for
            several texts a list of such lists.

        Raises:
            BothwaysError: The model has no replaced-token head.
        """
        found = sequences.spot(self, as_list(text))
        return found[0] if isinstance(text, str) else found
