"""Folders of sentence-transformers open in every layout, and how texts become vectors is kept."""

import json

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.run.folder import read_folder, write_folder
from bothways.run.model import load
from bothways.run.sentence_folder import SentenceRecipe
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


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
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
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "1"}], "the module Dense"),
        ("modules.json", {"no": "list"}, "is not a list of modules"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, r"the pooling \['lasttoken'\]; one of mean, cls, max"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            r"the pooling \['mean', 'cls'\]; one of",
        ),
    ],
)
def test_a_recipe_that_is_not_supported_is_refused(tmp_path, file, content, message):
    path = tiny.folder(tmp_path / "model", heads=(), recipe=SentenceRecipe("cls", stated=True))
    (path / file).write_text(json.dumps(content))
    with pytest.raises(BothwaysError, match=message):
        read_folder(path)
