"""An exported folder answers as its model does, without torch; what does not fit is told in one sentence."""

import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.cli import main
from bothways.cli.comparing import texts_of
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.build import build_head
from bothways.model.config import HeadConfig
from bothways.run import compared, rounded_graph
from bothways.run import exported as exported_module
from bothways.run.bound import Bound
from bothways.run.check import compare_engines, real_texts
from bothways.run.engines.onnx import OnnxEngine
from bothways.run.engines.outputs import Parts
from bothways.run.engines.rectangles import RectangleEngine
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.exported import Exported
from bothways.run.exporting.export import write_graph
from bothways.run.exporting.kept import quantize_within
from bothways.run.folder import read_folder
from bothways.run.guard import Judge
from bothways.run.likeness import decisions_alike, vectors_alike
from bothways.run.model import Model
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.everyday import everyday_sentences

HEADS = ("mlm", "nsp", "classify", "tag", "answer", "choose")
TEXTS = tiny.sentences(40, longest=60)
TAGS = ("O", "B-place", "I-place")


@pytest.fixture(scope="module")
def model():
    """Every head that BERT has, a CRF, and settings that only `bothways.json` keeps."""
    saved = tiny.saved(HEADS, recipe=SentenceRecipe("max", normalize=True, stated=True), max_length=48, layers=1)
    saved.head_configs["tag"] = saved.head_configs["tag"].derive(labels=TAGS)
    crf = HeadConfig(kind="crf", labels=TAGS)
    saved.head_configs["crf"], saved.heads["crf"] = crf, tiny.randomise(build_head(crf, saved.encoder.config), 9)
    saved.heads["crf"].constrain(
        *(np.array(value, dtype=bool) for value in ([[1, 1, 0], [1, 1, 1], [1, 1, 1]], [1, 1, 0], [1, 1, 1]))
    )
    saved.task, saved.truncation = "tag", "head_tail"
    saved.decoding = {"answer": {"threshold": 0.1}, "tag": {"scheme": "bio"}}
    return Model(saved, device="cpu", name="tiny")


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    """The same model in every form that it is exported in."""
    made = tmp_path_factory.mktemp("exported")
    model.export(made / "onnx")
    model.export(made / "openvino", to="openvino", texts=TEXTS[:5])
    model.export(made / "int8", precision="int8", texts=TEXTS[:5], equal_decisions=0.5)
    return made


