"""Adapting an encoder to a domain: the measure, the vocabulary, what is read, and the whole of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from bothways.errors import BothwaysError
from bothways.learn.adapt import adapt
from bothways.learn.adapting.bits import bits_per_character, masked_words, passages
from bothways.learn.adapting.mixture import ONE_IN, Side, mixed
from bothways.learn.adapting.vocabulary import extended, with_more_tokens, word_counts
from bothways.learn.pretrain import pretrain
from bothways.text.documents import read_documents
from bothways.text.tokenizer import Tokenizer

DOMAIN = [f"{text}. The gastroscopy showed gastritis." for text in tiny.sentences(240, seed=1)]
GENERAL = tiny.sentences(240, seed=2)


# -- the measure


def test_a_model_that_expects_nothing_pays_the_same_for_every_token():
    model = tiny.model(("mlm",))
    for value in (*model.encoder.parameters(), *model.heads["mlm"].parameters()):
        torch.nn.init.zeros_(value)
    texts = ["the red river and the old stone bridge"]
    words = masked_words(texts[0], 0, 0)
    found = bits_per_character(model, texts)
    assert found.bits == pytest.approx(found.words * np.log2(model.tokenizer.size), rel=1e-5)
    assert (found.words, found.characters) == (len(words), sum(end - start for start, end in words))


def test_the_bits_of_a_word_are_the_sum_over_its_tokens_all_masked_at_once():
    model = tiny.model(("mlm",))
    text = "the zebra"
    seed = next(seed for seed in range(50) if masked_words(text, 0, seed) == [(4, 9)])
    encoded = model.tokenizer.encode([text])
    ids = encoded.sequence(0).copy()
    places = np.arange(2, len(ids) - 1)
    assert len(places) == 5  # no token of its own: z e b r a
    gold = ids[places].copy()
    ids[places] = model.tokenizer.mask_id
    batch = encoded.batch(np.arange(1))
    object.__setattr__(batch, "token_ids", ids.astype(np.int64))
    with torch.inference_mode():
        hidden = model.encoder(batch).sequence[torch.from_numpy(places)]
        shares = torch.log_softmax(model.heads["mlm"](hidden, model.encoder.token_table)[:, : model.tokenizer.size], 1)
    expected = -sum(shares[place, token].item() for place, token in enumerate(gold)) / np.log(2)
    assert bits_per_character(model, [text], seed=seed).bits == pytest.approx(expected, rel=1e-4)


def test_the_same_words_are_masked_whatever_the_vocabulary():
    text = " ".join(GENERAL[:3])
    assert masked_words(text, 7, 0) == masked_words(text, 7, 0) != masked_words(text, 8, 0)
    one, other = tiny.model(("mlm",)), tiny.model(("mlm",), texts="river stone")
    found = [bits_per_character(model, passages(GENERAL[:20])) for model in (one, other)]
    assert found[0].words == found[1].words
    assert found[0].characters == found[1].characters


def test_a_word_that_cannot_be_spelled_costs_what_its_bytes_cost():
    found = bits_per_character(tiny.model(("mlm",)), ["ωωωω"])
    assert (found.unknown, found.bits) == (1, 32.0)


# -- the vocabulary


def test_new_tokens_are_whole_words_of_the_domain_and_begin_as_the_mean_of_their_pieces():
    base = tiny.model(("mlm",))
    made, pieces = extended(base.tokenizer, word_counts(base.tokenizer, DOMAIN), 2)
    assert set(made.tokens[base.tokenizer.size :]) == {"gastroscopy", "gastritis"}
    assert len(made.encode(["gastritis"], special_tokens=False).token_ids) == 1
    plain = GENERAL[:20]
    assert made.encode(plain).token_ids.tolist() == base.tokenizer.encode(plain).token_ids.tolist()
    grown = with_more_tokens(base, made, pieces)
    first = made.size - 2
    for place, ids in enumerate(pieces):
        expected = base.encoder.token_table[ids].mean(0)
        torch.testing.assert_close(grown.encoder.token_table[first + place], expected)
        torch.testing.assert_close(grown.heads["mlm"].bias[first + place], base.heads["mlm"].bias[ids].mean())
    np.testing.assert_allclose(grown.embed(plain), base.embed(plain), atol=1e-6)


def test_only_wordpiece_is_extended():
    from bothways.text.train import train_tokenizer

    kind = train_tokenizer(DOMAIN, vocab_size=400, kind="bpe")
    with pytest.raises(BothwaysError, match="kind BPE has no room for single words"):
        extended(kind, word_counts(kind, DOMAIN), 2)


# -- what is read


def test_general_text_makes_its_share_and_nothing_held_out_is_read():
    domain, general = Side(DOMAIN), Side(GENERAL)
    read = [" ".join(document.paragraphs) for document in mixed(domain, general, 0.25)]
    assert not set(read) & {*domain.held_out(), *general.held_out()}
    replayed = sum(len(text) for text in read if text in set(GENERAL))
    assert replayed / sum(map(len, read)) == pytest.approx(0.25, abs=0.02)
    assert len(domain.held_out()) == len(DOMAIN) // ONE_IN
    assert sum(text in set(DOMAIN) for text in read) == len(DOMAIN) - len(domain.held_out())


def test_held_out_text_that_lies_apart_leaves_all_else_to_learn_from():
    side = Side(DOMAIN, held=GENERAL[:5])
    assert side.held_out() == GENERAL[:5]
    assert len(list(side.training())) == len(list(read_documents(DOMAIN)))


# -- all of it


@pytest.mark.parametrize("vocabulary", ["keep", "extend"])
def test_a_short_adaptation_gains_on_the_domain_and_tells_both_sides(tmp_path, vocabulary):
    base = tiny.folder(tmp_path / "base", ("mlm",))
    out = tmp_path / "out"
    options = {"general": GENERAL, "vocabulary": vocabulary, "new_tokens": 5, "batch_tokens": 256, "max_length": 32}
    done = adapt(base, DOMAIN, out=out, steps=30, learning_rate=3e-3, precision="float32", **options)
    result = json.loads((out / "adaptation.json").read_text())
    domain = [result[when]["domain"]["bits_per_character"] for when in ("before", "after")]
    assert domain[1] < domain[0] - 0.3
    assert set(result["after"]) == {"domain", "general"}
    assert "bits a character" in (out / "adaptation.html").read_text()
    grown = Tokenizer.load(out / "model").size - tiny.tokenizer().size
    assert grown == (0 if vocabulary == "keep" else result["check"]["added"])
    again = adapt(base, DOMAIN, out=out, steps=30, learning_rate=3e-3, precision="float32", **options)
    assert again.result["after"] == done.result["after"]
    with pytest.raises(BothwaysError, match=r"begun otherwise \(replay 0.1\)"):
        adapt(base, DOMAIN, out=out, steps=30, learning_rate=3e-3, replay=0.2, **options)


def test_how_it_learns_is_a_setting(tmp_path):
    base = tiny.folder(tmp_path / "base", ("mlm",))
    adapt(base, DOMAIN, out=tmp_path / "out", steps=2, batch_tokens=256, max_length=32, mask_rate=0.4, dropout=0.2)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["settings"]["mask_rate"] == 0.4
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["hidden_dropout_prob"] == 0.2


FEW = {"steps": 2, "batch_tokens": 256, "max_length": 32, "precision": "float32"}


def test_what_it_reads_is_not_thrown_away(tmp_path):
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    adapt(base, DOMAIN, out=out, **FEW)
    (out / "prepared" / "more.txt").write_text("\n\n".join(DOMAIN))
    before = sorted(out.rglob("*"))
    for given in ({"base": out}, {"base": out / "model"}, {"corpus": out / "prepared" / "more.txt"}):
        with pytest.raises(BothwaysError, match="is what this run reads, and --overwrite would remove it"):
            adapt(**{"base": base, "corpus": DOMAIN, "out": out, "overwrite": True, **FEW, **given})
    assert sorted(out.rglob("*")) == before
    (tmp_path / "other" / "prepared").mkdir(parents=True)
    with pytest.raises(BothwaysError, match="holds something else than what was prepared"):
        adapt(base, DOMAIN, out=tmp_path / "other", overwrite=True, **FEW)
    adapt(base, DOMAIN, out=out, overwrite=True, **FEW)
    assert not (out / "prepared" / "more.txt").exists()


def test_before_and_after_are_of_the_same_text(tmp_path):
    """Else a second call would subtract what was measured on one text from what was measured on another."""
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    first = adapt(base, DOMAIN, out=out, general=GENERAL, held_out=DOMAIN[:9], **FEW)
    for changes, told in (
        ({"held_out": DOMAIN[5:14]}, "measured on other text of the domain"),
        ({"general_held_out": GENERAL[:9]}, "measured on other general text"),
        ({"general": None}, "measured on other general text"),
        ({"general": GENERAL[100:]}, "measured on other general text"),
    ):
        given = {"general": GENERAL, "held_out": DOMAIN[:9], **changes}
        with pytest.raises(BothwaysError, match=rf"begun otherwise \({told}\); give the same"):
            adapt(base, DOMAIN, out=out, **given, **FEW)
    again = adapt(base, DOMAIN, out=out, general=GENERAL, held_out=DOMAIN[:9], **FEW)
    assert (again.result["before"], again.result["after"]) == (first.result["before"], first.result["after"])


def test_general_text_that_comes_later_is_refused(tmp_path):
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    adapt(base, DOMAIN, out=out, **FEW)
    with pytest.raises(BothwaysError, match="measured on other general text"):
        adapt(base, DOMAIN, out=out, general=GENERAL, **FEW)


class Killed(BaseException):
    """In place of a signal that nobody survives."""


@pytest.mark.parametrize("name", ["identity.json", "before.json", "adaptation.json"])
def test_killed_while_it_writes_a_file_it_goes_on(name, tmp_path, monkeypatch):
    base, out, write = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out", Path.write_bytes

    def torn(path, content):
        if name not in path.name:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", torn)
        with pytest.raises(Killed):
            adapt(base, DOMAIN, out=out, **FEW)
    assert not list(out.rglob(name)), "half of it is there"
    done = adapt(base, DOMAIN, out=out, **FEW)
    assert json.loads((out / "adaptation.json").read_text()) == json.loads(json.dumps(done.result))


def test_it_has_its_folder_to_itself(tmp_path):
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    seen = []

    def another(event):
        """As another process would: it has no part in what this one has claimed."""
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(adapt, base, DOMAIN, out=out, **FEW).exception())

    adapt(base, DOMAIN, out=out, callbacks=[another], **{**FEW, "steps": 1})
    assert "works in" in str(seen[0])
    assert str(out) in str(seen[0])


def test_what_another_command_finished_in_its_folder_is_not_taken_for_its_own(tmp_path):
    out = tmp_path / "out"
    base = tiny.model(("mlm",))
    pretrain(GENERAL, out=out, base=base, objective="mlm", steps=1, batch_tokens=256)
    kept = (out / "model" / "model.safetensors").read_bytes()
    with pytest.raises(BothwaysError, match=r"out holds .*choose another --out or --overwrite"):
        adapt(base, DOMAIN, out=out, steps=1, batch_tokens=256)
    assert (out / "model" / "model.safetensors").read_bytes() == kept
    assert not (out / "prepared").exists()


def test_it_is_refused_in_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BothwaysError, match="Adapting runs in one process, but torchrun has started 2"):
        adapt("no model", DOMAIN, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_before_anything_is_read(tmp_path):
    base = tiny.folder(tmp_path / "base", ("mlm",))
    for changes, told in (
        ({"vocabulary": "grow"}, "keep, extend or own"),
        ({"replay": 1.0}, "replay must be a share"),
        ({"new_tokens": 0}, "new_tokens must be 1"),
        ({"mask_rate": 1.5}, "masking rate must be between 0 and 1"),
        ({"dropout": 1.5}, "dropout"),
        ({"steps": 0}, "steps must be 1 or more"),
        ({"max_length": 10_000}, "512"),
    ):
        with pytest.raises(BothwaysError, match=told):
            adapt(base, DOMAIN, out=tmp_path / "out", **changes)
    with pytest.raises(BothwaysError, match="read several times"):
        adapt(base, iter(DOMAIN), out=tmp_path / "out")
    with pytest.raises(BothwaysError, match="needs the head 'mlm'"):
        adapt(tiny.folder(tmp_path / "plain", ("nsp",)), DOMAIN, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
