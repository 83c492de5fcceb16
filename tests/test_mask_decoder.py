"""Masked tokens guessed through the enhanced mask decoder: trained, saved, filled in, continued."""

import json

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.protocol import Together
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.start import settled
from bothways.learn.stream import split_items
from bothways.model.build import build_encoder, build_head
from bothways.model.families import families, family
from bothways.model.heads.enhanced_mask_decoder import decode, refusal, with_positions

MASKING = Masking(mask_id=4, ordinary=np.arange(5, 200), seed=7)
ENHANCED = MaskedTokens(MASKING, "enhanced")
TEXT = [" ".join(tiny.sentences(40, seed=place)) for place in range(20)]


def model_of(name, **changes):
    config = with_positions(tiny.config(name, dropout=0.0, attention__dropout=0.0, **changes))
    parts = {"encoder": build_encoder(config), "mlm": build_head(family(name).head("mlm", decoder="enhanced"), config)}
    return tiny.randomise(torch.nn.ModuleDict(parts)).eval()


def item(count=30):
    draw = np.random.default_rng(0)
    found = [(draw.integers(5, 200, draw.integers(3, 40)), None) for _ in range(count)]
    found = [(ids, np.zeros(len(ids), int)) for ids, _ in found]
    (only,) = split_items([(0, n) for n in range(count)], found, ENHANCED.prepare, 10**9)
    return only


# -- the objective


@pytest.mark.parametrize("name", ["deberta", "deberta-v2", "bert"])
def test_the_loss_is_cross_entropy_of_what_the_decoder_makes_of_all_tokens(name):
    model, (batch, targets) = model_of(name), item()
    together = Together([ENHANCED])
    counts = together.counts((batch, targets))
    values = together.backward(model, (batch, targets), counts)
    gradients = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    places, labels = (torch.from_numpy(targets[f"mlm.{what}"]) for what in ("places", "labels"))
    decoded = decode(model["encoder"], model["encoder"](batch, hidden=True), batch)
    logits = model["mlm"](decoded, model["encoder"].token_table)[places]
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    assert values["loss.mlm"] / counts["mlm"] == pytest.approx(loss.item(), rel=1e-5)
    assert values["hits.mlm"] == (logits.argmax(-1) == labels).sum()
    for key, gradient in gradients.items():
        expected = model.get_parameter(key).grad
        assert (gradient - expected).abs().max() < 1e-4 * max(1, expected.abs().max()), key
    assert "encoder.embeddings.positions.weight" in gradients


# -- who has it


def decoders(name, start=None, objective="mlm", **changes):
    config = tiny.config(name, **changes)
    learned, made = settled(ObjectiveSettings(objective=objective), config, start)
    return learned.mask_decoder, made


@pytest.mark.parametrize("name", families())
def test_debertas_have_it_unless_told_otherwise_and_no_others(name):
    decoder, made = decoders(name)
    assert decoder == ("enhanced" if name in ("deberta", "deberta-v2") else "plain")
    if decoder == "enhanced":
        assert made.embeddings.positions == 512
        assert not made.embeddings.positions_added
    else:
        assert made == tiny.config(name)


def test_an_encoder_of_the_family_that_cannot_has_the_plain_one():
    assert decoders("deberta", norm="pre")[0] == "plain"


def test_beside_soft_targets_the_head_reads_plain_states():
    assert decoders("deberta", objective="mlm+distil")[0] == "plain"


def test_a_model_goes_on_as_it_learned():
    learnt = tiny.model(["mlm"], name="deberta")
    assert decoders("deberta", learnt)[0] == "plain"
    learnt.head_configs["mlm"] = learnt.head_configs["mlm"].derive(decoder="enhanced")
    assert decoders("deberta", learnt)[0] == "enhanced"
    published = tiny.model(["mlm"], name="deberta", embeddings__positions=60)
    assert decoders("deberta", published, embeddings__positions=60)[0] == "enhanced"


@pytest.mark.parametrize("name", families())
def test_any_other_encoder_can_be_asked_for_it_or_says_why_not(name):
    settings = ObjectiveSettings(objective="mlm", mask_decoder="enhanced")
    why = refusal(with_positions(tiny.config(name)))
    if why is None:
        assert settled(settings, tiny.config(name), None)[0].mask_decoder == "enhanced"
        return
    assert name in ("albert", "electra", "modernbert", "longformer", "big_bird", "causal")
    with pytest.raises(BothwaysError, match="the enhanced mask decoder needs tables as wide as the encoder"):
        settled(settings, tiny.config(name), None)


# -- runs


