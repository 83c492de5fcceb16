"""``finetune embed``: steps of any size in little memory, no text twice, runs that go on, models that others open."""

import json
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch

import tiny
from bothways.errors import BothwaysError
from bothways.learn.curve import learning_curve
from bothways.learn.finetune import _lessons, finetune
from bothways.learn.folds import cross_validate
from bothways.learn.several import finetune_seeds
from bothways.learn.tasks.embed import Embed
from bothways.learn.vectors.data import read_vectors
from bothways.learn.vectors.examples import BUDGET, Apart, GroupExamples, Packs
from bothways.learn.vectors.judge import average_precision, best_thresholds, guesses_of, judged
from bothways.learn.vectors.losses.mined import MinedTriplets
from bothways.run.model import load
from bothways.run.sentence_folder import SentenceRecipe

TEXTS = list(dict.fromkeys(text for text in tiny.sentences(200, 1, 8) if len(text.split()) > 3))[:60]
PAIRS = [{"anchor": text, "positive": " ".join(reversed(text.split()))} for text in TEXTS]
DATA = {
    "mnrl": PAIRS,
    "triplet": [{**row, "negative": TEXTS[(n + 7) % 60]} for n, row in enumerate(PAIRS)],
    "cosine+angle": [{"text_a": a, "text_b": TEXTS[n * 3 % 60], "score": n % 6 / 5} for n, a in enumerate(TEXTS)],
    "online+mnrl": [{"text_a": a, "text_b": TEXTS[n * (n % 2) % 60], "label": n % 2} for n, a in enumerate(TEXTS)],
    "softmax": [
        {"premise": a, "hypothesis": TEXTS[n * 3 % 60], "label": ["entailment", "neutral", "contradiction"][n % 3]}
        for n, a in enumerate(TEXTS)
    ],
    "mined": [{"text": a, "label": "xyz"[n % 3]} for n, a in enumerate(TEXTS)],
    "simcse": [{"text": text} for text in TEXTS],
    "tsdae": [{"text": text} for text in TEXTS],
}


UNEVEN = {
    "triplet": [{**row, "negative": TEXTS[n % 50 : n % 50 + n % 4 + 1]} for n, row in enumerate(PAIRS)],
    "softmax": DATA["softmax"],
    "tsdae": [{"text": " ".join(text.split()[: 1 + n % 7])} for n, text in enumerate(TEXTS)],
    "parallel": PAIRS,
    "cosine": DATA["cosine+angle"],
    "contrastive": DATA["online+mnrl"],
}
UNEVEN["distil"] = UNEVEN["triplet"]


def trained(data, base=None, **settings):
    settings = {"steps": 3, "batch_size": 8, "precision": "float32", **settings}
    return finetune("embed", base=base or tiny.model(heads=()), train=data, **settings)


def lesson(base, data, micro_tokens, **settings):
    """The first item of a run, what is learned of it, and what is trained."""
    task = Embed(**settings)
    read = task.read(data)
    model = base.copy()
    task.carry(base, model)
    task.begin(model, read)
    objective = task.objective(model, read)
    stream = task.stream(
        task.examples(model, read), objective.prepare, batch_size=16, micro_tokens=micro_tokens, epochs=1, seed=0
    )
    modules = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads, **objective.modules()})
    return objective, stream, modules.train()


def gradients(base, data, micro_tokens, **settings):
    """The loss of a first step and its gradient, whatever it is cut into."""
    objective, stream, modules = lesson(base, data, micro_tokens, **settings)
    modules.eval()
    items = stream.next_step(0.0)
    totals = {}
    for item in items:
        for name, count in objective.counts(item).items():
            totals[name] = totals.get(name, 0) + count
    sums = [objective.backward(modules, item, totals) for item in items]
    found = {name: value.grad for name, value in modules.named_parameters() if value.grad is not None}
    return {name: sum(each[name] for each in sums) for name in sums[0]}, found


# -- what is learned


