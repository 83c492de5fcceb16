"""A local path never touches the network; a hub id does only when it may."""

import json
import socket
import sys
import types

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.run.hub import find, offline_wanted
from bothways.run.weights import read_safetensors

SWITCHES = ("BOTHWAYS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_network(monkeypatch):
    """Any socket fails, and so does importing the hub's library."""

    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A library in the place of the hub's, which remembers how it was called and gives the folders in `answers`."""
    fake = types.ModuleType("huggingface_hub")
    fake.calls, fake.answers = [], []

    def snapshot_download(name, **settings):
        fake.calls.append((name, settings))
        answer = fake.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    fake.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.mark.usefixtures("no_network")
def test_a_local_model_needs_no_network(tmp_path, monkeypatch):
    tiny.folder(tmp_path / "model", heads=("mlm", "nsp", "classify"))
    monkeypatch.chdir(tmp_path)
    for source in ("model", "./model", str(tmp_path / "model"), tmp_path / "model"):
        model = bw.load(source)
    assert model.embed(["the river", "a stone"]).shape == (2, 48)
    assert len(model.fill_mask("the [MASK] river")) == 5
    assert model.classify("the river").label in tiny.LABELS
    model.save(tmp_path / "again")
    again = bw.load(tmp_path / "again")
    assert np.array_equal(again.embed("the river"), model.embed("the river"))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "name", ["./modle", "../modle", "models/modle", "/nowhere/modle", "~/nowhere/modle", "a/b/c", ".hidden", "x y", ""]
)
def test_a_path_that_does_not_exist_is_one_sentence(name, tmp_path, monkeypatch):
    """`models/modle` has the form of a hub id too, but there is a folder `models` here."""
    (tmp_path / "models" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if name == "":
        assert find(name) == find(".")
        return
    with pytest.raises(BothwaysError, match="there is no model folder"):
        find(name)


@pytest.mark.usefixtures("no_network")
def test_the_closest_name_beside_it_is_offered(tmp_path, monkeypatch):
    (tmp_path / "models" / "reviews-bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BothwaysError, match=r"no model folder models/review-bert; did you mean 'reviews-bert'\?"):
        find("models/review-bert")


def test_a_path_object_is_never_a_hub_id(hub, tmp_path):
    with pytest.raises(BothwaysError, match="there is no model folder google-bert/bert-base-uncased"):
        find(tmp_path.relative_to(tmp_path) / "google-bert/bert-base-uncased")
    assert not hub.calls


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BothwaysError, match=r"model\.safetensors is a file; a model is a folder"):
        bw.load(tmp_path / "model.safetensors")


def test_the_output_folder_of_a_run_opens(tmp_path):
    tiny.folder(tmp_path / "run" / "model")
    assert bw.load(tmp_path / "run").config.width == 48


@pytest.mark.usefixtures("no_network")
def test_without_the_hubs_library_the_sentence_says_what_to_install():
    with pytest.raises(BothwaysError, match=r"no folder bert-base-uncased; .*pip install 'bothways\[hub\]'"):
        find("bert-base-uncased")


def test_a_name_without_its_owner_is_looked_for_among_sentence_transformers_too(hub, tmp_path):
    hub.answers = [OSError("401 Client Error"), tiny.folder(tmp_path / "snapshot")]
    assert bw.load("all-MiniLM-L6-v2").config.width == 48
    assert [name for name, _ in hub.calls] == ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"]
    hub.answers = [OSError("of the first"), OSError("of the second")]
    with pytest.raises(BothwaysError, match="of the first"):
        bw.load("all-MiniLM-L7")
    hub.answers = [OSError("of the owner's")]
    with pytest.raises(BothwaysError, match="of the owner's"):
        bw.load("somebody/all-MiniLM-L6-v2")


@pytest.mark.parametrize("name", ["bert-base-uncased", "google-bert/bert-base-uncased"])
def test_a_hub_id_is_fetched_without_what_is_not_needed(name, hub, tmp_path):
    hub.answers = [tiny.folder(tmp_path / "snapshot")]
    assert bw.load(name).config.width == 48
    ((called, settings),) = hub.calls
    assert called == name
    assert settings["local_files_only"] is False
    wanted = settings["allow_patterns"]
    assert "*.safetensors" in wanted
    assert not [pattern for pattern in wanted if "bin" in pattern or "onnx" in pattern]


def test_weights_of_modules_that_are_only_old_files_are_fetched_too(hub, tmp_path):
    folder = tiny.folder(tmp_path / "snapshot")
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(listed))
    hub.answers = [folder] * 2
    find("owner/model")
    first, second = (settings["allow_patterns"] for _, settings in hub.calls)
    assert {"*.metadata", "*.json.gz"} <= set(first)
    assert set(second) - set(first) == {"2_Dense/pytorch_model*.bin"}


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["x" * 300, "~nobody_of_that_name/model"])
def test_a_name_that_nothing_can_have_is_one_sentence(name):
    with pytest.raises(BothwaysError, match=r"hub\]|does not know"):
        find(name)


@pytest.mark.parametrize("switch", [None, *SWITCHES])
def test_offline_by_argument_or_environment(switch, hub, tmp_path, monkeypatch):
    if switch:
        monkeypatch.setenv(switch, "1")
    hub.answers = [tiny.folder(tmp_path / "snapshot")]
    assert find("owner/model", offline=switch is None) == tmp_path / "snapshot"
    assert hub.calls[0][1]["local_files_only"] is True
    hub.answers = [FileNotFoundError("not in the cache")]
    with pytest.raises(BothwaysError, match="owner/model, and it was not downloaded before, and the offline switch"):
        find("owner/model", offline=switch is None)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False)])
def test_a_switch_may_be_off(value, offline, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert offline_wanted() is offline
    assert offline_wanted(offline=True)


def test_older_models_are_fetched_with_their_bin_file(hub, tmp_path):
    import torch

    path = tiny.folder(tmp_path / "snapshot")
    expected = bw.load(path).embed("the river")
    torch.save(read_safetensors(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    hub.answers = [path, path]
    assert np.array_equal(bw.load("owner/model").embed("the river"), expected)
    first, second = (settings["allow_patterns"] for _, settings in hub.calls)
    assert set(second) - set(first) == {"pytorch_model*.bin"}


def test_an_exported_folder_is_fetched_with_its_graph(hub, tmp_path):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "bothways.json").write_text('{"exported": {"to": "onnx"}}')
    hub.answers = [snapshot, snapshot]
    assert find("owner/model") == snapshot
    first, second = (settings["allow_patterns"] for _, settings in hub.calls)
    assert "model.onnx.data" in set(second) - set(first)


@pytest.mark.parametrize("error", [ConnectionError("no route\nto host"), ValueError("")])
def test_what_the_hub_says_becomes_one_sentence(error, hub):
    hub.answers = [error]
    with pytest.raises(BothwaysError, match=f"the hub did not give it .{type(error).__name__}") as caught:
        find("owner/model")
    assert "\n" not in str(caught.value)
