"""Questions are answered from texts of any length: windows lose nothing, spans are the best there are."""

import itertools
import json
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward, Together
from bothways.learn.stream import split_items
from bothways.learn.tasks.answer import AnswerQuestions
from bothways.learn.tasks.answering.data import Questions, split_by_context
from bothways.learn.tasks.answering.excerpt import shown
from bothways.learn.tasks.answering.overlap import nearest_words
from bothways.run.answering.answer import decide, find
from bothways.run.best_span import Spans
from bothways.text.answer_windows import allowed_places, context_of, encode_questions, slices, tokens_of
from bothways.text.encoded import FIRST, SECOND
from bothways.text.questions import Question, read_questions
from shared import SHARED, needs_shared

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


def test_slices_hold_every_question_once_and_few_characters_at_a_time():
    contexts = ["x" * 400_000, "x", "x" * 3_000_000, *["x" * 10] * 3000]
    cut = list(slices(["?"] * len(contexts), contexts))
    assert [place for one in cut for place in range(one.start, one.stop)] == list(range(len(contexts)))
    assert all(sum(map(len, contexts[one])) <= 1_000_000 or one.stop - one.start == 1 for one in cut)


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
    found, none = spans.best(top)
    ranked = sorted(best.items(), key=lambda one: (-one[1], one[0]))[:top]
    total = np.exp(null) + sum(np.exp(score) for score in best.values())
    assert [(one.first, one.last) for one in found] == [key for key, _ in ranked]
    assert [one.score for one in found] == [score for _, score in ranked]
    assert [one.probability for one in found] == pytest.approx([np.exp(score) / total for _, score in ranked])
    assert none == pytest.approx(np.exp(null) / total)


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
    assert sum(one.probability for one in found.candidates) + found.probability == pytest.approx(1)


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
    assert (above.text, above.start, above.end, above.probability) == ("", -1, -1, found.probability)
    assert above.candidates[0].text == ""
    assert below.text == always.text
    assert {one.text for one in decide(found, found.doubt + 0.01, 9).candidates} >= {"", below.text}


def test_a_text_of_a_hundred_thousand_characters_is_read_to_its_end(answerer):
    context = " ".join(np.random.default_rng(0).choice(WORDS, 25_000).tolist())
    assert len(context) > 100_000
    (found,) = find(answerer, ["who was it"], [context], top=10)
    assert all(context[one.start : one.end] == one.text for one in found.candidates)
    encoded = encode_questions(answerer.tokenizer, ["who was it"], [context], 24)
    assert encoded.offsets[encoded.sources == SECOND].max() == len(context)


# -- learning


def modules(model):
    return torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})


def items(model, data, micro_tokens):
    task = AnswerQuestions(stride=9, places="all")
    examples, objective = task.examples(model, data), task.objective(model, data)
    found = [examples.sequence(0, number) for number in range(len(examples))]
    keys = [(0, number) for number in range(len(examples))]
    return examples, objective, split_items(keys, found, objective.prepare, micro_tokens)


def test_the_loss_is_that_of_each_window_by_itself(answerer):
    examples, objective, (item,) = items(answerer, questions(12, longest=40), 10**9)
    parts = modules(answerer)
    with torch.no_grad():
        forward = Forward(answerer.encoder, item[0], answerer.encoder(item[0]))
        loss = objective.loss(parts, forward, item[1])
        expected = []
        for number in range(len(examples)):
            window = examples.sequence(0, number)
            batch, _ = objective.prepare(bw.batch.make_batch([window[0]], [window[1]]), [(0, 0)], [window], 0.0)
            scores = parts["answer"](answerer.encoder(batch))
            for side in (0, 1):
                shares = torch.softmax(scores[torch.from_numpy(window.allowed), side], 0)
                places = np.flatnonzero(window.allowed)
                right = np.isin(places, window.gold[:, side])
                expected.append(-torch.log(shares[torch.from_numpy(right)].sum()))
    assert objective.count(item[1]) == 2 * len(examples) == len(expected)
    assert float(loss.total) == pytest.approx(float(torch.stack(expected).sum()), rel=1e-5)
    assert loss.each.losses.sum() == pytest.approx(float(loss.total), rel=1e-6)


