"""How vectors lie is measured as the papers define it, and whitening is a dense layer that others open."""

import json

import numpy as np
import pytest

import tiny
from bothways.cli.entry import main
from bothways.errors import BothwaysError
from bothways.learn.inspect_vectors import inspect_vectors, whitened
from bothways.learn.measures.geometry import MOST, alignment, geometry, whitening
from bothways.run.model import load
from bothways.run.sentence_folder import SentenceRecipe

TEXTS = tiny.sentences(90, seed=5)


def drawn(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


def test_vectors_that_point_everywhere_and_vectors_in_a_cone():
    even = geometry(drawn(500, 32))
    cone = geometry(drawn(500, 32) + 5)
    assert abs(even["mean_cosine"]) < 0.01
    assert cone["mean_cosine"] > 0.9
    assert even["uniformity"] < cone["uniformity"] < 0
    assert even["effective_rank"] > 28, "of 32 directions that are as strong as each other"
    assert sum(even["cosines"]) == pytest.approx(1)


def test_vectors_of_one_direction_have_one():
    line = geometry(np.outer(np.linspace(1, 2, 40), drawn(1, 8)))
    assert line["mean_cosine"] == pytest.approx(1)
    assert line["uniformity"] == pytest.approx(0, abs=1e-9)
    assert line["effective_rank"] == pytest.approx(1)
    assert (line["directions"], line["first"]) == (1, pytest.approx(1))


def test_the_mean_cosine_is_that_of_all_pairs():
    vectors = drawn(30, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [float(unit[a] @ unit[b]) for a in range(30) for b in range(a)]
    assert geometry(vectors)["mean_cosine"] == pytest.approx(np.mean(pairs))
    expected = np.log(np.mean([np.exp(-2 * ((unit[a] - unit[b]) ** 2).sum()) for a in range(30) for b in range(a)]))
    assert geometry(vectors)["uniformity"] == pytest.approx(expected)


def test_of_many_vectors_some_are_drawn_alike():
    many = drawn(MOST + 50, 3)
    assert geometry(many, seed=1) == geometry(many, seed=1) != geometry(many, seed=2)


def test_alignment_is_the_squared_distance_on_the_sphere():
    a, b = drawn(20, 6), drawn(20, 6, seed=1)
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (a, b)]
    assert alignment(a, b)["alignment"] == pytest.approx(((units[0] - units[1]) ** 2).sum(1).mean())
    assert alignment(a, 3 * a)["alignment"] == pytest.approx(0, abs=1e-9)


def test_white_vectors_have_no_mean_and_no_correlation():
    vectors = drawn(200, 10) @ drawn(10, 10) + 4
    weights, bias = whitening(vectors, 6)
    white = vectors @ weights + bias
    assert np.abs(white.mean(0)).max() < 1e-3
    assert np.abs(np.cov(white.T, bias=True) - np.eye(6)).max() < 1e-3
    flat = np.concatenate([vectors, vectors[:, :2]], axis=1)
    assert whitening(flat)[0].shape == (12, 10), "directions without variance are left out"


def test_a_whitened_model_opens_elsewhere_with_the_same_vectors(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = tiny.model((), recipe=SentenceRecipe("cls", True, stated=True, prompts={"query": "the "}))
    white = whitened(model, TEXTS, dims=20)
    assert white.vector_width == 20
    assert model.vector_width == 48, "the model itself stays"
    white.save(tmp_path / "white")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "white"), device="cpu")
    assert np.abs(white.embed(TEXTS, prompt="") - theirs.encode(TEXTS, prompt="")).max() < 1e-4
    assert abs(geometry(white.embed(TEXTS))["mean_cosine"]) < 0.1 < geometry(model.embed(TEXTS))["mean_cosine"]
    with pytest.raises(BothwaysError, match="has a dense layer already"):
        whitened(white, TEXTS)


def test_models_are_looked_at_side_by_side(tmp_path, capsys):
    paths = [str(tiny.folder(tmp_path / name, heads=(), seed=place)) for place, name in enumerate(("one", "other"))]
    rows = [
        {"text_a": a, "text_b": b, "score": n % 6} for n, (a, b) in enumerate(zip(TEXTS[:40], TEXTS[40:], strict=False))
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["inspect", "vectors", paths[0], str(tmp_path / "pairs.jsonl"), "--against", paths[1], "--whiten"]
    more = ["--dims", "9", "--out", str(tmp_path / "page.html"), "--save", str(tmp_path / "white"), "--device", "cpu"]
    assert main([*asked, *more]) in (0, None)
    said = capsys.readouterr().out
    assert said.count("whitened") >= 4
    assert "mean cosine of random pairs" in said
    assert "hardly tells them apart" in said
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert "other, whitened" in page
    assert load(tmp_path / "white").vector_width == 9
    found = inspect_vectors(paths[0], rows, device="cpu")
    assert {"spearman", "alignment", "uniformity"} <= found[0].keys()


def test_a_page_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "there.html").write_text("mine")
    pages = (("page.txt", "should end in .html"), ("nodir/page.html", "there is no folder"), ("there.html", "exists"))
    for out, said in pages:
        with pytest.raises(BothwaysError, match=said):
            inspect_vectors("no-such-model", "no-such-file.csv", out=tmp_path / out)


@pytest.mark.parametrize(
    ("data", "asked", "message"),
    [
        (["the river"], {}, "takes at least three"),
        (TEXTS[:5], {"dims": 3}, "say --whiten too"),
        (TEXTS[:5], {"pooling": "means"}, "did you mean 'mean'"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(data, asked, message):
    with pytest.raises(BothwaysError, match=message):
        inspect_vectors(tiny.model(()), data, **asked)
