"""Late interaction: a vector a token, the same scores in sentence-transformers, learned among the texts of a step."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.tasks.late import Late
from bothways.model.heads.late import maxsim
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer
from learner_tasks import assert_resumes_exactly, modules
from test_sparse_vectors import rows

SETTINGS = {"max_length": 32, "query_length": 16, "width": 24, "learning_rate": 3e-3, "dropout": 0.0}
SETTINGS |= {"report": False, "device": "cpu", "precision": "float32"}
QUERIES, TEXTS = ["old house", "a river music, book"], ["the house music. said", "river (book)", "winter garden!"]


def base(markers=True):
    """A tiny encoder whose vocabulary has the marks of ColBERT, or not."""
    if not markers:
        return tiny.model(["mlm"], max_length=64)
    words = tiny.tokenizer()
    vocabulary = [*words.tokens, "[unused0]", "[unused1]"]
    made = Tokenizer.from_vocabulary(vocabulary, Normalization())
    saved = tiny.saved(["mlm"], embeddings__vocab_size=made.size, max_length=64)
    saved.tokenizer = made
    return bw.Model(saved, device="cpu", name="tiny")


def scores(model):
    return model.maxsim(model.token_vectors(QUERIES, query=True), model.token_vectors(TEXTS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("late") / "run"
    return bw.finetune("late", base=base(), train=rows(160), dev=rows(40, 1), epochs=4, out=out, **SETTINGS), out


def test_what_belongs_together_is_found_by_its_words(trained):
    found, out = trained
    assert found.scores["mrr@10"] > 0.8
    again = bw.load(out)
    assert again.task == "late"
    assert scores(again) == pytest.approx(scores(found.model), abs=1e-5)
    row = rows(1, 2)[0]
    assert again.rerank(row["query"], [row["negative"], row["positive"]])[0].place == 1
    assert again.score_pairs(QUERIES, TEXTS[:2]) == pytest.approx(np.diag(scores(again)[:, :2]), abs=1e-4)


@pytest.mark.parametrize("task", ["late", "sparse", "embed"])
def test_a_text_that_is_too_long_is_told_with_its_row_and_with_ways_that_the_task_has(task, tmp_path):
    data = rows(20)
    data[6]["positive"] = "stone " * 90
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    start = bw.Model(tiny.saved(["mlm"], max_length=64), device="cpu", name="tiny")
    ways = r"rows\.jsonl, line 7 has 90 tokens where 30 fit.* or the truncation warn, head or head_tail$"
    given = {name: SETTINGS[name] for name in ("max_length", "report", "device", "precision")}
    with pytest.raises(BothwaysError, match=ways):
        bw.finetune(task, base=start, train=path, dev=rows(5, 1), truncation="error", **given)


@pytest.mark.parametrize("expand", ["none", "seen", "unseen"])
def test_the_scores_are_those_of_a_multi_vector_encoder_both_ways(trained, tmp_path, expand):
    theirs = pytest.importorskip("sentence_transformers").MultiVectorEncoder
    model = trained[0].model.copy()
    model.decoding["late"] |= {"expand": expand}
    assert model.decoding["late"]["query_marker"] == "[unused0]"
    model.save(tmp_path / "ours")
    wanted = scores(model)
    other = theirs(str(tmp_path / "ours"), device="cpu")
    told = other.similarity(other.encode_query(QUERIES), other.encode_document(TEXTS)).numpy()
    assert told == pytest.approx(wanted, abs=1e-4)
    other.save(str(tmp_path / "theirs"))
    assert scores(bw.load(tmp_path / "theirs")) == pytest.approx(wanted, abs=1e-4)


def test_the_first_layout_is_read(trained, tmp_path):
    model = trained[0].model.copy()
    model.decoding["late"] |= {"expand": "unseen"}
    model.save(tmp_path / "old")
    tensors = load_file(tmp_path / "old" / "model.safetensors")
    tensors["linear.weight"] = load_file(tmp_path / "old" / "1_Dense" / "model.safetensors")["linear.weight"]
    save_file(tensors, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    for name in ("modules.json", "bothways.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (tmp_path / "old" / name).unlink()
    said = {"query_maxlen": 16, "doc_maxlen": 32, "mask_punctuation": True}
    (tmp_path / "old" / "artifact.metadata").write_text(json.dumps(said))
    again = bw.load(tmp_path / "old")
    assert again.max_length == 32
    assert scores(again) == pytest.approx(scores(model), abs=1e-5)


@pytest.mark.parametrize(
    ("place", "said", "message"),
    [
        ("1_Dense", {"use_residual": True}, "a residual connection, which is not supported"),
        ("1_Dense", {"activation_function": "torch.nn.Tanh"}, "an activation or a residual"),
        ("2_Mask", {"skiplist_words": ["."], "skiplist_tasks": ["query", "document"]}, "tokens of queries too"),
        ("2_Mask", {"keep_only_token_ids": [3]}, "or all but a few"),
        ("3_Normalize", {"module_input_name": "sentence_embedding"}, "names no Normalize of token_embeddings"),
        ("", {"processing_kwargs": {"text": {"max_length": 8}}}, "asks for a max_length of its own for texts"),
        ("", {"module_output_name": "sentence_embedding"}, "the module_output_name 'sentence_embedding'"),
        (None, ["Transformer", "Dense", "MultiVectorMask"], "names no Normalize of token_embeddings"),
        (None, ["Transformer", "Normalize", "Dense"], "only the order Transformer, Dense, Normalize"),
        (None, ["Transformer", "Dense", "Normalize", "HierarchicalTokenPooling"], "the module HierarchicalTokenPoo"),
        (None, ["Transformer"], "names no Dense"),
    ],
)
def test_what_would_give_other_scores_is_refused(trained, tmp_path, place, said, message):
    path = as_theirs(trained[0].model, tmp_path / "model")
    assert scores(bw.load(path)) == pytest.approx(scores(trained[0].model), abs=1e-5)
    if place is None:
        write_modules(path, said)
    else:
        file = path / place / ("config.json" if place else "sentence_bert_config.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | said))
    with pytest.raises(BothwaysError, match=message):
        bw.load(path)


def as_theirs(model, path):
    """A folder in the layout of `MultiVectorEncoder`."""
    recipe = model.decoding["late"]
    model.save(path)
    (path / "bothways.json").unlink()
    length, prompts = recipe["query_length"], {"query": recipe["query_marker"], "document": recipe["document_marker"]}
    for name, said in (
        ("config_sentence_transformers.json", {"model_type": "MultiVectorEncoder", "prompts": prompts}),
        (
            "sentence_bert_config.json",
            {"document_length": 32, "query_expansion": {"strategy": "fixed", "length": length, "attend": True}},
        ),
        ("2_Mask/config.json", {"skiplist_words": recipe["skip"]}),
        ("3_Normalize/config.json", {"module_input_name": "token_embeddings"}),
    ):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(said))
    return write_modules(path, ["Transformer", "Dense", "MultiVectorMask", "Normalize"])


def write_modules(path, kinds):
    places = {"Transformer": "", "Dense": "1_Dense", "MultiVectorMask": "2_Mask", "Normalize": "3_Normalize"}
    listed = [{"type": f"x.{kind}", "path": places.get(kind, "4")} for kind in kinds]
    (path / "modules.json").write_text(json.dumps(listed))
    return path


def test_queries_are_filled_up_and_punctuation_has_no_vector(trained):
    model = trained[0].model
    whole = model.token_vectors("old house", query=True)
    assert whole.shape == (16, 24)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    plain, marked = (model.token_vectors(text) for text in ("the old house", "the, old (house)!"))
    assert len(plain) == len(marked) == 6  # the mark, [CLS] and [SEP] count
    assert model.token_vectors([]) == []


def test_a_token_that_is_not_seen_changes_no_other(trained):
    from bothways.model.heads.late import unseen_states

    model = trained[0].model
    batch = model.encode(["old house red river"]).batch(np.arange(1))
    seen = np.array([True] * 3 + [False] * (batch.tokens - 3))
    with torch.no_grad():
        one = unseen_states(model.encoder, batch, seen).sequence[:3]
        changed = batch.token_ids.copy()
        changed[3:] = 7
        other = unseen_states(model.encoder, batch.with_tokens(changed), seen).sequence[:3]
        alone = model.encoder(bw.pack(batch.token_ids[None, :3])).sequence
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, alone, atol=1e-5, rtol=1e-4)


def test_products_in_parts_are_those_of_one_by_one(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    lengths = [3, 5], [4, 1, 6]
    query, text = (torch.randn(sum(own), 8, generator=draw, requires_grad=True) for own in lengths)
    found = maxsim(query, lengths[0], text, lengths[1])
    wanted = [
        [float((q @ t.T).max(1).values.sum()) for t in text.detach().split(lengths[1])]
        for q in query.detach().split(lengths[0])
    ]
    torch.testing.assert_close(found.detach(), torch.tensor(wanted))
    found.sum().backward()
    whole = query.grad.clone()
    query.grad = None
    monkeypatch.setattr("bothways.model.heads.late._PRODUCTS", 20)
    maxsim(query, lengths[0], text, lengths[1]).sum().backward()
    torch.testing.assert_close(query.grad, whole)


@pytest.mark.parametrize("expand", ["seen", "unseen"])
def test_a_step_in_parts_gives_the_gradient_of_one_pass(expand):
    start, task = base(), Late(expand=expand, width=24, query_length=12)
    data = task.read(rows(8))
    made = bw.Model.random(start.config, start.tokenizer, task.heads(start, data), device="cpu")
    made.max_length = 32
    task.begin(made, data)
    learned = []
    for budget in (10**9, 70):
        model = made.copy()
        model.encoder.eval()
        objective = task.objective(model, data)
        stream = task.stream(
            task.examples(model, data), objective.prepare, batch_size=8, micro_tokens=budget, epochs=1, seed=0
        )
        (item,) = stream.next_step(0.5)
        sums = objective.backward(modules(model), item, objective.counts(item))
        learned.append((sums, [each.grad for each in modules(model).parameters() if each.grad is not None]))
    assert learned[0][0] == pytest.approx(learned[1][0], rel=1e-4)
    for one, other in zip(learned[0][1], learned[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_it_learns_on_with_what_it_knows(trained):
    found, out = trained
    own = SETTINGS | {"learning_rate": 1e-9, "expand": "none"}
    again = bw.finetune("late", base=out, train=rows(20), dev=rows(10, 1), steps=1, **own).model
    assert again.decoding["late"]["expand"] == "none"
    assert again.decoding["late"]["query_marker"] == "[unused0]"
    one, other = (model.token_vectors(TEXTS[0]) for model in (again, found.model))
    assert one == pytest.approx(other, abs=1e-3)


def test_without_marks_in_the_vocabulary_there_are_none():
    model = bw.finetune("late", base=base(False), train=rows(20), dev=rows(10, 1), steps=1, **SETTINGS).model
    assert model.decoding["late"]["query_marker"] == ""


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path):
    settings = {"max_length": 32, "dropout": 0.1, "width": 16, "query_length": 12}
    assert_resumes_exactly(tmp_path, "late", rows(40), settings, base=base())


def test_what_cannot_be_is_told():
    with pytest.raises(BothwaysError, match=r"late needs pairs of texts that belong together.*single texts"):
        Late().read([{"text": "a"}, {"text": "b"}])
    with pytest.raises(BothwaysError, match="expand must be none or seen or unseen, not 'sen'"):
        Late(expand="sen")
    with pytest.raises(BothwaysError, match="token_vectors needs the head 'late'"):
        tiny.model(["mlm"]).token_vectors("a")