@pytest.mark.parametrize("loss", list(DATA))
def test_every_loss_learns_from_its_data_within_steps_and_saves_a_sentence_model(loss, tmp_path):
    run = trained(DATA[loss], loss=loss, out=tmp_path / "run", learning_rate=1e-3, report=loss == "mnrl")
    found = load(tmp_path / "run" / "model")
    assert found.task == "embed"
    assert found.sentence.stated
    assert np.allclose(found.embed(TEXTS[:5]), run.model.embed(TEXTS[:5]), atol=1e-5)
    assert not np.allclose(found.embed(TEXTS[:5]), tiny.model(heads=()).embed(TEXTS[:5]), atol=1e-3)
    if loss == "mnrl":
        assert (tmp_path / "run" / "report.html").exists()
        assert "SentenceTransformer" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_in_batch_negatives_bring_pairs_together():
    base = tiny.model(heads=(), embeddings__dropout=0.0)
    run = trained(PAIRS, base=base, steps=30, batch_size=30, learning_rate=3e-3, metric=None)
    other = [
        np.mean(np.abs(np.corrcoef(model.embed([row["anchor"] for row in PAIRS]))[np.triu_indices(60, 1)]))
        for model in (base, run.model)
    ]
    assert other[1] < other[0]


@pytest.mark.parametrize("settings", [{"loss": "mnrl", "dims": (16, 8)}, {"loss": "mnrl", "symmetric": True}])
def test_a_step_in_parts_has_the_gradient_of_a_whole_one(settings):
    base = tiny.model(heads=())
    whole, parted = (gradients(base, PAIRS, tokens, **settings) for tokens in (10**6, 40))
    assert whole[0] == pytest.approx(parted[0], rel=1e-4)
    assert whole[1].keys() == parted[1].keys()
    for name, value in whole[1].items():
        assert torch.allclose(value, parted[1][name], rtol=1e-3, atol=1e-6), name


