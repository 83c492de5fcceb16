"""`bothways bench embed`: real processes, small ones; and what is recommended of their figures."""

import json

import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.run.bound import Bound
from bothways.run.engines.packed.int8 import can_int8
from bothways.run.folder import write_folder
from bothways.use import bench_embed as module
from bothways.use.bench_embed import Embedded, bench_embed, recommendation


def test_each_engine_is_measured_and_compared(tmp_path):
    folder = tiny.folder(tmp_path / "model", ("classify",))
    found = bench_embed(folder, tiny.sentences(20), seconds=0.05, engine="packed", precision="float32", threads=1)
    (one,) = found
    assert (one.engine, one.precision, one.refused) == ("packed", "float32", "")
    assert one.tokens_per_second > 0
    assert one.load > 0
    assert one.worst_cosine > 0.99999
    assert one.equal == 1.0
    assert sorted(one.latency) == [1, 8, 32]
    assert all(0 < median <= late for median, late in one.latency.values())


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    folder = tiny.folder(tmp_path / "model", ())
    (tmp_path / "texts.csv").write_text("text\nthe red river\nan old house\n")
    asked = ["bench", "embed", str(folder), str(tmp_path / "texts.csv"), "--seconds", "0.05", "--engine", "reference"]
    assert main([*asked, "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["engine"] == "reference"
    assert one["worst_cosine"] > 0.99999


@pytest.mark.skipif(not can_int8(), reason="no fast int8 products here")
def test_labelled_rows_add_their_metric_and_the_folder_keeps_what_was_found(tmp_path):
    folder, rows = tmp_path / "model", tmp_path / "rows.csv"
    saved = tiny.saved(("classify",))
    saved.task = "classify"
    write_folder(saved, folder)
    lines = [f"{text},{tiny.LABELS[place % 3]}\n" for place, text in enumerate(tiny.sentences(9))]
    rows.write_text("text,label\n" + "".join(lines))
    wish = {"engine": "packed", "precision": "int8", "labelled": rows, "allowed_loss": 1.0, "keep": True}
    (one,) = bench_embed(folder, tiny.sentences(8), seconds=0.02, threads=1, **wish)
    assert one.refused == ""
    assert 0 <= one.metric <= 1
    assert one.change <= 1
    model = bw.load(folder, precision="auto")
    assert model.precision == "int8"
    assert len(model.engine.describe()["int8"]) == 12


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """An exported model of one layer."""
    place = tmp_path_factory.mktemp("exported")
    bw.load(tiny.folder(place / "model", (), layers=1)).export(place / "graph", texts=tiny.sentences(5))
    return place / "graph"


def test_what_runs_graphs_alone_is_measured_by_an_export(graph, capsys):
    folder = graph.parent / "model"
    (one,) = bench_embed(folder, tiny.sentences(9), seconds=0.02, engine="onnx", precision="float32", threads=1)
    assert (one.engine, one.precision, one.refused) == ("onnx", "float32", "")
    assert one.worst_cosine > 0.9999
    assert recommendation([one], Bound()).endswith(": bothways export MODEL OUT --to onnx --precision float32")
    assert main(["bench", "embed", str(graph), "--seconds", "0.02", "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "onnx" in told
    assert told.strip().endswith("--precision float32")


def test_an_exported_model_has_one_engine(graph):
    with pytest.raises(BothwaysError, match="was exported to onnx and cannot run on the engine 'packed'"):
        bench_embed(graph, engine="packed")
    with pytest.raises(BothwaysError, match="and is not computed in int8"):
        bench_embed(graph, precision="int8")
    with pytest.raises(BothwaysError, match="leave keep out"):
        bench_embed(graph, keep=True)


def test_what_is_there_is_measured_where_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module._sides(None, None) == [("reference", "float32"), *module._PACKED]
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr(module, "processor_features", lambda: ["avx512_bf16"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert module._sides(None, None) == list(module.SIDES)
    assert module._sides(None, "fp16") == [("gpu", "fp16")]
    monkeypatch.setattr(module, "processor_features", lambda: ["avx2"])
    assert ("openvino", "bf16") not in module._sides(None, None)


def test_what_cannot_be_measured_is_one_sentence(tmp_path):
    folder = tiny.folder(tmp_path / "model", ())
    with pytest.raises(BothwaysError, match="must be above 0"):
        bench_embed(folder, seconds=0)
    with pytest.raises(BothwaysError, match="'reference' does not compute in 'int8'"):
        bench_embed(folder, engine="reference", precision="int8")
    with pytest.raises(BothwaysError, match=r"there is no engine 'packt'; .*did you mean 'packed'"):
        bench_embed(folder, engine="packt")
    with pytest.raises(BothwaysError, match="no engine computes in 'int4'"):
        bench_embed(folder, precision="int4")
    with pytest.raises(BothwaysError, match="there is no model folder"):
        bench_embed(tmp_path / "nowhere")


def test_the_fastest_within_the_bound_is_recommended():
    exact = Embedded("reference", "float32", 1000.0, worst_cosine=1.0)
    rough = Embedded("packed", "int8", 9000.0, worst_cosine=0.9)
    fine = Embedded("packed", "bf16", 5000.0, worst_cosine=0.9995)
    refused = Embedded("packed", "int8", refused="no")
    assert recommendation([exact, rough, fine, refused], Bound()) == (
        "packed in bf16: 5,000 tokens a second, 5.0× plain torch in float32, worst cosine 0.99950: --precision bf16"
    )
    assert "int8" in recommendation([exact, rough, fine], Bound(0.5))
    deciding = [Embedded("packed", "int8", 9000.0, worst_cosine=0.9, equal=1.0), exact]
    assert "100.0% equal decisions" in recommendation(deciding, Bound())
    assert recommendation([rough], Bound()) == "none stays within the bound; take float32"
