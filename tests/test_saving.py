"""Our weights go out whole or not at all, as others can read them."""

import resource
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.run import files, folder, weights
from bothways.run.folder import read_folder, write_folder
from same_outputs import assert_same_outputs


@pytest.fixture
def path(tmp_path):
    return tiny.folder(tmp_path / "model")


def test_a_tied_tensor_is_stored_once(path):
    names = load_file(path / "model.safetensors").keys()
    assert "bert.embeddings.word_embeddings.weight" in names
    assert not [name for name in names if "decoder" in name]


def test_a_head_that_no_published_class_has_is_kept_beside(tmp_path):
    saved = tiny.saved(("classify",), hidden="gelu")
    sentence = write_folder(saved, tmp_path / "model")
    assert sentence == "transformers opens model as BertModel; the head classify is known to bothways only"
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "classif" in name]
    assert set(load_file(tmp_path / "model" / "heads.safetensors")) == {
        "classify.hidden.weight", "classify.hidden.bias", "classify.output.weight", "classify.output.bias"
    }  # fmt: skip
    found = read_folder(tmp_path / "model")
    assert found.head_configs == saved.head_configs
    for name, value in saved.heads["classify"].state_dict().items():
        assert torch.equal(value, found.heads["classify"].state_dict()[name])


def test_what_is_read_is_ready_to_answer(path):
    saved = read_folder(path)
    assert not any(part.training for whole in (saved.encoder, *saved.heads.values()) for part in whole.modules())


def test_all_heads_at_once_are_kept(tmp_path):
    sentence = write_folder(tiny.saved(("classify", "mlm", "nsp")), tmp_path / "model")
    assert sentence == "transformers opens model as BertForPreTraining; the head classify is known to bothways only"
    assert list(read_folder(tmp_path / "model").heads) == ["classify", "mlm", "nsp"]


def test_a_folder_that_is_there_is_not_touched_unless_told(path):
    before = content(path)
    saved = tiny.saved(seed=9)
    with pytest.raises(BothwaysError, match=f"{path} exists already; choose another folder or --overwrite"):
        write_folder(saved, path)
    assert content(path) == before
    write_folder(saved, path, overwrite=True)
    assert_same_outputs(read_folder(path), saved)
    assert siblings(path) == {path.name}


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(BothwaysError, match="photos holds something else than a model"):
        write_folder(tiny.saved(), tmp_path / "photos", overwrite=True)
    assert content(tmp_path / "photos") == {"cat.jpg": b"cat"}


def test_the_folder_of_the_user_is_as_safe_under_its_short_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    model = bw.load(tiny.folder(tmp_path / "base"))
    for save in (model.save, model.export):
        with pytest.raises(BothwaysError, match="photos holds something else than a"):
            save("~/photos", overwrite=True)
    assert content(tmp_path / "photos") == {"cat.jpg": b"cat"}
    model.save("~/saved")
    rows = [
        {"text": f"the river {n}", "label": ("a", "b\ud83d")[n % 2]} for n in range(20)
    ]  # half a pair of surrogates
    bw.finetune("classify", base="~/saved", train=rows, out="~/run", steps=1, report=False)
    assert not (tmp_path / "~").exists()
    assert (tmp_path / "run" / "run.json").is_file()
    assert bw.load("~/run").labels[0] == "a"


def test_an_empty_folder_may_be_filled_and_parents_are_made(tmp_path):
    (tmp_path / "empty").mkdir()
    write_folder(tiny.saved(()), tmp_path / "empty")
    write_folder(tiny.saved(()), tmp_path / "a" / "b" / "c")
    assert read_folder(tmp_path / "a" / "b" / "c").tokenizer.size == read_folder(tmp_path / "empty").tokenizer.size


def content(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def siblings(path):
    return {file.name for file in path.parent.iterdir()}


def no_space(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["weights", "config", "flush", "rename"])
def test_a_full_disk_leaves_nothing_half_written(path, where, monkeypatch):
    """The new folder does not appear, the old one stays as it was, and the user reads one sentence."""
    before = content(path)
    if where == "weights":
        monkeypatch.setattr("safetensors.torch.save_file", no_space)
    elif where == "config":
        monkeypatch.setattr(folder, "write_json", no_space)
    elif where == "flush":
        monkeypatch.setattr(files, "sync", no_space)
    else:
        replace = Path.replace  # of folders only: the tokenizer's files are put in their places the same way
        monkeypatch.setattr(Path, "replace", lambda a, b: no_space() if a.is_dir() else replace(a, b))
    for target in (path, path.with_name("fresh")):
        message = f"cannot save the model in {target}: No space left on device; nothing was changed"
        with pytest.raises(BothwaysError, match=message):
            write_folder(tiny.saved(seed=9), target, overwrite=True)
        assert siblings(path) == {path.name}
        assert content(path) == before


def test_a_real_limit_on_file_size_is_told_like_a_full_disk(path):
    """What the safetensors library reports when the system refuses to write."""
    before = content(path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(BothwaysError, match=r"cannot save the model in .*File too large.*nothing was changed"):
            write_folder(tiny.saved(seed=9), path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert content(path) == before
    assert siblings(path) == {path.name}


def test_an_interruption_leaves_nothing_half_written(path, monkeypatch):
    before = content(path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write_safetensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tiny.saved(seed=9), path, overwrite=True)
    assert content(path) == before
    assert siblings(path) == {path.name}


def test_leftovers_of_a_killed_save_are_cleared_away(path):
    for name in (".model.tmp", ".model.old"):
        path.with_name(name).mkdir()
        (path.with_name(name) / "half").write_text("x")
    write_folder(tiny.saved(seed=9), path, overwrite=True)
    assert siblings(path) == {path.name}
    assert "half" not in content(path)


@pytest.mark.parametrize("then", ["opened", "saved", "opened as a run"])
def test_a_kill_while_a_model_is_replaced_loses_nothing(path, then, monkeypatch):
    """Between the two renames there is no folder of that name; what stood there is brought back."""
    before = content(path)
    path.rename(path.with_name(".model.old"))
    path.with_name(".model.tmp").mkdir()
    if then == "saved":
        with pytest.raises(BothwaysError, match="exists already"):
            write_folder(tiny.saved(seed=9), path)
    else:
        bw.load(path if then == "opened" else path.parent)
    assert content(path) == before
    assert ".model.old" not in siblings(path)


def test_weights_are_written_from_any_layout(tmp_path):
    """Views and transposed tensors come back as they were."""
    table = torch.arange(12.0).view(3, 4)
    weights.write_safetensors({"a": table.T, "b": table[1:]}, tmp_path / "x.safetensors")
    found = weights.read_safetensors(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], table.T)
    assert torch.equal(found["b"], table[1:])


def test_a_composition_that_no_published_class_computes_is_kept_and_said(tmp_path):
    """Blocks shared by layers are ALBERT's; in BERT's config.json there is no word for them."""
    model = tiny.saved(("mlm", "classify"), blocks=1)
    assert "bothways alone opens it" in write_folder(model, tmp_path / "model")
    found = read_folder(tmp_path / "model")
    assert found.encoder.config == model.encoder.config
    assert len(found.encoder.stack.blocks) == 1
    assert_same_outputs(found, model)
    with pytest.raises((ValueError, KeyError)):
        transformers.AutoModel.from_pretrained(tmp_path / "model")
