"""Heads that begin by looking at their neighbours."""

import math

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.cli.entry import main
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder
from bothways.model.families import families
from bothways.model.neighbours import look_at_neighbours, spread, turned, waves
from bothways.run.new import suited_start

SHIFTS = {"causal": (-1, -2)}
FIRST = "stack.blocks.0.attention."
CHANGED = {"deberta": {FIRST + "query_bias", "scheme.table.weight"}, "deberta-v2": {FIRST + "query.bias"}}
USUALLY = {"embeddings.positions.weight", FIRST + "query.weight", FIRST + "key.weight"}
NOTHING_TO_TELL_BY = {"modernbert"}


def fresh(name, **changes):
    """A small encoder of a family with random weights."""
    torch.manual_seed(0)
    return build_encoder(suited_start(tiny.config(name, width=128, attention__heads=2, **changes))).eval()


@pytest.mark.parametrize("name", sorted(families()))
def test_the_first_heads_look_where_they_should(name):
    wide = {"embeddings__width": 64 if name in ("albert", "electra") else 128, "feed_forward__width": 96}
    encoder = fresh(name, **wide)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert look_at_neighbours(encoder) is (name not in NOTHING_TO_TELL_BY)
    changed = {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}
    if name in NOTHING_TO_TELL_BY:
        assert not changed
        return
    assert changed == CHANGED.get(name, USUALLY)
    assert looks(encoder, SHIFTS.get(name, (-1, 1))) > 0.15


def looks(encoder, shifts):
    """The least share that one of the first heads gives to the place that it should look at most."""
    batch = make_batch([np.random.default_rng(0).integers(5, 180, size=60)])
    (weights_HLL,) = encoder(batch, attentions=True).attentions[0]
    shares = []
    for head, shift in enumerate(shifts):
        seen = [float(weights_HLL[head].diagonal(by)[5:50].mean()) for by in range(-5, 6)]
        shares.append(seen[shift + 5] if max(seen) == seen[shift + 5] else 0.0)
    return min(shares)


def test_a_narrow_encoder_carries_positions_in_values_of_their_own():
    encoder = fresh("electra", embeddings__width=512, feed_forward__width=96)
    before = encoder.embeddings.projection.weight.clone()
    assert look_at_neighbours(encoder)
    changed = (encoder.embeddings.projection.weight != before).any(1)
    assert changed.tolist() == [True] * 32 + [False] * 96
    assert looks(encoder, (-1, 1)) > 0.15


@pytest.mark.parametrize("start", ["random", None])
def test_generators_begin_so_too(start, tmp_path):
    options = {"family": "electra", "size": "small", "objective": "rtd", "learning_rate": 1e-9, "steps": 1}
    trained(tmp_path, **options, keep_generator=True, attention_start=start)
    shares = [looks(bw.load(tmp_path / name).encoder.eval(), (-1,)) for name in ("model", "generator")]
    assert all(share > 0.1 for share in shares) if start is None else max(shares) < 0.1


def test_a_turn_is_a_shift():
    frequencies = math.pi * (torch.arange(8) + 0.5) / 8
    every = waves(torch.arange(20), frequencies)
    shifted = every @ turned(frequencies, torch.arange(8), 3).T
    plain = every @ turned(frequencies, torch.arange(8), 0).T
    torch.testing.assert_close(shifted[:17], plain[3:])


@pytest.mark.parametrize(("args", "found"), [((1, 4, 16, 9), [1, 5, 9, 13]), ((0, 1, 10, 4), [0, 2, 5, 7])])
def test_frequencies_are_spread(args, found):
    assert spread(*args).tolist() == found


def chained(count=200):
    """Sentences in which every word follows from the one before."""
    words = [word for word in tiny.KNOWN.split() if len(word) > 2]
    draw, texts = np.random.default_rng(0), []
    for _ in range(count):
        place, said = int(draw.integers(len(words))), []
        for _ in range(30):
            said.append(words[place])
            place = (place * 7 + 3) % len(words)
        texts.append(" ".join(said))
    return texts


def trained(tmp_path, **settings):
    options = {"tokenizer": tiny.tokenizer(), "size": "tiny", "objective": "mlm", "batch_tokens": 1024, "steps": 60}
    done = bw.pretrain(chained(), out=tmp_path, max_length=32, dropout=0.0, precision="float32", **options | settings)
    return done.scores.get("loss.mlm")


def test_pretraining_begins_so_and_what_neighbours_tell_is_learned_at_once(tmp_path):
    first, paper = (trained(tmp_path / str(start), attention_start=start) for start in (None, "random"))
    assert first < paper - 0.5


def test_what_cannot_begin_so_is_refused(tmp_path, capsys):
    base = tiny.folder(tmp_path / "base", ("mlm",))
    with pytest.raises(BothwaysError, match="attention_start is for random weights"):
        bw.pretrain(chained(50), base=base, out=tmp_path / "out", steps=1, attention_start="neighbours")
    with pytest.raises(BothwaysError, match="nothing to tell neighbours by"):
        bw.pretrain(chained(50), family="modernbert", out=tmp_path / "out", steps=1, attention_start="neighbours")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BothwaysError, match="nothing to tell neighbours by"):
        bw.new("modernbert", vocab=tiny.tokenizer(), attention_start="neighbours")
    tiny.tokenizer().save(tmp_path / "words")
    typed = ["new", "--vocab", str(tmp_path / "words"), "--size", "tiny", "--out", str(tmp_path / "made")]
    assert main([*typed, "--attention-start", "neighbours"]) == 0
    positions = bw.load(tmp_path / "made").encoder.embeddings.positions.weight
    assert float(positions.std(0).std()) < 0.1 * float(positions.std())
    assert main([*typed, "--overwrite", "--attention-start", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
