"""Lower precision within a bound that a user asks for: what is remembered, what `auto` takes, what a metric says."""

import json

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.evaluate import labelled_metric
from bothways.run import lower as module
from bothways.run.bound import FASTEST, Bound, asked_bound, asked_metric, note, remembered, usual_precision
from bothways.run.engines.packed import int8
from bothways.run.precision import native_bf16
from bothways.run.processor import processor_kind

needs_int8 = pytest.mark.skipif(not int8.can_int8(), reason="no fast int8 products here")
CHECK = {"vector": {"worst_cosine": 0.995}}


def test_what_was_found_is_reused_for_its_bound_and_a_stricter_one_that_holds_too():
    lower = {}
    note(lower, "int8", {"kept": ["block 0 outer"], "check": CHECK}, Bound(0.99))
    assert remembered(lower, "int8", Bound(0.99))
    assert remembered(lower, "int8", Bound(0.994))
    assert remembered(lower, "int8", Bound(0.996)) is None
    assert remembered(lower, "int8", Bound(0.9)) is None  # fewer layers may do
    assert remembered(lower, "int8", None) is None  # the usual bound does not hold
    note(lower, "int8", {"kept": [], "check": CHECK}, Bound(0.99))
    assert remembered(lower, "int8", Bound(0.9))  # fewer than none cannot be
    note(lower, "int8", {"kept": [], "check": CHECK}, Bound(0.99), chosen=True)
    assert remembered(lower, "int8", None)


def test_auto_takes_what_was_found_fastest_on_this_kind_of_processor_alone():
    lower = {FASTEST: {"here": "int8", "there": "float32"}}
    assert usual_precision(lower, "here", None) is None  # nothing is known of int8
    note(lower, "int8", {"kept": [], "check": CHECK}, Bound(0.99), chosen=True)
    assert usual_precision(lower, "here", None) == "int8"
    assert usual_precision(lower, "here", Bound(0.999)) is None
    assert usual_precision(lower, "there", None) == "float32"
    assert usual_precision(lower, "elsewhere", None) is None


def test_bounds_that_make_no_sense_are_one_sentence():
    with pytest.raises(BothwaysError, match=r"worst_cosine must be between 0 and 1, .*, not 99"):
        asked_bound(99, None)
    with pytest.raises(BothwaysError, match="equal_decisions must be between 0 and 1"):
        asked_bound(None, -0.1)
    with pytest.raises(BothwaysError, match="an allowed loss is of a metric"):
        asked_metric(None, 0.1)
    with pytest.raises(BothwaysError, match="allowed_loss must be 0 or more"):
        asked_metric(float, -1)
    with pytest.raises(BothwaysError, match="quantized to int8, int16 or bf16, not to 'int4'"):
        tiny.model(()).quantize("int4")


@needs_int8
def test_a_quantized_model_opens_without_another_search(tmp_path, monkeypatch, capsys):
    folder, out = tiny.folder(tmp_path / "model", ("classify",)), tmp_path / "small"
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(tiny.sentences(12)))
    asked = ["quantize", str(folder), str(out), "--texts", str(texts), "--equal-decisions", "0.5", "--json", "--quiet"]
    assert main(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["tokens_per_second"]) >= {"float32", "int8"}
    known = json.loads((out / "bothways.json").read_text())["lower"]
    assert known["int8"]["bound"]["equal_decisions"] == 0.5
    assert known[FASTEST] == {processor_kind(): said["fastest"]}
    monkeypatch.setattr(module, "checked", None)  # and the guard is not asked again
    model = bw.load(out, precision="int8")
    assert len(model.engine.describe()["int8"]) == 12 - len(said["kept"])
    some = tiny.sentences(9, seed=2)
    assert np.array_equal(model.embed(some), bw.load(out, precision="int8").embed(some))
    assert bw.load(out, precision="auto").precision == said["fastest"]
    assert main(asked) == 2
    assert "exists already" in capsys.readouterr().err


@needs_int8
def test_a_metric_decides_and_the_layers_that_hurt_it_stay(tmp_path):
    rows = [{"text": text, "label": tiny.LABELS[place % 3]} for place, text in enumerate(tiny.sentences(12))]
    model = tiny.model(("classify",))
    model.task = "classify"
    plain = labelled_metric(model, rows)
    assert plain.__name__ == "macro_f1"

    def picky(candidate):  # every layer in int8 costs a tenth
        return 0.9 - 0.1 * len(getattr(candidate.engine, "_rounded", ()))

    found = model.quantize(metric=picky, allowed_loss=0.35, texts=tiny.sentences(8))
    assert len(found.kept) == 12 - 3
    assert found.metric["exact"] - found.metric["found"] == pytest.approx(0.3)
    assert model.precision == "int8"
    with pytest.raises(BothwaysError, match=r"within the bound \(a loss of 0 in picky\)"):
        tiny.model(()).quantize(metric=picky, allowed_loss=0.0, texts=tiny.sentences(8))
    assert model.quantize(metric=plain, allowed_loss=1.0, texts=tiny.sentences(8)).kept == ()


def test_a_cap_on_instructions_is_no_native_bf16(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert not native_bf16("cpu")[0]
    assert "bf16" not in processor_kind()
