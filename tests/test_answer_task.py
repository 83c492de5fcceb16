"""Answering as a task: what is learned from windows, what is fitted, saved, judged and told."""

import json

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward
from bothways.learn.stream import split_items
from bothways.learn.tasks.answer import AnswerQuestions
from bothways.learn.tasks.answering.data import Questions, split_by_context
from bothways.learn.tasks.answering.excerpt import shown
from bothways.learn.tasks.answering.overlap import nearest_words
from bothways.run.answering.answer import find
from bothways.run.engines.protocol import Output
from bothways.text.answer_windows import encode_questions
from learner_tasks import assert_resumes_exactly, gradients, modules
from question_data import WORDS, learnable, question, questions


@pytest.fixture(scope="module")
def answerer():
    return tiny.model(["answer"], max_length=24)


# -- learning


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
    learned = []
    for micro_tokens in (10**9, 60):
        model = answerer.copy()
        _, objective, found = items(model, data, micro_tokens)
        learned.append(gradients(model, objective, found))
    assert len(found) > 3
    for one, other in zip(*learned, strict=True):
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
    ((_, ours),) = found.model.run(encoded, Output("answer"))
    ours = torch.from_numpy(ours)
    torch.testing.assert_close(output.start_logits[0], ours[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.end_logits[0], ours[:, 1], atol=1e-5, rtol=1e-5)


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path):
    rows = [as_row(row) for row in learnable(40).rows]
    assert_resumes_exactly(tmp_path, "answer", rows, {"max_length": 32, "dropout": 0.1})


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


def test_questions_with_and_without_an_answer_are_told_apart_as_the_official_script_does(trained):
    (result, _), dev = trained, learnable(80, 1)
    found = AnswerQuestions().examine(result.model, dev).scores
    kinds = found["classes"]
    assert [one["support"] for one in kinds.values()] == [len(dev) - dev.unanswerable, dev.unanswerable]
    assert kinds["with an answer"]["f1"] == found["has_answer_f1"]
    assert kinds["with an answer"]["exact_match"] == found["has_answer_exact_match"]
    assert kinds["without an answer"]["f1"] == kinds["without an answer"]["exact_match"] == found["no_answer_accuracy"]
    assert "classes" not in AnswerQuestions().examine(result.model, questions(12, without=0.0)).scores, "all have one"


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