def run(out, name="deberta", **changes):
    start = bw.Model.random(tiny.config(name, embeddings__vocab_size=tiny.tokenizer().size), tiny.tokenizer())
    settings = {"objective": "mlm", "steps": 3, "batch_tokens": 256, "max_length": 16, "device": "cpu"}
    return bw.pretrain(TEXT, out=out, **{"base": start, "precision": "float32"} | settings | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("deberta") / "run"
    return out, run(out)


def test_a_saved_model_fills_masks_through_it(trained):
    """The table of positions moves its guesses, and a copy loaded anew gives the same."""
    out, result = trained
    loaded = bw.load(out, device="cpu")
    assert loaded.head_configs["mlm"].decoder == "enhanced"
    assert loaded.config.embeddings.positions == 512
    texts = ["the river [MASK] by the bridge", "a [MASK] child read a [MASK]"]
    found, again = result.model.fill_mask(texts), loaded.fill_mask(texts)
    assert found == again
    ids = loaded.tokenizer.encode([texts[0]]).token_ids
    batch, place = make_batch([ids]), torch.tensor([list(ids).index(loaded.tokenizer.mask_id)])
    with torch.no_grad():
        states = decode(loaded.encoder, loaded.encoder(batch, hidden=True), batch, place)
        shares = torch.softmax(loaded.heads["mlm"](states, loaded.encoder.token_table), -1)[0]
    assert [fill.probability for fill in found[0]] == pytest.approx(shares.topk(5).values.tolist(), rel=1e-4)
    torch.nn.init.normal_(loaded.encoder.embeddings.positions.weight)
    assert loaded.fill_mask(texts) != found


@pytest.mark.usefixtures("fastest")
def test_it_fills_masks_by_the_engine_that_everybody_has(trained):
    text = "the river [MASK] by the bridge"
    found, plain = (
        bw.load(trained[0], device="cpu", engine=engine).fill_mask(text) for engine in ("auto", "reference")
    )
    assert [one.token for one in found] == [one.token for one in plain]
    assert [one.probability for one in found] == pytest.approx([one.probability for one in plain], rel=1e-4)


def test_others_see_an_encoder_without_the_head(trained, tmp_path):
    """For `transformers` has no such decoder, and the head behind another would guess nonsense."""
    out, result = trained
    assert json.loads((out / "model" / "config.json").read_text())["architectures"] == ["DebertaModel"]
    said = result.model.save(tmp_path / "model")
    assert said == "transformers opens model as DebertaModel; the head mlm is known to bothways only"
    theirs = transformers.AutoModel.from_pretrained(out / "model").eval()
    ids = torch.arange(5, 15)
    with torch.no_grad():
        ours = result.model.encoder.eval()(make_batch([ids.numpy()])).sequence
        assert (ours - theirs(ids[None]).last_hidden_state[0]).abs().max() < 1e-4


def test_a_run_goes_on_with_its_table_and_can_be_told_not_to(trained, tmp_path):
    out, result = trained
    more = run(tmp_path / "more", base=out, steps=2, learning_rate=1e-3, weight_decay=0.0)
    before, after = (model.encoder.embeddings.positions.weight for model in (result.model, more.model))
    moved = (before - after).abs().amax(1)
    assert 0 < moved[1:15].min() < moved.max() < 0.01, "what it learned is where it goes on"
    assert not moved[16:].any(), "positions that no text has are left alone"
    assert more.model.head_configs["mlm"].decoder == "enhanced"
    plain = run(tmp_path / "plain", base=out, steps=1, mask_decoder="plain")
    assert plain.model.head_configs["mlm"].decoder == "plain"


def test_a_longer_text_than_the_default_table_gets_rows(tmp_path):
    config = tiny.config("deberta", max_length=700)
    assert with_positions(config).embeddings.positions == 700
    assert with_positions(config.derive(max_length=None), 900).embeddings.positions == 900


def test_a_generator_can_guess_through_it(tmp_path):
    """Its positions are in its own table alone; the discriminator needs none."""
    result = run(tmp_path / "run", "deberta-v2", objective="rtd", mask_decoder="enhanced", keep_generator=True)
    generator = bw.load(tmp_path / "run" / "generator", device="cpu")
    assert generator.head_configs["mlm"].decoder == "enhanced"
    assert generator.config.embeddings.positions == 512
    assert result.model.config.embeddings.positions == 0
    assert generator.fill_mask("the [MASK] river")
    with pytest.raises(BothwaysError, match="learned with the enhanced mask decoder; continue with mask_decoder="):
        run(tmp_path / "again", base=tmp_path / "run", objective="rtd")
    with pytest.raises(BothwaysError, match=r"as wide as the encoder.*that is rtd's generator: choose another"):
        run(tmp_path / "narrow", "deberta-v2", objective="rtd", mask_decoder="enhanced", generator_size=0.5)
