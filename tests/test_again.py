"""A finished run that is asked for again is read, not made; another one is refused, and told what is other."""

import shutil

import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError

TEXT = "The old river ran by the town.\nThe house had a garden.\n\nA teacher read a letter.\nThe child had a book.\n\n"
ROWS = "text,label\n" + "".join(f"{'river' if n % 2 else 'house'} {n},{'ab'[n % 2]}\n" for n in range(40))
VERBS = {
    "pretrain": (
        "pretrain text.txt --objective mlm --size tiny --vocab-size 60 --max-length 16 --batch-tokens 64 --steps 2"
    ),
    "finetune": "finetune classify table.csv --base base --steps 2",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text(TEXT * 20)
    (tmp_path / "table.csv").write_text(ROWS)
    tiny.folder(tmp_path / "base", ("mlm",))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_command_again_has_nothing_to_do(verb, place, capsys):
    command = [*VERBS[verb].split(), "--out", "out"]
    assert main(command) == 0
    before, first = everything(place / "out"), capsys.readouterr().out
    assert main(command) == 0
    second, told = capsys.readouterr()
    assert "Finished already: nothing to do. The model lies in out/model" in told
    assert second == first
    assert everything(place / "out") == before
    for more, how in (
        (["--steps", "3"], "steps is 2 there and 3 here"),
        (["--seed", "7"], "seed is 0 there and 7 here"),
    ):
        assert main([*command, *more]) == 2
        told = capsys.readouterr().err
        assert "out holds another run, which is finished" in told
        assert how in told
    assert main([*command, "--no-resume"]) == 2
    assert everything(place / "out") == before
    assert main([*command, "--overwrite", "--seed", "7"]) == 0


@pytest.mark.parametrize("verb", VERBS)
def test_with_other_data_it_is_another_run(verb, place, capsys):
    command = [*VERBS[verb].split(), "--out", "out"]
    assert main(command) == 0
    before = everything(place / "out")
    if verb == "pretrain":
        (place / "text.txt").write_text(TEXT * 21)
    else:
        (place / "table.csv").write_text(ROWS + "one more,a\n")
    assert main(command) == 2
    assert "holds another run, which is finished" in capsys.readouterr().err
    assert everything(place / "out") == before


@pytest.mark.parametrize("verb", VERBS)
def test_with_other_weights_under_the_same_name_it_is_another_run(verb, place, capsys):
    """A base that was trained again since: what was made of the old one is not what is asked for."""
    more = ["--base", "base"] if verb == "pretrain" else []
    words = [word for word in VERBS[verb].split() if not (more and word in ("--size", "tiny"))]
    command = [*words, *more, "--out", "out"]
    assert main(command) == 0
    shutil.rmtree(place / "base")
    tiny.folder(place / "base", ("mlm",), seed=1)
    assert main(command) == 2
    assert "which is finished (base is" in capsys.readouterr().err


def test_in_python_the_finished_result_is_returned(place):
    def run(**given):
        return bw.finetune("classify", base="base", train="table.csv", out="out", **{"steps": 2, **given})

    first = run()
    second = run()
    assert second.history == first.history
    assert second.scores == {name: first.scores[name] for name in first.metrics}
    assert second.metrics == first.metrics
    assert second.judgement == first.judgement
    assert second.model.classify(["river"]) == first.model.classify(["river"])
    shutil.rmtree(place / "out" / "model")
    with pytest.raises(BothwaysError, match="holds another run, which is finished: choose"):
        run()
