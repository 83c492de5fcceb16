"""Two models on one file: one sentence, its figures, and the examples that change sides."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two random classifiers, a tagger, and texts that the first classifier gets right."""
    folder = tmp_path_factory.mktemp("compare")
    first, second = (tiny.model(("classify",), seed=seed) for seed in (0, 1))
    for seed, model in enumerate((first, second)):
        tiny.randomise(model.encoder, seed, spread=0.7)  # so that texts are told apart
    first.save(folder / "first")
    second.save(folder / "second")
    tiny.model(("tag",)).save(folder / "tagger")
    texts = tiny.sentences(60)
    said = [found.label for found in first.classify(texts)]
    rows = [{"text": text, "label": label} for text, label in zip(texts, said, strict=True)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_right_one_is_better_beyond_chance(place):
    told = bw.compare(place / "second", place / "first", str(place / "test.jsonl"), show=4, device="cpu")
    assert told["sentence"].startswith(f"{place / 'first'} is better by")
    assert "which is beyond chance" in told["sentence"]
    assert told["b"]["accuracy"] == 1.0
    wrong = round(60 * (1 - told["a"]["accuracy"]))
    assert told["mcnemar"]["only_b"] == told["flips"]["to_b"]["count"] == wrong > 10
    assert told["mcnemar"]["only_a"] == 0
    assert told["mcnemar"]["p"] == pytest.approx(2 * 0.5**wrong)
    shown = told["flips"]["to_b"]["shown"]
    assert len(shown) == 4
    assert all(one["guess"] == one["truth"] != one["other"] for one in shown)


def test_the_two_sides_mirror_each_other(place):
    on = str(place / "test.jsonl")
    one, other = (
        bw.compare(place / a, place / b, on, device="cpu") for a, b in (("first", "second"), ("second", "first"))
    )
    assert one["difference"]["macro_f1"] == -other["difference"]["macro_f1"]
    assert one["intervals"]["macro_f1"] == pytest.approx(list(-np.array(other["intervals"]["macro_f1"])[::-1]))
    assert one["p"] == other["p"]
    assert one["flips"]["to_a"] == other["flips"]["to_b"]


def test_the_command_says_no_difference_for_a_model_and_itself(place, capsys):
    arguments = ["compare", str(place / "first"), str(place / "first"), str(place / "test.jsonl")]
    assert main([*arguments, "--device", "cpu", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("There is no difference between")
    assert main([*arguments, "--device", "cpu", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["beyond_chance"] is False


def test_the_command_shows_what_changes_sides(place, capsys):
    files = [str(place / "second"), str(place / "first"), str(place / "test.jsonl"), "--show", "2"]
    assert main(["compare", *files, "--device", "cpu", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "examples that B does better" in said
    assert "examples that A does better" not in said
    assert "McNemar's exact test" in said


def test_models_of_other_tasks_or_none_are_refused(place):
    on = str(place / "test.jsonl")
    with pytest.raises(BothwaysError, match=r"first was fine-tuned for classify and .*tagger for tag: they cannot"):
        bw.compare(place / "first", place / "tagger", on, device="cpu")
    with pytest.raises(BothwaysError, match="was not fine-tuned for a task"):
        bw.compare(place / "first", tiny.model(("mlm",)), on, device="cpu")
