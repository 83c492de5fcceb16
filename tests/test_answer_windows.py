"""Questions are answered from texts of any length: windows lose nothing, spans are the best there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from bothways.errors import BothwaysError
from bothways.learn.tasks.answer import AnswerQuestions
from bothways.learn.tasks.answering.data import Questions
from bothways.run.answering.answer import decide, find
from bothways.run.best_span import Spans
from bothways.text.answer_windows import allowed_places, context_of, encode_questions, slices, tokens_of
from bothways.text.encoded import FIRST, SECOND
from bothways.text.questions import Question, read_questions
from question_data import WORDS, questions
from shared import SHARED, needs_shared


@pytest.fixture(scope="module")
def answerer():
    return tiny.model(["answer"], max_length=24)


# -- windows


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_windows_lose_no_position_of_a_context_and_keep_questions_whole(data):
    tokenizer = tiny.tokenizer()
    count = data.draw(st.integers(1, 4))
    texts = [" ".join(data.draw(st.lists(st.sampled_from([*WORDS, "quux!"]), max_size=80))) for _ in range(count)]
    asked = [" ".join(data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))) for _ in range(count)]
    longest = data.draw(st.integers(14, 40))
    stride = data.draw(st.none() | st.integers(1, 60))
    encoded = encode_questions(tokenizer, asked, texts, longest, stride)
    whole = tokenizer.encode(texts, special_tokens=False, offsets=True)
    seen = [np.zeros(length, dtype=int) for length in whole.lengths]
    for sequence, text in enumerate(encoded.texts):
        assert encoded.lengths[sequence] <= longest
        own = slice(encoded.starts[sequence], encoded.starts[sequence + 1])
        first = encoded.token_ids[own][encoded.sources[own] == FIRST]
        assert first.tolist() == tokenizer.encode(asked[text], special_tokens=False).token_ids.tolist()
        part = context_of(encoded, sequence)
        begin = encoded.begins[sequence]
        here = np.arange(part.stop - part.start) + begin
        seen[text][here] += 1
        flat = whole.starts[text] + here
        assert (encoded.token_ids[own][part] == whole.token_ids[flat]).all()
        assert (encoded.offsets[own][part] == whole.offsets[flat]).all()
    assert all((times > 0).all() for times in seen)


def test_a_stride_says_how_far_a_window_goes_on():
    encoded = encode_questions(tiny.tokenizer(), ["who"], ["red " * 50], 24, 5)
    assert encoded.begins.tolist() == list(range(0, 35, 5))
    assert encode_questions(tiny.tokenizer(), ["who"], ["red " * 50], 24).begins.tolist() == [0, 15, 30]


def test_a_question_that_leaves_no_room_is_told(answerer):
    with pytest.raises(BothwaysError, match=r"row 7: the question has 30 tokens, .* max_length 24"):
        encode_questions(tiny.tokenizer(), ["who " * 30], ["red"], 24, names=["row 7"])
    with pytest.raises(BothwaysError, match="question 1: the question has 30 tokens"):
        answerer.answer(["who", "who " * 30], ["red", "red"])
    with pytest.raises(BothwaysError, match="question 1: the question is empty"):
        answerer.answer(["who", " "], ["red", "red"])
    with pytest.raises(BothwaysError, match="top cannot be 0"):
        answerer.answer("who", "red", top=0)


def test_windows_that_hold_an_answer_whole_point_at_it_and_others_at_their_first_token(answerer):
    data = questions(60, longest=80)
    for places in ("first", "all"):
        examples = AnswerQuestions(stride=7, places=places).examples(answerer, data)
        found = set()
        for number in range(len(examples)):
            row = data.rows[examples.questions[number]]
            window = examples.sequence(0, number)
            if not examples.answered[number]:
                assert window.gold.tolist() == [[0, 0]]
                continue
            for first, last in window.gold:
                assert window.allowed[first : last + 1].all()
                told = tiny.tokenizer().decode(window.token_ids[first : last + 1]).replace(" ", "")
                assert told == row.answers[0].replace(" ", "")
            found.add(row.id)
        assert found == {row.id for row in data.rows if row.answers}, "some window holds each answer whole"


def test_all_places_are_learned_from_where_that_is_wanted(answerer):
    twice = Question("q", "who", "red stone red stone", ("red",), ((0, 3), (10, 13), (0, 3)), "row 1")
    counts = [
        len(AnswerQuestions(places=places).examples(answerer, Questions([twice], "x")).sequence(0, 0).gold)
        for places in ("first", "all")
    ]
    assert counts == [1, 2]


def test_a_share_of_the_windows_without_their_answer_is_left_out(answerer):
    data = questions(80, longest=90)
    task = AnswerQuestions(empty_windows=0.25)
    examples = task.examples(answerer, data)
    kept = task.numbers(examples, 1)
    assert AnswerQuestions().numbers(examples, 1) is None
    assert np.array_equal(kept, task.numbers(examples, 1))
    without = np.array([not row.answers for row in data.rows])[examples.questions]
    matter = np.flatnonzero(examples.answered | without)
    assert np.isin(matter, kept).all()
    others = len(examples) - len(matter)
    assert others > 40
    assert len(kept) - len(matter) < 0.5 * others
    assert np.array_equal(AnswerQuestions(empty_windows=0).numbers(examples, 1), matter)


@needs_shared
@pytest.mark.parametrize("name", ["squad1/train_sample", "xquad/en"])
def test_on_published_questions_tokens_cover_answers_and_give_them_back(name):
    rows = read_questions(SHARED / "data" / f"{name}.jsonl.gz")[:400]
    tokenizer = tiny.tokenizer()
    encoded = encode_questions(tokenizer, ["who"] * len(rows), [row.context for row in rows], 10_000)
    exact = 0
    for sequence, row in enumerate(rows):
        part = context_of(encoded, sequence)
        begin = encoded.starts[sequence]
        offsets = encoded.offsets[begin + part.start : begin + part.stop]
        start, end = row.places[0]
        first, last = tokens_of(offsets, (start, end))
        assert offsets[first, 0] <= start < offsets[first, 1]
        assert offsets[last, 0] < end <= offsets[last, 1]
        exact += row.context[offsets[first, 0] : offsets[last, 1]] == row.answers[0]
    assert exact >= 0.98 * len(rows), "answers seldom begin or end inside a token"


def test_a_part_outside_a_window_has_no_tokens_there():
    offsets = np.array([[4, 7], [8, 12], [12, 13]])
    assert tokens_of(offsets, (4, 12)) == (0, 1)
    assert tokens_of(offsets, (9, 10)) == (1, 1)
    for place in ((0, 7), (0, 3), (8, 20), (13, 15), (3, 7)):
        assert tokens_of(offsets, place) is None


@pytest.mark.parametrize("answer", ["cafe\u0301", "\u200bmat\u00ad", "\u0301cat\u0301"])
def test_an_answer_whose_ends_have_no_tokens_has_those_between(answer):
    context = f"the cat sat {answer} on the mat"
    encoded = encode_questions(tiny.tokenizer(), ["who"], [context], 64)
    offsets = encoded.offsets[context_of(encoded, 0)]
    start = context.index(answer)
    first, last = tokens_of(offsets, (start, start + len(answer)))
    letters = "".join(letter for letter in answer if letter.isalpha())
    assert letters in context[offsets[first, 0] : offsets[last, 1]] in answer
    assert tokens_of(offsets[:last], (start, start + len(answer))) is None, "a window that ends inside it"


def test_slices_hold_every_question_once_and_few_characters_at_a_time():
    contexts = ["x" * 400_000, "x", "x" * 3_000_000, *["x" * 10] * 3000]
    cut = list(slices(["?"] * len(contexts), contexts))
    assert [place for one in cut for place in range(one.start, one.stop)] == list(range(len(contexts)))
    assert all(sum(map(len, contexts[one])) <= 1_000_000 or one.stop - one.start == 1 for one in cut)


def test_the_first_token_and_the_context_are_where_answers_may_be():
    encoded = encode_questions(tiny.tokenizer(), ["who was it"], ["the red stone"], 32)
    assert allowed_places(encoded).tolist() == [True, *[False] * 4, *[True] * 3, False]


# -- the best span


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_the_best_spans_are_those_that_enumeration_finds(data):
    tokens, longest = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    width = data.draw(st.integers(1, tokens))
    begins = sorted({*range(0, tokens - width, data.draw(st.integers(1, width))), tokens - width})
    spans = Spans(tokens, longest)
    best, null = {}, np.inf
    for begin in begins:
        logits = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=2 * width, max_size=2 * width)), np.float32)
        logits, none = logits.reshape(width, 2), float(data.draw(st.integers(-4, 4)))
        spans.add(begin, logits, none)
        null = min(null, none)
        for first, last in itertools.product(range(width), repeat=2):
            if first <= last < first + longest:
                key = begin + first, begin + last
                best[key] = max(best.get(key, -np.inf), float(logits[first, 0] + logits[last, 1]))
    top = data.draw(st.integers(1, 100))
    found = spans.best(top)
    ranked = sorted(best.items(), key=lambda one: (-one[1], one[0]))[:top]
    total = sum(np.exp(score) for score in best.values())
    assert [(one.first, one.last) for one in found] == [key for key, _ in ranked]
    assert [one.score for one in found] == [score for _, score in ranked]
    assert [one.probability for one in found] == pytest.approx([np.exp(score) / total for _, score in ranked])
    assert spans.null == null


# -- answers


def test_answers_are_what_each_question_gets_alone_whatever_else_is_asked(answerer):
    rows = questions(30, longest=70).rows
    together = answerer.answer([row.question for row in rows], [row.context for row in rows], top=5)
    for row, one in zip(rows, together, strict=True):
        alone = answerer.answer(row.question, row.context, top=5)
        assert (alone.text, alone.start, alone.end) == (one.text, one.start, one.end)
        assert alone.probability == pytest.approx(one.probability, abs=1e-5)
        for candidate in one.candidates:
            assert row.context[candidate.start : candidate.end] == candidate.text != ""
        assert [each.probability for each in one.candidates] == sorted(
            (each.probability for each in one.candidates), reverse=True
        )
        assert len({(each.start, each.end) for each in one.candidates}) == len(one.candidates)


def test_probabilities_of_all_candidates_and_of_no_answer_sum_to_one(answerer):
    (found,) = find(answerer, ["who was it"], ["the red stone in the old house"], top=10_000)
    assert len(found.candidates) == 7 * 8 / 2
    for threshold in (None, -3.0, 0.0, 40.0):
        answer = decide(found, threshold, 10_000)
        assert sum(one.probability for one in answer.candidates) == pytest.approx(1)
        assert len(answer.candidates) == 28 + (threshold is not None)
    best = np.exp(found.candidates[0].score)
    assert found.without(0.0) == pytest.approx(np.exp(found.null) / (np.exp(found.null) + best)), "against the best"


def test_an_answer_is_never_longer_than_the_model_allows_nor_in_the_question(answerer):
    model = answerer.copy()
    model.decoding["answer"] = {"longest_answer": 2, "threshold": None, "stride": 6}
    context = " ".join(WORDS[:60])
    answer = model.answer("who was it", context, top=500)
    assert all(len(one.text.split()) <= 2 for one in answer.candidates)
    assert len(answer.candidates) > 100


def test_a_threshold_decides_whether_there_is_an_answer(answerer):
    (found,) = find(answerer, ["who was it"], ["the red stone"], top=3)
    always = decide(found, None, 3)
    assert always.text
    assert all(one.text for one in always.candidates)
    above, below = (decide(found, found.doubt + step, 3) for step in (-0.01, 0.01))
    assert (above.text, above.start, above.end) == ("", -1, -1)
    assert above.probability == found.without(found.doubt - 0.01)
    assert above.candidates[0].text == ""
    assert below.text == always.text
    assert {one.text for one in decide(found, found.doubt + 0.01, 9).candidates} >= {"", below.text}


def test_probabilities_follow_the_threshold(answerer):
    """The higher it is the less likely is "no answer", which is likelier than any answer just where it is said."""
    questions = find(answerer, ["who was it"] * 3, ["the red stone", "a river", " ".join(WORDS[:60])], top=3)
    for found in questions:
        steps = found.doubt + np.linspace(-9, 9, 40)
        decided = [decide(found, float(step), 9) for step in steps]
        nones = [found.without(float(step)) for step in steps]
        parts = [max(one.probability for one in each.candidates if one.text) for each in decided]
        assert (np.diff(nones) < 0).all()
        assert (np.diff(parts) > 0).all()
        assert [not each.text for each in decided] == [none > 0.5 for none in nones]
        assert all(each.text or each.probability > part for each, part in zip(decided, parts, strict=True))
        assert decide(found, None, 3).probability > max(parts), "where none is an answer, parts share all"
        assert found.without(-1e9) == 1
        assert found.without(1e9) == 0


def test_a_text_of_a_hundred_thousand_characters_is_read_to_its_end(answerer):
    context = " ".join(np.random.default_rng(0).choice(WORDS, 25_000).tolist())
    assert len(context) > 100_000
    (found,) = find(answerer, ["who was it"], [context], top=10)
    assert all(context[one.start : one.end] == one.text for one in found.candidates)
    encoded = encode_questions(answerer.tokenizer, ["who was it"], [context], 24)
    assert encoded.offsets[encoded.sources == SECOND].max() == len(context)