def test_both_passes_over_a_part_have_the_same_dropout():
    base = tiny.model(heads=(), dropout=0.5)
    objective, stream, modules = lesson(base, PAIRS, 40, loss="mnrl")
    [item] = stream.next_step(0.0)
    seen = []
    vectors = objective._vectors
    objective._vectors = lambda model, batch: seen.append(vectors(model, batch)) or seen[-1]
    objective.backward(modules, item, objective.counts(item))
    half = len(seen) // 2
    assert half > 1
    for first, second in zip(seen[:half], seen[half:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(vectors(modules, item[0]), vectors(modules, item[0]))


@pytest.mark.parametrize("loss", ["triplet", "softmax", "tsdae", "distil", "parallel", "cosine", "contrastive"])
def test_losses_of_single_groups_add_up_however_a_step_is_cut(loss, monkeypatch):
    """Also where groups have few texts or many, and texts few tokens or many."""
    base, given = (
        tiny.model(heads=()),
        {"distil": {"teacher": "small", "dims": (16,)}, "parallel": {"teacher": "small"}},
    )
    monkeypatch.setattr("bothways.learn.tasks.embed.load", lambda *_, **__: tiny.model(heads=(), seed=1))
    whole, parted = (gradients(base, UNEVEN[loss], tokens, loss=loss, **given.get(loss, {})) for tokens in (10**6, 60))
    assert whole[0] == pytest.approx(parted[0], rel=1e-4)
    assert whole[1].keys() == parted[1].keys()
    for name, value in whole[1].items():
        assert torch.allclose(value, parted[1][name], rtol=1e-3, atol=1e-5), name


def test_matryoshka_is_the_mean_of_the_losses_of_all_widths():
    found = {}
    for dims in ((), (16,), (8,), (16, 8)):
        objective, stream, modules = lesson(tiny.model(heads=()), PAIRS, 10**6, loss="mnrl", dims=dims or None)
        found[dims] = objective.evaluate(modules.eval(), stream.next_step(0.0)[0])["loss.mnrl"]
    alone = [found[()], 2 * found[16,] - found[()], 2 * found[8,] - found[()]]
    assert found[16, 8] == pytest.approx(np.mean(alone), rel=1e-5)
    assert len({round(value, 3) for value in alone}) == 3


# -- steps


def test_no_text_comes_twice_in_a_step_and_every_group_comes_once_an_epoch():
    rows = [{"anchor": TEXTS[n % 20], "positive": TEXTS[20 + n]} for n in range(40)]
    task, model = Embed(loss="mnrl"), tiny.model(heads=())
    data = task.read(rows)
    objective = task.objective(model, data)
    stream = task.stream(
        task.examples(model, data), objective.prepare, batch_size=10, micro_tokens=10**6, epochs=2, seed=0
    )
    assert isinstance(stream, Apart)
    groups, steps = [], 0
    while (items := stream.next_step(0.0)) is not None:
        [(_, targets)] = items
        ids = data.ids[targets["embed.texts"]]
        assert len(set(ids.tolist())) == len(ids) or stream.epoch == 2, "only once the data are over"
        groups += targets["embed.groups"].tolist()
        steps += 1
    assert sorted(groups) == sorted([*range(40), *range(40)])
    assert steps == 8


def test_what_waits_at_the_end_of_the_data_is_learned_from_in_the_planned_steps():
    rows = [{"anchor": TEXTS[n and n + 1 if n >= 10 else 0], "positive": TEXTS[40 + n % 20]} for n in range(40)]
    _, stream, _ = lesson(tiny.model(heads=()), rows, 10**6, loss="mnrl")
    sizes = []
    while (items := stream.next_step(0.0)) is not None:
        sizes.append(len(items[0][1]["embed.groups"]))
    assert sizes == [16, 16, 8]
    assert stream.state()["waiting"] == []


@pytest.mark.parametrize("loss", ["softmax", "mined", "tsdae"])
def test_chance_beside_the_encoder_follows_from_the_seed(loss):
    """What is trained beside it, which texts of a class come together, what it does not see."""
    found = []
    for seed in (0, 0, 1):
        task, model = Embed(loss=loss), tiny.model(heads=())
        data = task.read(DATA[loss])
        objective, stream, _ = _lessons(task, model, data, seed, 1000, 10**6, 1)
        [(batch, targets)] = stream.next_step(0.0)
        seen = sorted(batch.token_ids[begin:end].tolist() for begin, end in pairwise(batch.starts))
        beside = [each.tolist() for part in objective.modules().values() for each in part.parameters()]
        packs = sorted(targets["embed.texts"][begin:end].tolist() for begin, end in pairwise(targets["embed.starts"]))
        found.append((seen, beside, packs))
    assert found[0] == found[1]
    changed = [one != other for one, other in zip(found[0], found[2], strict=True)]
    assert (
        changed == {"softmax": [False, True, False], "mined": [False, False, True], "tsdae": [True, True, False]}[loss]
    )


def test_where_most_rows_share_a_text_steps_are_full_all_the_same():
    rows = [{"anchor": TEXTS[0], "positive": text} for text in TEXTS[1:]]
    _, stream, _ = lesson(tiny.model(heads=()), rows, 10**6, loss="mnrl")
    sizes = []
    while (items := stream.next_step(0.0)) is not None:
        sizes.append(len(items[0][1]["embed.groups"]))
    assert sum(sizes) == 59
    assert sizes[0] == 16


def test_the_position_of_a_stream_is_data():
    rows = [{"anchor": TEXTS[n % 20], "positive": TEXTS[20 + n]} for n in range(40)]
    _, one, _ = lesson(tiny.model(heads=()), rows, 10**6, loss="mnrl")
    one.next_step(0.0)
    state = json.loads(json.dumps(one.state()))
    _, other, _ = lesson(tiny.model(heads=()), rows, 10**6, loss="mnrl")
    other.restore(state)
    for _ in range(2):
        first, second = (stream.next_step(0.0)[0] for stream in (one, other))
        assert first[1]["embed.groups"].tolist() == second[1]["embed.groups"].tolist()
        assert first[0].token_ids.tolist() == second[0].token_ids.tolist()


def test_texts_of_one_class_come_in_packs_that_are_dealt_anew():
    data = read_vectors(DATA["mined"])
    packs = Packs(tiny.model(heads=()), data, np.arange(60) % 3)
    first, second = ([packs.sequence(epoch, n)[2].tolist() for n in range(len(packs))] for epoch in (0, 1))
    for dealt in (first, second):
        assert sorted(place for pack in dealt for place in pack) == list(range(60))
        assert all(len({place % 3 for place in pack}) == 1 and len(pack) > 1 for pack in dealt)
    assert first != second


def test_simcse_needs_dropout():
    base = tiny.model(heads=(), dropout=0.0, embeddings__dropout=0.0, attention__dropout=0.0)
    with pytest.raises(BothwaysError, match="has none: give --dropout"):
        trained(DATA["simcse"], base=base, loss="simcse")
    trained(DATA["simcse"], base=base, loss="simcse", dropout=0.1, steps=1)


def test_simcse_reads_each_text_twice():
    examples = GroupExamples(tiny.model(heads=()), read_vectors(DATA["simcse"]), 2)
    ids, _, places = examples.sequence(0, 5)
    assert places.tolist() == [5, 5]
    assert ids[0].tolist() == ids[1].tolist()


# -- what is measured


def test_rankings_are_those_of_a_search_over_all():
    data = read_vectors(DATA["triplet"])
    vectors = np.random.default_rng(0).normal(size=(180, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    by_text = {}

    def embed(texts):
        return np.stack([by_text.setdefault(text, vectors[len(by_text)]) for text in texts])

    found = judged(data, guesses_of(data, embed))
    asked = [data.group(number) for number in range(60)]
    candidates = list(dict.fromkeys(text for group in asked for text in group[1:]))
    ranks = []
    for first, _, _ in asked:
        own = {group[1] for group in asked if group[0] == first}
        best = max(by_text[first] @ by_text[text] for text in own)
        others = [text for text in candidates if text not in own and text != first]
        ranks.append(1 + sum(by_text[first] @ by_text[text] >= best for text in others))
    reciprocal = [1 / rank if rank <= 10 else 0.0 for rank in ranks]
    assert found.scores["mrr@10"] == pytest.approx(np.mean(reciprocal))
    assert found.scores["recall@1"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert found.resampled(np.arange(10))["mrr@10"] == pytest.approx(np.mean(reciprocal[:10]))


def test_texts_that_differ_in_the_size_of_letters_have_vectors_of_their_own():
    data = read_vectors(
        [{"text_a": "US growth", "text_b": "us growth", "label": 1}, {"text_a": "a", "text_b": "b", "label": 0}]
    )
    asked = []

    def embed(texts):
        asked.extend(texts)
        return np.eye(4)[: len(texts)]

    assert guesses_of(data, embed) == [0.0, 0.0]
    assert sorted(asked) == ["US growth", "a", "b", "us growth"]


def test_average_precision_and_thresholds_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, f1_score

    draw = np.random.default_rng(0)
    flags, cosines = draw.random(200) < 0.4, np.round(draw.random(200), 2)
    assert average_precision(flags, cosines) == pytest.approx(average_precision_score(flags, cosines))
    for_f1, for_accuracy = best_thresholds(flags, cosines)
    every = np.unique(cosines)
    assert f1_score(flags, cosines >= for_f1) == pytest.approx(max(f1_score(flags, cosines >= each) for each in every))
    assert ((cosines >= for_accuracy) == flags).mean() >= max(((cosines >= each) == flags).mean() for each in every)


def test_the_dev_data_decide_what_is_measured():
    run = trained(PAIRS, dev=DATA["cosine+angle"])
    assert {"spearman", "pearson"} <= run.scores.keys()


def test_what_is_held_out_shares_no_first_text_with_what_is_learned():
    rows = [{"anchor": TEXTS[n % 20], "positive": TEXTS[20 + n]} for n in range(40)]
    task = Embed()
    kept, held = task.split(task.read(rows), 0.2, 0)
    assert not {kept.group(n)[0] for n in range(len(kept))} & {held.group(n)[0] for n in range(len(held))}
    assert len(kept) + len(held) == 40
    assert len(held) == 8


# -- bases, prompts, others' libraries


def test_a_model_of_sentence_vectors_keeps_its_recipe_and_an_encoder_gets_one():
    sentence = tiny.model(heads=(), recipe=SentenceRecipe("cls", normalize=True, stated=True))
    assert trained(PAIRS, base=sentence).model.sentence.pooling == "cls"
    assert trained(PAIRS, base=sentence).model.sentence.normalize
    made = trained(PAIRS, pooling="max", normalize=True).model
    assert (made.sentence.pooling, made.sentence.normalize) == ("max", True)
    assert np.allclose(np.linalg.norm(made.embed(TEXTS), axis=1), 1, atol=1e-5)


def test_prompts_stand_before_texts_in_training_and_are_kept():
    run = trained(PAIRS, query_prompt="the red ", document_prompt="the old ")
    assert run.model.sentence.prompts == {"query": "the red ", "document": "the old "}
    _, stream, _ = lesson(tiny.model(heads=()), PAIRS, 10**6, loss="mnrl", query_prompt="the red ")
    [(batch, _)] = stream.next_step(0.0)
    tokens = tiny.tokenizer().tokens
    begins = [tokens[batch.token_ids[start + 2]] for start in batch.starts[:-1]]
    assert begins.count("red") >= 16


def test_sentence_transformers_opens_what_is_saved_with_the_same_vectors(tmp_path):
    from sentence_transformers import SentenceTransformer

    run = trained(PAIRS, pooling="cls+max", normalize=True, out=tmp_path / "run", report=False)
    theirs = SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu").encode(TEXTS, show_progress_bar=False)
    assert np.allclose(run.model.embed(TEXTS), theirs, atol=1e-5)


def test_a_teachers_longer_vectors_are_cut_so_that_their_products_stay(tmp_path):
    teacher = tiny.folder(tmp_path / "teacher", heads=(), recipe=SentenceRecipe("mean+max", stated=True))
    student = tiny.model(heads=(), seed=5)
    run = trained(DATA["simcse"], base=student, loss="distil", teacher=str(teacher), steps=60, learning_rate=3e-3)
    target = load(teacher).embed(TEXTS)
    vectors = [model.embed(TEXTS) for model in (student, run.model)]
    likeness = [np.corrcoef((each @ each.T).ravel(), (target @ target.T).ravel())[0, 1] for each in vectors]
    assert likeness[1] > likeness[0] + 0.1


# -- runs


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path):
    rows = [{"anchor": TEXTS[n % 20], "positive": TEXTS[20 + n]} for n in range(40)]
    whole = trained(rows, steps=6, out=tmp_path / "whole", report=False)

    def interrupt(event):
        if event.step == 3:
            signal.raise_signal(signal.SIGINT)

    given = {"steps": 6, "out": tmp_path / "cut", "report": False}
    with pytest.raises(KeyboardInterrupt):
        trained(rows, **given, callbacks=[interrupt])
    again = trained(rows, **given)
    assert np.array_equal(whole.model.embed(TEXTS), again.model.embed(TEXTS))


def test_seeds_folds_and_parts_of_the_data_are_measured_as_the_data_want(tmp_path):
    given = {"base": tiny.model(heads=()), "steps": 2, "batch_size": 8}
    seeds = finetune_seeds("embed", train=DATA["triplet"], seeds=2, **given)
    assert set(seeds.spread) == {"mrr@10", "recall@1", "recall@10", "accuracy"}
    folds = cross_validate("embed", train=DATA["cosine+angle"], folds=3, metric="pearson", **given)
    assert folds.metric == "pearson"
    assert folds.scores["examples"] == 60
    curve = learning_curve("embed", train=DATA["mined"], halvings=1, **given)
    assert all(0 <= point["map@r"] <= 1 for point in curve.points)


def test_lora_learns_and_is_merged():
    base = tiny.model(heads=())
    run = trained(PAIRS, base=base, lora=2, learning_rate=1e-2)
    assert run.adapter is not None
    assert not np.allclose(run.model.embed(TEXTS), base.embed(TEXTS), atol=1e-4)


def test_packs_are_compared_by_the_classes_of_their_texts(monkeypatch):
    seen = []
    loss = MinedTriplets.loss
    monkeypatch.setattr(MinedTriplets, "loss", lambda own, step, module: seen.append(step) or loss(own, step, module))
    objective, stream, modules = lesson(tiny.model(heads=()), DATA["mined"], 10**6, loss="mined")
    (item,) = stream.next_step(0.0)
    objective.backward(modules, item, objective.counts(item))
    data = read_vectors(DATA["mined"])
    first = item[1]["embed.texts"][seen[0].starts[:-1]]
    assert ["xyz"[number] for number in seen[0].right.tolist()] == [data.labels[place] for place in first]


# -- what is refused


@pytest.mark.parametrize(
    ("loss", "data", "told"),
    [
        ("triplet", PAIRS, r"the loss triplet needs triplets: .*, but the list holds pairs of texts that belong"),
        ("cosine", PAIRS, "the loss cosine needs pairs of texts with a score each"),
        ("mined", PAIRS, "needs single texts with a class each"),
        ("contrastive", DATA["cosine+angle"], "needs pairs of texts labelled 1"),
        ("softmax", DATA["cosine+angle"], "learns classes of pairs, but the list has 6 different scores"),
        ("distil", PAIRS, "learns from another model: name it with --teacher"),
    ],
)
def test_data_that_a_loss_cannot_learn_from_are_refused_in_one_sentence(loss, data, told):
    with pytest.raises(BothwaysError, match=told):
        trained(data, loss=loss)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dims": (4096,)}, "dims are fewer than the"),
        ({"pooling": "meen"}, "did you mean"),
        ({"truncation": "window"}, "not from windows"),
        ({"r_drop": 1.0}, "r_drop compares guesses"),
        ({"metric": "spearman"}, "not measured by 'spearman'"),
        ({"margin": 0.0}, "margin must be above 0"),
    ],
)
def test_settings_that_do_not_do_are_refused(settings, told):
    with pytest.raises(BothwaysError, match=told):
        trained(PAIRS, **settings)


def test_a_budget_stands_beside_every_step():
    _, stream, _ = lesson(tiny.model(heads=()), DATA["triplet"], 123, loss="triplet")
    for batch, targets in stream.next_step(0.0):
        assert batch.tokens <= 123
        assert int(targets[BUDGET]) == 123


def test_labels_that_say_nothing_of_belonging_are_told_before_training():
    rows = [{"text_a": a, "text_b": TEXTS[n * 3 % 60], "label": "AB"[n % 2]} for n, a in enumerate(TEXTS)]
    with pytest.raises(BothwaysError, match=r"has the label '.', which does not say .* pairs with scores: --dev"):
        trained(rows, loss="softmax")
    assert "spearman" in trained(rows, loss="softmax", dev=DATA["cosine+angle"]).scores


def test_a_column_that_may_hold_second_texts_is_not_left_out_in_silence():
    rows = [{"question": "Who was it?", "duplicate": "Which person was it?"}]
    with pytest.raises(BothwaysError, match="if duplicate holds what belongs to question, say --text-pair duplicate"):
        Embed().read(rows)
    assert Embed(text="question").read(rows).form == "texts"
    assert Embed(text="question", text_pair="duplicate").read(rows).form == "pairs"
