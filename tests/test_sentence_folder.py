"""Folders of sentence-transformers open in every layout, and how texts become vectors is kept."""

import json

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.build import build_head
from bothways.model.config import HeadConfig
from bothways.run.folder import read_folder, write_folder
from bothways.run.model import load
from bothways.run.pooling import POOLINGS
from bothways.run.sentence_folder import SentenceRecipe
from bothways.run.similarity import paired
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer


def test_the_early_layout_of_sentence_transformers_opens(tmp_path):
    """The encoder in a folder of its own, 0_BERT, and nothing beside modules.json at the top."""
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("cls", True, stated=True), max_length=33)
    expected = load(path).embed("the river")
    (path / "0_BERT").mkdir()
    for file in path.iterdir():
        if file.is_file() and file.name != "modules.json":
            file.rename(path / "0_BERT" / file.name)
    (path / "0_BERT" / "bothways.json").unlink()
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["path"] = "0_BERT"
    (path / "modules.json").write_text(json.dumps(modules))
    model = load(path)
    assert np.array_equal(model.embed("the river"), expected)
    assert model.max_length == 33


@pytest.mark.parametrize("pooling", [*POOLINGS, "cls+mean", "mean+cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_recipe_for_vectors_is_kept(tmp_path, pooling, normalize):
    recipe = SentenceRecipe(pooling, normalize, stated=True)
    path = tiny.folder(tmp_path / "model", heads=(), recipe=recipe, max_length=20)
    saved = read_folder(path)
    assert saved.sentence == recipe
    assert saved.max_length == 20


@pytest.mark.parametrize("uncased", [False, True])
def test_texts_become_lower_case_where_the_folder_says_so(tmp_path, uncased):
    """As sentence-transformers has it: whatever the tokenizer does, and accents stay."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    saved = tiny.saved((), recipe=SentenceRecipe("mean", False, stated=True), max_length=33)
    letters = Normalization(lowercase=uncased)
    saved.tokenizer = Tokenizer.from_vocabulary(saved.tokenizer.tokens, letters)
    write_folder(saved, tmp_path / "model")
    said = tmp_path / "model" / "sentence_bert_config.json"
    text, plain = "The River was RED, Übermorgen É", "the river was red, übermorgen é"
    differs = not np.array_equal(load(tmp_path / "model").embed(text), load(tmp_path / "model").embed(plain))
    assert differs != uncased
    said.write_text(json.dumps(json.loads(said.read_text()) | {"do_lower_case": True}))
    model = load(tmp_path / "model")
    assert np.array_equal(model.embed(text), model.embed(plain))
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert np.abs(model.embed(text) - theirs.encode(text)).max() < 1e-5
    model.save(tmp_path / "again")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "again"), device="cpu")
    assert np.array_equal(load(tmp_path / "again").embed(text), model.embed(text))
    assert np.abs(model.embed(text) - theirs.encode(text)).max() < 1e-5
    ((river, _), *_) = [place for place in model.tokenizer.encode(text, offsets=True).offsets.tolist() if place[1] > 4]
    assert text[river:].startswith("River")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.LSTM", "path": "1"}], "the module LSTM"),
        ("modules.json", [{"type": "x.Pooling", "path": "1"}, {"type": "x.Transformer", "path": ""}], "only the order"),
        (
            "modules.json",
            [{"type": "x.Dense", "path": "1"}, {"type": "x.Dense", "path": "2"}],
            "the module Dense twice",
        ),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "default prompt 'query', which is not"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "cosin"}, "no similarity 'cosin'.*mean 'cosine'"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False}, "leaves prompts out"),
        ("modules.json", {"no": "list"}, "is not a list of modules"),
        ("modules.json", [{"type": "x.Transformer", "path": ".."}], "names a folder outside its own"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "the pooling median; there are cls, max"),
        ("1_Pooling/config.json", {"pooling_mode_median": True}, "the pooling pooling_mode_median; there are"),
    ],
)
def test_a_recipe_that_is_not_supported_is_refused(tmp_path, file, content, message):
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("cls", stated=True))
    (path / file).write_text(json.dumps(content))
    with pytest.raises(BothwaysError, match=message):
        read_folder(path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "a add_special_tokens of its own for texts"),
        ({"processing_kwargs": {"common": {"truncation": False}}}, "a truncation of its own"),
        ({"query_length": 8}, "a query_length of its own"),
        ({"module_output_name": "sentence_embedding"}, "the module_output_name 'sentence_embedding', which is not"),
        ({"transformer_task": "fill-mask"}, "the transformer_task 'fill-mask'.*; 'feature-extraction' is"),
        ({"modality_config": {"image": {"method": "forward"}}}, "the method None"),
        (
            {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
            "the method_output_name 'pooler_output'.*; 'last_hidden_state' is",
        ),
    ],
)
def test_texts_that_would_be_read_in_another_way_are_refused(tmp_path, said, message):
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("cls", stated=True))
    (path / "sentence_bert_config.json").write_text(json.dumps(said))
    with pytest.raises(BothwaysError, match=message):
        read_folder(path)


def test_a_limit_in_the_settings_of_calling_is_heeded(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("mean", stated=True), max_length=20)
    (path / "bothways.json").unlink()
    calling = {"text": {"max_length": 6, "truncation": True, "padding": True}, "common": {"return_tensors": "pt"}}
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "processing_kwargs": calling}))
    theirs = sentence_transformers.SentenceTransformer(str(path), device="cpu").encode(TEXTS[0] * 3)
    model = load(path)
    assert model.max_length == 6
    with pytest.warns(BothwaysWarning, match="longer than 6"):
        assert np.abs(model.embed(TEXTS[0] * 3) - theirs).max() < 1e-5


@pytest.mark.parametrize(("said", "limit"), [(7, 7), (10**30, None), (None, None)])
@pytest.mark.parametrize("file", [True, False])
def test_without_a_limit_of_its_own_it_has_the_tokenizer_s(tmp_path, said, limit, file):
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("cls", stated=True))
    (path / "bothways.json").unlink()
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None}))
    if not file:
        (path / "sentence_bert_config.json").unlink()
    settings = json.loads((path / "tokenizer_config.json").read_text()) | {"model_max_length": said}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_folder(path).max_length == limit
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": "256"}))
    with pytest.raises(BothwaysError, match="texts have '256' tokens at most"):
        read_folder(path)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"truncate_dim": 8}, "truncate_dim = 8, but vectors are given whole"),
        ({"max_active_dims": 3}, "max_active_dims = 3, but all words"),
        (
            {"model_type": "CrossEncoder", "prompts": {"a": "b"}, "default_prompt_name": "a"},
            "default_prompt_name = 'a', but nothing is put before",
        ),
        ({"prompts": {"a": "b"}, "default_prompt_name": "a"}, None),
    ],
)
def test_what_is_done_only_for_those_who_ask_is_told(tmp_path, recwarn, stated, said):
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("cls", stated=True))
    (path / "config_sentence_transformers.json").write_text(json.dumps(stated))
    load(path)
    found = [str(one.message) for one in recwarn]
    assert not found if said is None else said in found[0]


TEXTS = ["the river", *tiny.sentences(7, longest=12)]
PROMPTS = {"query": "what is ", "document": ""}


def with_dense(recipe, **settings):
    """A random model with a dense layer behind its pooling."""
    saved = tiny.saved((), recipe=recipe, max_length=20)
    inputs = 48 * len(recipe.pooling.split("+"))
    head = HeadConfig(kind="dense", inputs=inputs, outputs=16, **settings)
    saved.head_configs["dense"] = head
    saved.heads["dense"] = tiny.randomise(build_head(head, saved.encoder.config), 5, 0.3).eval()
    return saved


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "pooling",
    [*(way for way in POOLINGS if way != "attention"), "cls+mean", "mean+last+mean_sqrt", "weighted_mean+max"],
)
def test_vectors_are_those_of_sentence_transformers_both_ways(tmp_path, pooling, normalize):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    recipe = SentenceRecipe(pooling, normalize, stated=True, prompts=PROMPTS, default_prompt="query", similarity="dot")
    path = tiny.folder(tmp_path / "model", heads=(), recipe=recipe, max_length=20)
    model = load(path)
    theirs = sentence_transformers.SentenceTransformer(str(path), device="cpu")
    assert np.abs(model.embed(TEXTS) - theirs.encode(TEXTS)).max() < 1e-5
    assert np.abs(model.embed(TEXTS, prompt="document") - theirs.encode_document(TEXTS)).max() < 1e-5
    assert not np.allclose(model.embed(TEXTS), model.embed(TEXTS, prompt="document"))
    assert theirs.similarity_fn_name == "dot"
    theirs.save(str(tmp_path / "theirs"))
    again = load(tmp_path / "theirs")
    assert again.sentence == recipe
    assert again.max_length == 20
    assert np.array_equal(again.embed(TEXTS), model.embed(TEXTS))


@pytest.mark.parametrize("activation", ["none", "tanh", "relu", "gelu", "silu"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_is_kept_both_ways(tmp_path, activation, bias):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    recipe = SentenceRecipe("mean+cls", True, stated=True)
    write_folder(with_dense(recipe, hidden=activation, bias=bias), tmp_path / "model")
    model = load(tmp_path / "model")
    vectors = model.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), model.vector_width) == (len(TEXTS), 16)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert np.abs(vectors - theirs.encode(TEXTS)).max() < 1e-5
    theirs.save(str(tmp_path / "theirs"))
    again = load(tmp_path / "theirs")
    assert np.array_equal(again.embed(TEXTS), vectors)
    again.save(tmp_path / "again")
    assert np.array_equal(load(tmp_path / "again").embed(TEXTS), vectors)
    assert again.embed(TEXTS, "cls").shape == (len(TEXTS), 48), "another pooling gives the pooled vectors"


def test_every_engine_has_the_dense_layer(tmp_path):
    write_folder(with_dense(SentenceRecipe("cls+mean", stated=True), hidden="tanh"), tmp_path / "model")
    reference = load(tmp_path / "model", engine="reference")
    packed = load(tmp_path / "model", engine="packed")
    assert np.abs(packed.embed(TEXTS) - reference.embed(TEXTS)).max() < 1e-5


def test_a_dense_layer_that_cannot_be_read_is_refused(tmp_path):
    write_folder(with_dense(SentenceRecipe("mean", stated=True)), tmp_path / "model")
    path = tmp_path / "model" / "2_Dense" / "config.json"
    whole = json.loads(path.read_text())
    for change, message in (
        ({"activation_function": "torch.nn.Softmax"}, r"the activation torch.nn.Softmax; there are .*Tanh"),
        ({"module_input_name": "token_embeddings"}, "reads token_embeddings"),
        ({"in_features": None}, "does not describe a dense layer"),
    ):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(BothwaysError, match=message):
            read_folder(tmp_path / "model")


def test_attention_is_a_pooling_that_others_refuse(tmp_path):
    """Rather than taking the mean in silence."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    recipe = SentenceRecipe("attention", stated=True)
    path = tiny.folder(tmp_path / "model", heads=(), recipe=recipe)
    assert read_folder(path).sentence == recipe
    with pytest.raises(ValueError, match="attention"):
        sentence_transformers.SentenceTransformer(str(path), device="cpu")


def test_prompts_are_names_or_texts():
    plain = tiny.model(())
    queries = tiny.model((), recipe=SentenceRecipe(stated=True, prompts={"query": "what ", "passage": "the "}))
    for asked, text in (("query", "what river"), ("document", "the river"), ("our ", "our river"), (None, "river")):
        assert np.array_equal(queries.embed("river", prompt=asked), plain.embed(text))
    assert np.array_equal(plain.embed("river", prompt="query"), plain.embed("river")), "no prompt is an empty one"
    assert np.array_equal(next(queries.embed(iter(["river"]), prompt="query")), plain.embed("what river"))
    with pytest.raises(BothwaysError, match=r"no prompt named 'qery'; there are .*did you mean 'query'"):
        queries.embed("river", prompt="qery")


def test_the_first_values_alone_are_scaled_anew():
    model = tiny.model((), recipe=SentenceRecipe(normalize=True, stated=True))
    whole, some = model.embed(TEXTS), model.embed(TEXTS, dims=8)
    assert some.shape == (len(TEXTS), 8)
    assert np.allclose(some, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(BothwaysError, match="dims must be 1 to 48"):
        model.embed(TEXTS, dims=49)


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_is_the_models_own(measure):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = tiny.model((), recipe=SentenceRecipe(stated=True, similarity=measure))
    vectors = model.embed(TEXTS)
    theirs = sentence_transformers.SimilarityFunction.to_similarity_fn(measure)(vectors, vectors[:3]).numpy()
    assert np.abs(model.similarity(vectors, vectors[:3]) - theirs).max() < 2e-3
    pairs = sentence_transformers.SimilarityFunction.to_similarity_pairwise_fn(measure)(
        vectors[1:], vectors[:-1]
    ).numpy()
    assert np.abs(paired(vectors[1:], vectors[:-1], measure) - pairs).max() < 1e-4
    with pytest.raises(BothwaysError, match="vectors of 48 values cannot be compared with vectors of 3"):
        model.similarity(vectors, vectors[:, :3])
