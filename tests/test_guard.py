"""The guard of bf16 and int16: compared with float32 before they are trusted, and kept from layers that they hurt."""

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.run import compared, guard, lower
from bothways.run.bound import Bound
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int16 import can_int16
from bothways.run.engines.packed.linear import can_pack
from bothways.run.engines.packed.pack import sizes
from bothways.run.engines.protocol import Output
from bothways.run.guard import checked
from bothways.run.model import Model

GAIN = lower.gain  # before every test replaces it


@pytest.mark.parametrize("changes", [{}, {"norm": "pre"}])
@pytest.mark.parametrize(
    "precision", ["bf16", pytest.param("int16", marks=pytest.mark.skipif(not can_int16(), reason="no int16 here"))]
)
def test_in_other_precisions_layers_are_kept_in_float32_until_the_bound_holds(precision, changes, tmp_path):
    model = tiny.model((), **changes)
    texts, parts = tiny.sentences(24, seed=5), model.parts
    names = sizes(parts.encoder)
    batch = model.encode(texts).batch(np.arange(len(texts)))
    ((_, exact),) = PackedEngine(parts, "float32").run([batch], Output("hidden"))
    ((_, found),) = PackedEngine(parts, precision, kept=names).run([batch], Output("hidden"))
    np.testing.assert_allclose(found, exact, atol=1e-3 if precision == "int16" else 1e-5)
    loose = checked(model, parts, precision, Bound(worst_cosine=-1), texts)
    assert loose.kept == ()
    bound = Bound(worst_cosine=(1 + 2 * loose.check["vector"]["worst_cosine"]) / 3)
    tight = checked(model, parts, precision, bound, texts)
    assert set(tight.kept) < set(names)
    assert tight.engine.describe()["kept"] == sorted(tight.kept) != []
    assert bound.holds(tight.check)


@pytest.mark.filterwarnings("ignore:bf16 is slower here")
@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no bf16 products here")
def test_bf16_that_is_asked_for_by_name_is_compared_and_its_layers_are_known_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(compared, "cache_folder", lambda: tmp_path)
    loose = Model(tiny.saved(()), precision="bf16", engine="packed")
    assert loose.engine.describe()["kept"] == []
    worst = loose._known.lower["bf16"]["check"]["vector"]["worst_cosine"]
    strict = Model(tiny.saved(()), precision="bf16", engine="packed", bound=Bound((1 + 2 * worst) / 3))
    kept = strict.engine.describe()["kept"]
    assert kept
    strict.save(tmp_path / "model")
    again = bw.load(tmp_path / "model", engine="packed", precision="bf16", worst_cosine=(1 + 2 * worst) / 3)
    monkeypatch.setattr(guard, "checked", None)  # nothing is compared again
    assert again.engine.describe()["kept"] == kept
    another = Model(tiny.saved(()), precision="bf16", engine="packed", bound=Bound((1 + 2 * worst) / 3))
    assert another.engine.describe()["kept"] == kept  # by the user's cache
    texts = tiny.sentences(9)
    assert np.array_equal(again.embed(texts), another.embed(texts))


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no bf16 products here")
def test_auto_takes_float32_where_it_is_faster_and_remembers_that(tmp_path, monkeypatch):
    asked = []

    def slower(model, engine):
        asked.append(engine.precision)
        return 0.5

    monkeypatch.setattr(compared, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("bothways.run.lower.gain", slower)
    monkeypatch.setattr("bothways.run.chosen.fast_precision", lambda: "bf16")
    monkeypatch.setattr("bothways.run.chosen.can_int16", lambda: False)
    for _ in range(2):
        model = Model(tiny.saved(()), precision="auto", engine="packed")
        assert model.engine.precision == model.precision == "float32"
    assert asked == ["bf16"]


def test_what_is_timed_is_how_many_times_as_fast_as_float32_an_engine_is(monkeypatch):
    model = tiny.model(())
    monkeypatch.setattr(lower, "_speed", lambda model, engine, texts: {"float32": 10.0, "bf16": 30.0}[engine.precision])
    assert GAIN(model, PackedEngine(model.parts, "bf16")) == 3.0


def test_a_precision_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(BothwaysError, match="no precision 'int4'; there are auto, float32, bf16, int16, fp16, int8"):
        tiny.model((), precision="int4")