def test_gradients_do_not_depend_on_how_a_step_is_split(answerer):
    data = questions(12, longest=40)
    gradients = []
    for micro_tokens in (10**9, 60):
        model = answerer.copy()
        _, objective, found = items(model, data, micro_tokens)
        total = {"answer": sum(objective.count(targets) for _, targets in found)}
        for item in found:
            Together([objective]).backward(modules(model), item, total)
        gradients.append([each.grad for each in modules(model).parameters() if each.grad is not None])
    assert len(found) > 3
    for one, other in zip(*gradients, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_two_passes_are_compared_over_allowed_places_only(answerer):
    _, objective, (item,) = items(answerer, questions(5), 10**9)
    with torch.no_grad():
        output = answerer.encoder(item[0])
        logits = objective.logits(modules(answerer), Forward(answerer.encoder, item[0], output), item[1])
    assert logits.shape == (2 * item[0].sequences, item[0].longest)
    assert objective.distance(logits, logits, item[1]) == 0
    moved = objective.distance(logits, logits + torch.randn(logits.shape), item[1])
    assert torch.isfinite(moved)
    assert moved > 0


SETTINGS = {"max_length": 32, "learning_rate": 3e-3, "dropout": 0.0, "report": False, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model that learned when there is an answer, and where."""
    out = tmp_path_factory.mktemp("answer") / "run"
    base = tiny.model(["mlm"], max_length=64)
    found = bw.finetune(
        "answer", base=base, train=learnable(300), dev=learnable(80, 1), epochs=8, out=out, longest_answer=4, **SETTINGS
    )
    return found, out


def test_a_model_learns_where_answers_are_and_when_there_are_none(trained):
    found, _ = trained
    assert found.scores["f1"] > 0.9
    assert found.scores["no_answer_accuracy"] > 0.8
    assert found.scores["has_answer_f1"] > 0.8


def test_the_threshold_that_is_fitted_is_the_best_for_the_dev_set(trained):
    model, dev, task = trained[0].model.copy(), learnable(80, 1), AnswerQuestions()
    doubts = sorted(one.doubt for one in find(model, dev.questions, dev.contexts))

    def scored(threshold):
        model.decoding["answer"]["threshold"] = threshold
        return task.examine(model, dev).scores["f1"]

    fitted = scored(trained[0].model.decoding["answer"]["threshold"])
    assert fitted == pytest.approx(max(scored(each) for each in [doubts[0] - 1, *doubts]))


def test_a_saved_model_answers_as_before_and_keeps_its_settings(trained):
    found, out = trained
    again = bw.load(out)
    assert again.task == "answer"
    assert again.decoding == found.model.decoding
    assert again.decoding["answer"]["longest_answer"] == 4
    rows = learnable(20, 2).rows
    asked = [row.question for row in rows], [row.context for row in rows]
    assert again.answer(*asked, top=3) == found.model.answer(*asked, top=3)
    assert any(one.text == "" for one in again.answer(*asked))
    scores = bw.evaluate(again, [json.loads(json.dumps(as_row(row))) for row in rows])
    assert scores["examples"] == 20


def as_row(row):
    return {
        "id": row.id, "question": row.question, "context": row.context,
        "answers": {"text": list(row.answers), "answer_start": [start for start, _ in row.places]},
    }  # fmt: skip


def test_transformers_opens_it_with_the_same_numbers(trained):
    transformers = pytest.importorskip("transformers")
    found, out = trained
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(out / "model").eval()
    encoded = encode_questions(found.model.tokenizer, ["who was it"], ["the red stone was old"], 32)
    batch = encoded.batch([0])
    with torch.no_grad():
        output = theirs(
            input_ids=torch.from_numpy(batch.token_ids)[None], token_type_ids=torch.from_numpy(batch.segment_ids)[None]
        )
    ((_, ours),) = found.model.run(encoded, lambda _, out: found.model.heads["answer"](out), "answer")
    torch.testing.assert_close(output.start_logits[0], ours[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.end_logits[0], ours[:, 1], atol=1e-5, rtol=1e-5)


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path):
    base = tiny.model(["mlm"], max_length=64)
    given = {"base": base, "train": learnable(40), "dev": learnable(10, 1), "steps": 6, **SETTINGS, "dropout": 0.1}
    whole = bw.finetune("answer", out=tmp_path / "whole", **given)

    def stop(event):
        if event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        bw.finetune("answer", out=tmp_path / "broken", callbacks=[stop], **given)
    again = bw.finetune("answer", out=tmp_path / "broken", **given)
    for name, tensor in modules(whole.model).state_dict().items():
        assert torch.equal(tensor, modules(again.model).state_dict()[name]), name
    assert again.model.decoding == whole.model.decoding


# -- data, reports, settings


def test_no_context_is_on_both_sides_of_a_split():
    rows = [question(number, WORDS[number // 3 : number // 3 + 5], (0, 1)) for number in range(90)]
    kept, held = split_by_context(Questions(rows, "x"), 0.2, 3)
    assert not set(kept.contexts) & set(held.contexts)
    assert len(kept) + len(held) == 90
    assert 12 <= len(held) <= 24
    assert held.rows == split_by_context(Questions(rows, "x"), 0.2, 3)[1].rows
    alone = Questions([question(number, WORDS[:5], (0, 1), f"who {number}") for number in range(20)], "x")
    assert len(split_by_context(alone, 0.2, 3)[1]) > 0


def test_what_is_judged_shows_right_and_given_answers_in_their_place(trained):
    found = AnswerQuestions().examine(trained[0].model, learnable(20, 4))
    for judged in found.rows:
        assert [judged.text[mark.start : mark.end] for mark in judged.truth_marks] == (
            [judged.truth] if judged.truth_marks else []
        )
        assert all(judged.text[mark.start : mark.end] == judged.guess for mark in judged.guess_marks)
        assert judged.credit == float(judged.truth == judged.guess)
    assert found.resampled(np.arange(20))["f1"] == found.scores["f1"]
    text = "x" * 5000 + "red" + "y" * 5000 + "old" + "z" * 5000
    cut, right, said = shown("who", text, [(5000, 5003)], [(10_003, 10_006), (10_003, 10_006)])
    assert len(cut) < 1500
    assert [cut[mark.start : mark.end] for mark in (*right, *said)] == ["red", "old"]


def test_the_baselines_read_the_words_of_the_question():
    filler = "one two six ten " * 6
    context = f"{filler}The red bridge was painted by Ada Stone at noon. {filler}"
    start, end = nearest_words("Who painted the red bridge at noon?", context, 3)
    assert context[start:end] == "by Ada Stone"
    assert nearest_words("who", "", 2) == (0, 0)
    assert nearest_words("who", "one", 2) == (0, 3)
    found = AnswerQuestions().baselines(questions(50), questions(30, 1))
    assert set(found) == {"word overlap", "no answer"}
    assert found["no answer"].scores["no_answer_accuracy"] == 1
    assert found["no answer"].scores["has_answer_f1"] == 0


def test_settings_and_data_that_do_not_do_are_told():
    for wrong in ({"stride": 0}, {"longest_answer": 0}, {"places": "some"}, {"empty_windows": 1.5}):
        with pytest.raises(BothwaysError, match=next(iter(wrong))):
            AnswerQuestions(**wrong)
    none = Questions([question(number, WORDS[:9]) for number in range(20)], "these")
    with pytest.raises(BothwaysError, match=r"none of the .* questions of these has an answer"):
        bw.finetune("answer", base=tiny.model(["mlm"]), train=none, **SETTINGS)
    with pytest.raises(BothwaysError, match="'answer'"):
        tiny.model(["classify"]).answer("who", "red")


def test_the_first_token_and_the_context_are_where_answers_may_be():
    encoded = encode_questions(tiny.tokenizer(), ["who was it"], ["the red stone"], 32)
    assert allowed_places(encoded).tolist() == [True, *[False] * 4, *[True] * 3, False]