@pytest.fixture
def folder(folders, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(folders / "onnx", tmp_path / "model")
    return tmp_path / "model"


def spoil(folder, **changes):
    path = folder / "bothways.json"
    own = json.loads(path.read_text())
    own["exported"] |= changes
    path.write_text(json.dumps(own))
    return folder


def near(found, wanted):
    """Whether two answers are the same but for rounding: the same words, numbers that are near."""
    if isinstance(wanted, float | np.ndarray):
        return np.shape(found) == np.shape(wanted) and np.abs(np.asarray(found) - wanted).max(initial=0) < 1e-4
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(near(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(near, found, wanted))
    if hasattr(wanted, "__dataclass_fields__"):
        return type(found) is type(wanted) and near(vars(found), vars(wanted))
    return found == wanted


QUESTIONS = {
    "embed": lambda model: model.embed(TEXTS),
    "embed otherwise": lambda model: model.embed(TEXTS, "cls", normalize=False),
    "embed one": lambda model: model.embed(TEXTS[0]),
    "hidden": lambda model: model.hidden(TEXTS),
    "hidden, the last layer": lambda model: model.hidden(TEXTS, layers=[-1]),
    "classify": lambda model: model.classify(TEXTS),
    "tag": lambda model: model.tag(TEXTS),
    "answer": lambda model: model.answer(["which river"] * 9, TEXTS[:9], top=2),
    "choose": lambda model: model.choose("the river", TEXTS[:3]),
    "follows": lambda model: model.follows(TEXTS[:9], TEXTS[9:18]),
    "fill_mask": lambda model: model.fill_mask(["the [MASK] of the town", "a [MASK] or [MASK] house"], 3),
    "zero_shot": lambda model: model.zero_shot(TEXTS[:4], ["river", "music"], entailment="good"),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_every_question_has_the_same_answer(model, folders, to, question):
    ask = QUESTIONS[question]
    found, wanted = ask(bw.load(folders / to)), ask(model)
    assert near(found, wanted), (found, wanted)


def test_layers_before_the_last_are_not_in_a_graph(folders):
    with pytest.raises(BothwaysError, match="is exported and gives the last layer's hidden states alone"):
        bw.load(folders / "onnx").hidden(TEXTS, layers=0)


def test_a_warm_graph_is_open(folders, monkeypatch):
    model = bw.load(folders / "onnx").warm_up()
    monkeypatch.setattr("bothways.run.exported._engine_class", None)
    assert model.embed(["the river"]).shape == (1, model.vector_width)


def test_long_texts_are_read_in_windows_alike(model, folders, monkeypatch):
    opened, long = bw.load(folders / "onnx", truncation="window"), [" ".join(TEXTS), TEXTS[0]]
    monkeypatch.setattr(model, "truncation", "window")
    assert near(opened.embed(long), model.embed(long))
    assert near(opened.classify(long), model.classify(long))


def test_everything_that_is_known_of_the_model_comes_back(model, folders):
    opened = bw.load(folders / "onnx")
    assert isinstance(opened, Exported)
    assert opened.config == model.config
    assert opened.head_configs == model.head_configs
    assert opened.sentence == model.sentence
    assert (opened.max_length, opened.truncation, opened.task) == (48, "head_tail", "tag")
    assert opened.decoding == model.decoding
    assert opened.tokenizer.fingerprint == model.tokenizer.fingerprint


def test_the_folder_says_how_like_the_model_it_is(folders):
    said = json.loads((folders / "onnx/bothways.json").read_text())["exported"]["check"]
    assert said["texts"] == 128
    assert set(said) == {"texts", "tokens", "hidden", "vector", *HEADS}
    assert said["vector"]["worst_cosine"] > 0.999999
    assert {said[kind]["equal"] for kind in HEADS} == {1.0}
    rounded = json.loads((folders / "int8/bothways.json").read_text())["exported"]["check"]
    assert 0.99 < rounded["vector"]["worst_cosine"] < said["vector"]["worst_cosine"]


def test_eight_bits_answer_nearly_the_same_from_a_smaller_folder(model, folders):
    opened = bw.load(folders / "int8")
    assert opened.precision == opened.engine.precision == "int8"
    assert vectors_alike(opened.embed(TEXTS), model.embed(TEXTS)).worst_cosine > 0.99
    sizes = [sum(path.stat().st_size for path in (folders / name).glob("model.*")) for name in ("int8", "onnx")]
    assert sizes[0] < sizes[1]


def test_the_real_texts_have_all_lengths_and_half_of_them_are_everyday_sentences():
    texts = real_texts(512)
    assert texts == real_texts(512)
    counts = [len(text.split()) for text in texts]
    assert (min(counts), max(counts), len(texts)) == (1, 512, 128)
    assert set(everyday_sentences(64)) < set(texts)
    assert len(set(" ".join(texts).split())) > 500


def test_a_damaged_graph_is_noticed_before_a_folder_is_there(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "bothways.run.exporting.graph.PaddedOutput.pool", lambda output, way: output.sequence[:1] * 0 + 1
    )
    with pytest.raises(BothwaysError, match=r"does not compute what the model does \(worst cosine of vector"):
        model.export(tmp_path / "out", texts=TEXTS[:3])
    assert not list(tmp_path.iterdir())


def test_eight_bits_keep_the_layers_that_lose_most_or_are_refused(tmp_path):
    """One layer is spoilt: a single huge weight leaves no digits for the others of its row."""
    model = tiny.model((), layers=2)
    spoilt = model.encoder.stack.blocks[1].feed_forward.inner
    with torch.no_grad():
        spoilt.weight[:, 0] = 40.0
        spoilt.bias -= 40.0 * model.encoder.stack.blocks[1].attention_norm.bias[0]
    parts = Parts(model.encoder, model.heads, model.head_configs)
    write_graph(parts, model.sentence, tmp_path / "plain.onnx")

    def kept(worst_cosine):
        judge = Judge(model, ReferenceEngine(parts, "float32"), TEXTS, Bound(worst_cosine=worst_cosine))
        out = tmp_path / f"int8-{worst_cosine}"
        out.mkdir()
        found = quantize_within(judge, parts, tmp_path / "plain.onnx", out, reduce_range=False)
        alike = compare_engines(model, model.engine, OnnxEngine(out, 0, "int8"), TEXTS)["vector"]["worst_cosine"]
        assert alike >= worst_cosine
        return found, alike

    none, alike = kept(0.0)
    assert none == []
    some, better = kept(alike + 1e-6)
    assert some[0] == "encoder.stack.blocks.1.feed_forward.inner"
    assert better > alike
    with pytest.raises(
        BothwaysError, match=r"beyond the bound \(worst cosine 1.0.*blocks.1.feed_forward.inner loses most"
    ):
        kept(1.0)


# -- without torch


BLOCKED = """
import sys
for name in ("torch", "pyarrow", "rich", "typer", "onnx", "openvino"):
    sys.modules[name] = None
import bothways as bw
model = bw.load(sys.argv[1])
assert model.embed(["a red river"]).shape == (1, model.config.width)
print(model.classify("a red river").label, *model.tag("a red river").tags)
print(model.fill_mask("the [MASK] town", 1)[0].token)
"""


def test_an_exported_model_answers_where_there_is_no_torch(model, folders):
    done = subprocess.run([sys.executable, "-c", BLOCKED, folders / "onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tags, fill = model.tag("a red river").tags, model.fill_mask("the [MASK] town", 1)[0].token
    assert done.stdout.split() == [model.classify("a red river").label, *tags, fill]


def test_the_command_line_needs_no_torch_either(model, folders, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:5]))
    block = "import sys; sys.modules['torch'] = None; from bothways.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in (
        ["embed", folders / "onnx", "in.jsonl", "out.npy"],
        ["predict", folders / "onnx", "in.jsonl", "--out", "out.jsonl"],
    ):
        done = subprocess.run([sys.executable, "-c", block, *command], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert np.abs(np.load(tmp_path / "out.npy") - model.embed(TEXTS[:5])).max() < 1e-5
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5


SERVED = """
import sys, threading, urllib.request
sys.modules["torch"] = None
import bothways as bw
from bothways.use.serve import running
from bothways.use.serve.desk import Limits
made = running.server(running.opened([sys.argv[1]], bw.load), "127.0.0.1", Limits(), None)
listening = running.listen("127.0.0.1", 0)
thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
thread.start()
place = f"http://127.0.0.1:{listening.getsockname()[1]}/tag"
request = urllib.request.Request(place, b'{"texts": "a red river"}', {"Content-Type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
made.should_exit = True
thread.join()
"""


def test_an_exported_model_is_served_where_there_is_no_torch(model, folders):
    done = subprocess.run([sys.executable, "-c", SERVED, folders / "onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tuple(json.loads(done.stdout)["results"][0]["tags"]) == model.tag("a red river").tags


# -- what does not fit


@pytest.mark.parametrize("file", ["model.onnx", "model.onnx.data", "tables.safetensors"])
def test_a_file_that_is_missing_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(BothwaysError, match=f"lacks {file}, so it is not whole; export the model again"):
        bw.load(folder).tag("a red river")


def test_a_damaged_graph_is_told_in_a_sentence(folder):
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BothwaysError, match=r"model.onnx cannot be run \(.*\); export the model again"):
        bw.load(folder).embed("a red river")


def test_a_folder_of_a_later_version_is_refused(folder):
    with pytest.raises(BothwaysError, match=r"in form 3, and this version \(.*\) reads form 2; export the model again"):
        bw.load(spoil(folder, form=3))


def test_a_folder_for_another_processor_is_refused(folder, monkeypatch):
    monkeypatch.setattr(exported_module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx2"])
    with pytest.raises(BothwaysError, match=r"for processors with avx512_vnni or avx_vnni, and this one would compute"):
        bw.load(spoil(folder, precision="int8", needs=["avx512_vnni", "avx_vnni"]))
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx2", "avx_vnni"])
    assert bw.load(folder).precision == "int8"


def test_weights_have_seven_bits_where_the_processor_sums_in_sixteen(monkeypatch):
    monkeypatch.setattr(exported_module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx2"])
    assert exported_module.exact_int8() == (False, [])
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx512_vnni"])
    assert exported_module.exact_int8()[0]
    monkeypatch.setattr(exported_module.platform, "machine", lambda: "arm64")
    assert exported_module.exact_int8()[0]


def test_precision_is_what_was_exported_but_openvino_rounds_to_bf16_where_the_processor_does(folders, monkeypatch):
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx512_bf16"])
    assert bw.load(folders / "openvino").precision == "float32"
    assert bw.load(folders / "openvino", precision="auto").precision == "bf16"
    assert bw.load(folders / "openvino", precision="bf16").precision == "bf16"
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx2"])
    assert bw.load(folders / "openvino", precision="auto").precision == "float32"
    with pytest.raises(BothwaysError, match="this processor does not multiply bf16 natively"):
        bw.load(folders / "openvino", precision="bf16")
    for name, precision in (("onnx", "bf16"), ("onnx", "int8"), ("int8", "bf16"), ("openvino", "int8")):
        with pytest.raises(BothwaysError, match=f"and is not computed in {precision}; leave precision out"):
            bw.load(folders / name, precision=precision)


def test_bf16_of_a_graph_is_compared_with_float32_before_it_is_trusted(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(exported_module, "processor_features", lambda: ["avx512_bf16"])
    monkeypatch.setattr(compared, "cache_folder", lambda: tmp_path)
    asked, compare = [], rounded_graph.compare_engines

    def rough(model, exact, rounding, texts):
        asked.append((exact.precision, rounding.precision))
        check = compare(model, exact, rounding, texts)
        return {**check, "tag": {**check["tag"], "equal": 0.99}}

    monkeypatch.setattr(rounded_graph, "compare_engines", rough)
    with pytest.raises(BothwaysError, match=r"in bf16 is as like as .* beyond the bound .*; open it in float32"):
        bw.load(folders / "openvino", precision="bf16").embed("the river")
    loose = bw.load(folders / "openvino", precision="bf16", equal_decisions=0.98)
    assert loose.embed("the river").shape == (loose.config.width,)
    assert loose.check["tag"]["equal"] == 0.99
    usual = bw.load(folders / "openvino", precision="auto")
    with pytest.warns(BothwaysWarning, match=r"in bf16 is as like as .*; it is computed in float32"):
        found = usual.embed(TEXTS[:3])
    assert usual.precision == usual.engine.precision == "float32"
    assert np.array_equal(found, bw.load(folders / "openvino").embed(TEXTS[:3]))
    assert asked == [("float32", "bf16")]  # once, and known by the user's cache afterwards


LET_GO = """
import gc
import signal
import sys

import bothways as bw

first, second = (bw.load(sys.argv[1]) for _ in range(2))
first.embed("the river"), second.embed("the river")
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_after_models_are_gone_a_signal_ends_no_process(folders, kind):
    done = subprocess.run([sys.executable, "-c", LET_GO, folders / kind], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n")


def test_an_engine_runs_what_was_exported_to_it(folders, tmp_path):
    assert bw.load(folders / "onnx", engine="onnx").engine.name == "onnx"
    with pytest.raises(BothwaysError, match="was exported to onnx and cannot run on the engine 'openvino'"):
        bw.load(folders / "onnx", engine="openvino")
    plain = tiny.folder(tmp_path / "plain")
    with pytest.raises(BothwaysError, match=r"is not an exported folder, .*bothways export .* --to openvino"):
        bw.load(plain, engine="openvino")


def test_devices_and_adapters_belong_to_the_original(folders, tmp_path):
    with pytest.raises(BothwaysError, match="is exported and runs on the CPU, not on 'cuda'"):
        bw.load(folders / "onnx", device="cuda")
    with pytest.raises(BothwaysError, match="is exported, so no adapter can be merged"):
        bw.load(folders / "onnx", adapter=tmp_path)


def test_an_exported_model_has_no_weights_to_train_or_save(folders, tmp_path):
    opened = bw.load(folders / "onnx")
    with pytest.raises(BothwaysError, match=r"is exported: it answers questions, but has no weights .*\(save\)"):
        opened.save(tmp_path / "again")
    assert not hasattr(opened, "encoder")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = opened.nonsense
    with pytest.raises(
        BothwaysError, match="is exported, so it only answers; take the folder that it was exported from"
    ):
        read_folder(folders / "onnx")


def test_an_opened_model_travels_to_another_process(folders):
    opened = bw.load(folders / "onnx")
    vector = opened.embed("a red river")
    assert (pickle.loads(pickle.dumps(opened)).embed("a red river") == vector).all()


@pytest.mark.parametrize(
    ("module", "to", "extra"), [("onnxscript", "onnx", "onnx"), ("openvino", "openvino", "openvino")]
)
def test_a_missing_library_is_named_with_what_installs_it(model, tmp_path, monkeypatch, module, to, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        BothwaysError, match=rf"needs {module}, which is not installed: pip install 'bothways\[{extra}\]'"
    ):
        model.export(tmp_path / "out", to=to)


@pytest.mark.parametrize(
    ("to", "module", "extra"), [("onnx", "onnxruntime", "light"), ("openvino", "openvino", "openvino")]
)
def test_a_missing_runtime_is_named_with_what_installs_it(folders, monkeypatch, to, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        BothwaysError, match=rf"needs {module}, which is not installed: pip install 'bothways\[{extra}\]'"
    ):
        bw.load(folders / to).embed("a red river")


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"to": "onxx"}, "exported to onnx or openvino, not to 'onxx'; did you mean 'onnx'"),
        (
            {"to": "openvino", "precision": "int8"},
            "openvino is exported to in float32, not in 'int8'; OpenVINO computes",
        ),
        ({"precision": "bf16"}, "onnx is exported to in float32 or int8, not in 'bf16'"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_work_begins(model, tmp_path, wish, said):
    with pytest.raises(BothwaysError, match=said):
        model.export(tmp_path / "out", **wish)


def test_a_folder_that_holds_something_else_is_not_replaced(model, folder, tmp_path):
    with pytest.raises(BothwaysError, match="exists already"):
        model.export(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(BothwaysError, match="holds something else than an exported model"):
        model.export(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_an_exported_folder_is_described_and_held_to_the_bound_that_is_asked(folders, capsys):
    assert main(["info", str(folders / "int8"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["family"], said["exported"]["to"], said["exported"]["precision"]) == ("BERT", "onnx", "int8")
    assert said["parameters"] is None
    assert main(["info", str(folders / "onnx")]) == 0
    assert "to onnx in float32" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(BothwaysError, match="was exported in int8, which is beyond the bound"):
        bw.load(folders / "int8", equal_decisions=1.0, worst_cosine=1.0)
    with pytest.raises(BothwaysError, match="its runtime places its threads itself"):
        bw.load(folders / "onnx", pin=True)


def test_an_exported_model_can_be_the_same_to_the_bit(folders):
    for name in ("onnx", "int8"):
        opened = bw.load(folders / name, deterministic=True)
        assert np.array_equal(opened.embed(TEXTS)[::-1], opened.embed(TEXTS[::-1]))


def test_a_metric_decides_about_an_int8_graph(tmp_path):
    model = tiny.model(("classify",), layers=1)

    def hopeless(candidate):
        return 1.0 if candidate.engine.precision == "float32" else 0.0

    with pytest.raises(BothwaysError, match=r"beyond the bound \(a loss of 0.1 in hopeless\).* loses most"):
        model.export(tmp_path / "out", precision="int8", texts=TEXTS[:3], metric=hopeless, allowed_loss=0.1)
    assert not list(tmp_path.iterdir())


def test_the_command_exports_and_says_how_like_it_is(tmp_path, capsys):
    tiny.folder(tmp_path / "model", ("classify",), layers=1)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:4]))
    typed = ["export", tmp_path / "model", tmp_path / "out", "--texts", tmp_path / "texts.txt", "--json"]
    assert main([str(word) for word in typed]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["to"], said["precision"], said["check"]["texts"]) == ("onnx", "float32", 4)
    assert said["check"]["classify"]["equal"] == 1.0
    assert near(bw.load(tmp_path / "out").embed(TEXTS), bw.load(tmp_path / "model").embed(TEXTS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"one\n\n two\xe2\x80\xa8still two\n   \n"),
        ("a.txt.gz", gzip.compress("one\n\n two\u2028still two\n".encode())),
        ("a.csv", "text,label\none,x\n,x\n two\u2028still two,y\n".encode()),
        ("a.jsonl", '{"text": "one"}\n{"text": " two\u2028still two"}\n'.encode()),
    ],
    ids=["lines", "gzip", "csv", "jsonl"],
)
def test_texts_to_compare_on_are_read_as_everywhere(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert texts_of(tmp_path / name) == ["one", " two\u2028still two"]
    assert texts_of(None) is None


def test_texts_to_compare_on_come_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one text\nand another\n")))
    assert texts_of(Path("-")) == ["one text", "and another"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"\n \n", "a.txt holds no text; give a table of texts"),
        ("a.txt", b"caf\xe9\n", "line 1: not UTF-8"),
    ],
    ids=["empty", "blank", "latin"],
)
def test_texts_to_compare_on_that_are_none_are_one_sentence(tmp_path, capsys, name, content, told):
    (tmp_path / name).write_bytes(content)
    for verb in ("quantize", "export"):
        assert main([verb, "none", str(tmp_path / "out"), "--texts", str(tmp_path / name)]) == 2
        assert told in capsys.readouterr().err


# -- likeness


def test_likeness_tells_what_changed():
    exact = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    alike = vectors_alike(exact * 3, exact)
    assert (alike.worst_cosine, alike.compared, alike.largest) == (1.0, 3, 4.0)
    turned = exact.copy()
    turned[1] = [2, 0]
    assert vectors_alike(turned, exact).worst_cosine == 0.0
    assert vectors_alike(turned, exact).mean_cosine == pytest.approx(2 / 3)
    assert vectors_alike(np.full((1, 2), np.nan), exact[:1]).worst_cosine == -1.0
    batch = make_batch([[1, 2], [1, 2, 3]])
    one, several = (
        HeadConfig(kind="classify", labels=("a", "b")),
        HeadConfig(kind="classify", labels=("a", "b"), problem="several"),
    )
    scores = np.array([[0.2, 0.1], [-3.0, 1.0]])
    assert decisions_alike(scores + 1, scores, one, batch).equal == 1.0
    assert decisions_alike(scores + 1, scores, several, batch).equal == 1.0 - 0 / 4
    assert decisions_alike(scores - 0.15, scores, several, batch).equal == 0.75
    assert decisions_alike(scores[:, ::-1], scores, one, batch).equal == 0.0
    assert decisions_alike(scores, scores, HeadConfig(kind="classify", problem="scores"), batch).equal is None
    places = np.zeros((5, 2))
    places[[1, 4], [0, 1]] = 1
    other = places.copy()
    other[3, 0] = 2
    assert decisions_alike(other, places, HeadConfig(kind="answer"), batch).equal == 0.75


def test_engines_are_compared_by_all_that_they_give(model):
    with torch.no_grad():
        said = compare_engines(model, model.engine, model.engine, TEXTS[:5])
    same = {"compared": 5, "worst_cosine": pytest.approx(1.0), "mean_cosine": pytest.approx(1.0), "largest": 0.0}
    assert same.items() <= said["vector"].items()
    assert {said[kind]["largest"] for kind in HEADS} == {0.0}


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_sentence_model_is_exported_whole(to, tmp_path):
    """Its pooling, its dense layer, prompts and all."""
    recipe = SentenceRecipe("cls+mean", True, stated=True, prompts={"query": "the "}, similarity="dot")
    saved = tiny.saved((), recipe=recipe, max_length=48, layers=1)
    head = HeadConfig(kind="dense", inputs=96, outputs=16, hidden="tanh")
    saved.head_configs["dense"], saved.heads["dense"] = head, tiny.randomise(build_head(head, saved.encoder.config), 9)
    model = Model(saved, device="cpu", name="tiny", truncation="window")
    model.export(tmp_path / "out", to=to, texts=TEXTS[:5])
    opened = bw.load(tmp_path / "out")
    for asked in ({}, {"normalize": False}, {"pooling": "last+weighted_mean"}, {"prompt": "query"}, {"dims": 3}):
        assert near(opened.embed(TEXTS, **asked), model.embed(TEXTS, **asked)), asked
    assert opened.vector_width == 16
    assert opened.sentence == recipe


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no children of this kind here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_computing_process_does_not_wait_for_it(tmp_path):
    class Still(RectangleEngine):
        inputs = ("input_ids",)

        def compute(self, names, given):
            return []

    engine = Still(tmp_path, 0, "float32")
    with engine._lock:
        child = os.fork()
        if not child:
            os._exit(0 if engine._lock.acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
