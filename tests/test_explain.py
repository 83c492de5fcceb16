"""Explanations: weights that add up to what they explain, the words that decide, and how far that can be trusted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.model.families import families
from bothways.use.explain.faithful import CHANCE, faithfulness
from bothways.use.explain.gradients import integrated_gradients
from bothways.use.explain.targets import targets

OTHERS = ("garden", "summer", "book", "music", "bridge", "morning")
TEXT, OTHER = "the old teacher made a red river, and the town.", "a red stone bridge"


def log_odds(shares, place):
    return float(np.log(shares[place]) - np.log(1 - shares[place]))


@pytest.mark.parametrize("name", sorted(families()))
@pytest.mark.parametrize("pair", [None, OTHER])
def test_weights_add_up_to_the_difference_to_masked_words_in_every_family(name, pair):
    model = tiny.model(("classify",), name=name)
    found = bw.explain(model, TEXT, pair, target="good")
    shares = model.class_probabilities([TEXT], None if pair is None else [pair])[0]
    assert found.told == pytest.approx(shares[2], abs=1e-5)
    assert found.value == pytest.approx(log_odds(shares.astype(float), 2), abs=1e-4)
    assert abs(found.value - found.baseline) > 1e-4
    assert sum(word.weight for word in found.words) == pytest.approx(
        found.value - found.baseline, abs=0.02 * abs(found.value - found.baseline)
    )
    assert found.error < 0.02


def test_a_fitted_temperature_is_explained_too():
    model = tiny.model(("classify",))
    model.decoding["classify"] = {"temperature": 3.0}
    found = bw.explain(model, TEXT, target="good")
    assert found.value == pytest.approx(np.log(found.told) - np.log(1 - found.told), abs=1e-4)


def test_words_are_those_of_the_texts_in_order():
    found = bw.explain(tiny.model(("classify",)), TEXT, OTHER)
    for side, text in enumerate((TEXT, OTHER)):
        words = [word for word in found.words if word.source == side]
        assert [text[word.start : word.end] for word in words] == [word.text for word in words]
        assert "".join(word.text for word in words) == text.replace(" ", "")
        assert [word.start for word in words] == sorted(word.start for word in words)


def test_occlusion_is_what_is_lost_when_a_word_is_masked():
    model = tiny.model(("classify",))
    found = bw.explain(model, TEXT, target="bad", way="occlusion")
    whole = log_odds(model.class_probabilities([TEXT])[0].astype(float), 0)
    for word in found.words:
        masked = f"{TEXT[: word.start]}[MASK]{TEXT[word.end :]}"
        without = log_odds(model.class_probabilities([masked])[0].astype(float), 0)
        assert word.weight == pytest.approx(whole - without, abs=1e-4)
    assert found.error is None


def test_gradients_are_those_of_small_steps():
    """At the masked end of the way, against differences of the number itself."""
    model = tiny.model(("classify",))
    ((subject, target),) = targets(model, TEXT, None, "good", None)
    right, _ = integrated_gradients(subject, target)
    table = model.encoder.token_table
    rows = torch.from_numpy(subject.ids.astype(np.int64)), torch.from_numpy(subject.masked.astype(np.int64))
    here, there = (table[ids].detach() for ids in (rows[1], rows[0]))
    points, weights = np.polynomial.legendre.leggauss(64)
    found = np.zeros(len(subject.ids))
    with torch.no_grad():
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            middle, small = here + float(point) * (there - here), 1e-2
            for token in np.concatenate([word.tokens for word in subject.words]):
                ends = []
                for sign in (1, -1):
                    moved = middle.clone()
                    moved[token] += sign * small * (there - here)[token]
                    ends.append(number_of(model, subject, target, moved))
                found[token] += weight * (ends[0] - ends[1]) / (2 * small)
    np.testing.assert_allclose([found[word.tokens].sum() for word in subject.words], right, atol=2e-3)


def number_of(model, subject, target, rows):
    hook = model.encoder.embeddings.tokens.register_forward_hook(lambda *_: rows)
    try:
        encoded = model.encoder(subject.batch(subject.ids[None], "classify"))
        return float(target.numbers(model.heads["classify"](encoded), torch)[0])
    finally:
        hook.remove()


def test_scores_tags_answers_and_similarities_are_explained(tmp_path):
    scorer = bw.load(tiny.ranker(tmp_path / "r", "classify", labels=("score",), problem="scores"), device="cpu")
    scorer.decoding["classify"] = {"scale": [2.0, 3.0]}
    found = bw.explain(scorer, TEXT, OTHER)
    assert (found.said, found.unit) == ("score", "score")
    assert found.value == pytest.approx(scorer.score(TEXT, OTHER), abs=1e-4)

    tagger = tiny.model(("tag",))
    found = bw.explain(tagger, TEXT, at="river")
    tagged = tagger.tag(TEXT)
    place = tagged.words.index("river")
    assert found.said == f"{tagged.tags[place]} for 'river'"
    assert found.value == pytest.approx(float(np.log(found.told / (1 - found.told))), abs=1e-3)
    assert max(found.words, key=lambda word: abs(word.weight)).text == "river"

    answerer = tiny.model(("answer",))
    found = bw.explain(answerer, "what is red", TEXT)
    best = next(one for one in answerer.answer("what is red", TEXT, top=3).candidates if one.text == found.said)
    assert found.value == pytest.approx(best.score, abs=1e-4)

    vectors = tiny.model(())
    a, b = vectors.embed([TEXT, OTHER], normalize=True)
    found = bw.explain(vectors, TEXT, OTHER)
    assert found.value == pytest.approx(float(a @ b), abs=1e-5)
    assert found.told == pytest.approx(found.value, abs=1e-5)
    assert {word.source for word in found.words} == {0, 1}
    assert found.error < 0.02


def test_a_prompt_is_read_and_not_explained():
    vectors = tiny.model(())
    plain = bw.explain(vectors, TEXT, OTHER)
    vectors.sentence = vectors.sentence.__class__("mean", prompts={"query": "the child: "}, default_prompt="query")
    prompted = bw.explain(vectors, TEXT, OTHER)
    assert [(word.text, word.start) for word in prompted.words] == [(word.text, word.start) for word in plain.words]
    assert prompted.told != plain.told


def test_every_engine_explains_by_occlusion():
    plain = tiny.model(("classify",))
    right = bw.explain(plain, TEXT, way="occlusion")
    packed = bw.explain(bw.Model(plain._saved, engine="packed", device="cpu"), TEXT, way="occlusion")
    np.testing.assert_allclose([w.weight for w in packed.words], [w.weight for w in right.words], atol=1e-4)


def test_long_texts_are_cut_and_it_is_told():
    model = tiny.model(("classify",), max_length=16)
    found = bw.explain(model, "river " * 40)
    assert len(found.words) == 14
    assert found.cut == 26


@pytest.fixture(scope="module")
def taught():
    """A classifier of texts that are good where a river is in them, and bad otherwise."""
    texts = tiny.sentences(240, seed=5, longest=12)
    texts = [text.replace("river", "stone") for text in texts]
    texts = [
        f"{text} river old" if number % 2 else f"{text} {OTHERS[number % 6]} old" for number, text in enumerate(texts)
    ]
    rows = [{"text": text, "label": "good" if "river" in text else "bad"} for text in texts]
    tuned = bw.finetune(
        "classify", base=tiny.model(()), train=rows[:200], dev=rows[200:], epochs=12, learning_rate=3e-3, seed=1
    )
    assert tuned.scores["accuracy"] > 0.95
    return tuned.model, rows[200:]


@pytest.mark.parametrize("way", ["gradients", "occlusion"])
def test_the_word_that_decides_is_the_heaviest(taught, way):
    model, rows = taught
    good = [row["text"] for row in rows if row["label"] == "good"]
    found = [bw.explain(model, text, target="good", way=way).words for text in good]
    heaviest = [max(words, key=lambda word: word.weight).text for words in found]
    assert heaviest.count("river") > 0.8 * len(good)


def test_explanations_are_measured_against_chance(taught, tmp_path, capsys):
    model, rows = taught
    found = faithfulness(model, rows, limit=30)
    assert found["texts"] == 30
    for way in ("gradients", "occlusion"):
        more, chance = found["ways"][way]["comprehensiveness"], found["ways"][CHANCE]["comprehensiveness"]
        assert more["interval"][0] > chance["interval"][1]
        assert found["ways"][way]["sufficiency"]["mean"] < found["ways"][CHANCE]["sufficiency"]["mean"]
    model.save(tmp_path / "m")
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["inspect", "explanations", str(tmp_path / "m"), str(file), "--limit", "5", "--device", "cpu"]) == 0
    assert "words in random order" in capsys.readouterr().out


def test_the_command_prints_writes_and_escapes(taught, tmp_path, capsys):
    model, _ = taught
    model.save(tmp_path / "m")
    text, page = "the <b>red</b> river old", tmp_path / "page.html"
    assert main(["explain", str(tmp_path / "m"), text, "--out", str(page), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("good: 0.")
    assert "river" in out.splitlines()[2]
    assert "&lt;" in page.read_text()
    assert "<b>" not in page.read_text()
    assert main(["explain", str(tmp_path / "m"), text, "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["said"] == "good"
    assert main(["explain", str(tmp_path / "m"), text, "--out", str(page)]) == 2, "what is there is not replaced"
    assert "exists already" in capsys.readouterr().err
    for out, said in (("page.txt", "should end in .html"), ("nodir/page.html", "there is no folder")):
        assert main(["explain", "no-such-model", text, "--out", str(tmp_path / out)]) == 2
        assert said in capsys.readouterr().err
    assert told["texts"] == [text]


@pytest.mark.parametrize(
    ("heads", "given", "said"),
    [
        (("classify",), {"target": "god"}, "there is no class 'god'; did you mean 'good'?"),
        (("classify",), {"way": "magic"}, "there is no way 'magic' to explain; there are gradients, occlusion"),
        (("tag",), {}, "say which word's tag"),
        (("tag",), {"at": "zebra"}, "'zebra' does not stand in the text"),
        (("answer",), {}, "for a question and a text"),
        ((), {}, "a similarity of two texts is explained"),
        ((), {"target": "good"}, "gives no classes"),
        (("classify",), {"at": "red"}, "does not tag words"),
        (("tag",), {"at": "red", "pair": OTHER}, "tags one text, not a pair"),
    ],
)
def test_mistakes_are_one_sentence(heads, given, said):
    with pytest.raises(BothwaysError) as refused:
        bw.explain(tiny.model(heads), TEXT, **given)
    assert said in str(refused.value)


def test_a_text_without_words_is_refused():
    with pytest.raises(BothwaysError, match="no word in this text"):
        bw.explain(tiny.model(("classify",)), "  ")
    with pytest.raises(BothwaysError, match="neither classes nor scores"):
        faithfulness(tiny.model(()), ["a"])
