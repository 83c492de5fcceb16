"""Masked tokens guessed one after the other, as MPNet does: who sees whom, and the loss of two streams."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.nsp import NextSentence
from bothways.learn.objectives.permuting import permuted, turns
from bothways.learn.objectives.protocol import Together
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.start import settled
from bothways.model.build import build_encoder, build_head
from bothways.model.families import families, family
from bothways.model.parts import attend
from bothways.model.parts.sight import refusal

CLS, SEP, MASK = 1, 2, 4
MASKING = Masking(mask_id=MASK, ordinary=np.arange(5, 211), rate=0.4, seed=3)
PERMUTED = MaskedTokens(MASKING, order="permuted")
HEADS = ["bert", "mpnet"]


def batch_of(lengths, seed=0):
    draw = np.random.default_rng(seed)
    return make_batch([[CLS, *draw.integers(5, 211, length), SEP] for length in lengths])


def item(lengths=(7, 1, 0, 12, 7, 30, 7, 12), objective=PERMUTED):
    batch = batch_of(lengths)
    return objective.prepare(batch, [(0, row) for row in batch.rows], [(0, 0, row % 2) for row in batch.rows], 0.0)


def model_of(name, heads=("mlm",)):
    config = tiny.config(name, layers=2, dropout=0.0, attention__dropout=0.0)
    parts = {kind: build_head(family(name).head(kind), config) for kind in heads}
    return tiny.randomise(torch.nn.ModuleDict({"encoder": build_encoder(config), **parts})).eval()


def of_each(batch, targets):
    """For each sequence: its tokens as masked, the places of its masks, what stood there, and whose turn comes when."""
    for begin, end in itertools.pairwise(batch.starts):
        first, last = np.searchsorted(targets["mlm.places"], (begin, end))
        mine = slice(first, last)
        yield (
            batch.token_ids[begin:end],
            targets["mlm.places"][mine] - begin,
            *(targets[f"mlm.{what}"][mine] for what in ("labels", "turns")),
        )


# -- who sees whom


def test_every_order_is_as_likely_as_any_other():
    places, starts = np.arange(3 * 6000), np.arange(0, 3 * 6000 + 1, 3)
    found = turns(places, starts, [(0, number) for number in range(6000)], 1).reshape(-1, 3)
    counts = {order: int((found == order).all(1).sum()) for order in itertools.permutations((1, 2, 3))}
    assert sum(counts.values()) == 6000
    assert all(abs(count - 1000) < 120 for count in counts.values()), counts  # four deviations


def test_the_order_is_of_the_example_whoever_is_beside_it_and_another_in_each_epoch():
    starts = np.array([0, 9, 20])
    both = turns(np.array([1, 4, 7, 10, 13, 16, 18]), starts, [(0, 8), (0, 5)], 1)
    alone = turns(np.array([1, 4, 6, 9][:4]), np.array([0, 11]), [(0, 5)], 1)
    assert both[3:].tolist() == alone.tolist()
    later = [turns(np.arange(7), np.array([0, 7]), [(epoch, 5)], 1).tolist() for epoch in range(4)]
    assert len({tuple(order) for order in later}) == 4
    assert turns(np.array([], dtype=int), np.array([0, 2]), [(0, 0)], 1).tolist() == []


def test_each_guess_sees_the_sequence_once_with_what_came_before_it_filled_in():
    """The paper's position compensation: as many tokens as there are, each place once."""
    batch, targets = item()
    given = targets["mlm.given"]
    clock, since, until = given.sight
    guessing = iter(targets["mlm.guessing"].tolist())
    count = 0
    for number, (tokens, places, labels, order) in enumerate(of_each(batch, targets)):
        begin, end = given.starts[number : number + 2]
        for place, turn in zip(places, order, strict=True):
            asking = next(guessing)
            assert begin <= asking < end
            assert (given.token_ids[asking], given.positions[asking]) == (tokens[place], place)
            seen = [key for key in range(begin, end) if since[key] <= clock[asking] < until[key]]
            expected = tokens.copy()
            expected[places[order < turn]] = labels[order < turn]
            found = sorted((given.positions[key], given.token_ids[key]) for key in seen)
            assert found == list(enumerate(expected)), (number, place)
            count += 1
    assert count == len(targets["mlm.labels"]) > 20


def test_sequences_of_equal_length_stay_so_though_their_masks_differ_in_number():
    batch = batch_of([5, 5, 5, 9])
    places = np.array([1, 8, 9, 10, 15, 23, 24])
    made = permuted(batch, places, batch.token_ids[places], np.array([1, 2, 1, 3, 1, 1, 2])).batch
    assert made.lengths.tolist() == [7 + 6] * 3 + [11 + 4]
    assert [(piece.sequences, piece.length) for piece in made.plan] == [(3, 13), (1, 15)]
    assert np.array_equal(made.rows, batch.rows)
    assert permuted(make_batch([]), places[:0], places[:0], places[:0]).batch.tokens == 0


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_the_text_is_read_as_if_nothing_stood_behind_it(name):
    """What the encoder makes of the masked text is what it makes of it in BERT's way."""
    model, (batch, targets) = model_of(name), item()
    plain, given = model["encoder"](batch).sequence, targets["mlm.given"]
    found = model["encoder"](given).sequence
    for number, (begin, end) in enumerate(itertools.pairwise(batch.starts)):
        first = given.starts[number]
        assert (found[first : first + end - begin] - plain[begin:end]).abs().max() < 1e-5
    first_of_all = targets["mlm.guessing"][targets["mlm.turns"] == 1]
    at_once = targets["mlm.places"][targets["mlm.turns"] == 1]
    assert (found[first_of_all] - plain[at_once]).abs().max() < 1e-5, "the first in turn sees masks alone"
    others = targets["mlm.turns"] > 1
    differs = (found[targets["mlm.guessing"][others]] - plain[targets["mlm.places"][others]]).abs().amax(1)
    assert (differs > 1e-3).float().mean() > 0.8, "but where the tokens before were left as they are"


# -- the loss


def two_streams(model, tokens, places, labels, order):
    """The states of the guesses of one sequence, in the order of their turns, from the paper's words (section 2.3).

    A stream of contents reads the tokens that are not masked, the masks and the true ones, in that order; a stream of
    queries, which nobody reads, guesses.
    """
    encoder = model["encoder"]
    settings, tables = encoder.config.attention, encoder.embeddings
    heads, length, count = settings.heads, len(tokens), len(places)
    places, labels = places[np.argsort(order)], labels[np.argsort(order)]
    kept = np.setdiff1d(np.arange(length), places)
    where = np.concatenate([kept, places, places])
    contents = np.concatenate([tokens[kept], tokens[places], labels])
    sees = np.zeros((length + count, length + count), dtype=bool)
    sees[:, : len(kept)] = True
    sees[:length, :length] = True
    asks = np.zeros((count, length + count), dtype=bool)
    asks[:, : len(kept)] = True
    for turn in range(count):
        for other in range(count):
            sees[length + turn, len(kept) + other] = other > turn
            sees[length + turn, length + other] = other <= turn
            asks[turn, len(kept) + other] = other >= turn
            asks[turn, length + other] = other < turn

    def begin(ids, at):
        ids, at = torch.from_numpy(ids), torch.from_numpy(at)
        return tables(ids, at, torch.zeros_like(ids))

    def bias(at):
        if settings.kind == "full":
            return 0.0
        distances = torch.from_numpy(where[None] - at[:, None])
        rows = MPNetEncoder.relative_position_bucket(distances, settings.buckets, settings.max_distance)
        return encoder.scheme.table.weight[rows].permute(2, 0, 1)

    def by_head(x):
        return x.view(len(x), heads, -1).transpose(0, 1)

    c_CD, q_MD = begin(contents, where), begin(tokens[places], places)
    for layer in range(encoder.config.layers):
        block = encoder.stack.blocks[layer]
        attention, out = block.attention, []
        key, value = by_head(attention.key(c_CD)), by_head(attention.value(c_CD))
        for x, at, allowed in ((c_CD, where, sees), (q_MD, places, asks)):
            query = by_head(attention.query(x))
            scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]) + bias(at)
            scores = scores.masked_fill(~torch.from_numpy(allowed), float("-inf"))
            mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(len(x), -1)
            x = block.attention_norm(x + attention.output(mixed))
            out.append(block.feed_forward_norm(x + block.feed_forward(x)))
        c_CD, q_MD = out
    return q_MD, torch.from_numpy(labels)


@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradients_are_those_of_two_streams(name, monkeypatch):
    monkeypatch.setattr(attend, "_MOST_SCORES", 2 * 4 * 13**2)  # rectangles are split too
    model, (batch, targets) = model_of(name), item()
    together = Together([PERMUTED])
    counts = together.counts((batch, targets))
    values = together.backward(model, (batch, targets), counts)
    gradients = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    asked = [each for each in of_each(batch, targets) if len(each[1])]
    states, labels = zip(*(two_streams(model, *each) for each in asked), strict=True)
    logits, labels = model["mlm"](torch.cat(states), model["encoder"].token_table), torch.cat(labels)
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    assert counts == {"mlm": len(labels)}
    assert values["loss.mlm"] / counts["mlm"] == pytest.approx(loss.item(), rel=1e-5)
    assert values["hits.mlm"] == (logits.argmax(-1) == labels).sum()
    trained = {key for key, value in model.named_parameters() if value.grad is not None}
    assert gradients.keys() == trained
    for key, gradient in gradients.items():
        expected = model.get_parameter(key).grad
        assert (gradient - expected).abs().max() < 1e-4 * max(1, expected.abs().max()), key


def test_next_sentences_are_told_beside_it_as_without_it():
    model = model_of("bert", ("mlm", "nsp"))
    found = []
    for masked in (PERMUTED, MaskedTokens(MASKING)):
        together = Together([masked, NextSentence()])
        batch, targets = item(objective=masked)
        targets |= {"nsp.labels": np.arange(batch.sequences) % 2}
        found.append(together.evaluate(model, (batch, targets)))
    assert found[0]["loss.nsp"] == pytest.approx(found[1]["loss.nsp"], rel=1e-5)
    assert found[0]["loss.mlm"] != pytest.approx(found[1]["loss.mlm"], rel=1e-4)


def test_the_tokens_behind_the_text_are_work_too():
    model, (batch, targets) = model_of("bert"), item()
    once = Together([MaskedTokens(MASKING)]).work(model, (batch, targets))
    more = targets["mlm.given"].tokens / batch.tokens
    assert more > 1.5
    assert Together([PERMUTED]).work(model, (batch, targets)) > 1.2 * once


def test_a_text_as_long_as_the_table_of_positions_is_read():
    config = tiny.config("bert", embeddings__positions=24)
    encoder = build_encoder(config)
    batch = batch_of([22])
    given = PERMUTED.prepare(batch, [(0, 0)], [()], 0.0)[1]["mlm.given"]
    assert given.longest > 24
    assert encoder(given).sequence.shape[0] == given.tokens
    long = PERMUTED.prepare(batch_of([23]), [(0, 0)], [()], 0.0)[1]["mlm.given"]
    with pytest.raises(BothwaysError, match="a sequence has 25 tokens, but this model takes at most 24"):
        encoder(long)


# -- who has it


def order_of(name, objective="mlm", **settings):
    return settled(ObjectiveSettings(objective=objective, **settings), tiny.config(name), None)[0].mask_order


@pytest.mark.parametrize("name", families())
def test_mpnet_has_it_unless_told_otherwise_and_others_if_they_can(name):
    assert order_of(name) == ("permuted" if name == "mpnet" else "at-once")
    assert order_of(name, mask_order="at-once") == "at-once"
    can = name in ("bert", "albert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
    why = refusal(tiny.config(name))
    assert (why is None) == can
    if can:
        assert order_of(name, mask_order="permuted", mask_decoder="plain") == "permuted"
        return
    with pytest.raises(BothwaysError, match="cannot be guessed one by one here: tokens are hidden from each other in"):
        order_of(name, mask_order="permuted", mask_decoder="plain")
    with pytest.raises(BothwaysError, match="tokens are hidden from each other in attention of the kinds full and"):
        build_encoder(tiny.config(name))(item()[1]["mlm.given"])


def test_beside_a_teacher_or_the_enhanced_decoder_masked_tokens_are_guessed_at_once():
    assert order_of("mpnet", "mlm+distil") == "at-once"
    assert order_of("mpnet", "rtd") is None
    assert order_of("mpnet", mask_decoder="enhanced") == "at-once"
    with pytest.raises(BothwaysError, match="one by one here: distil compares the tokens of a text with a teacher's;"):
        order_of("mpnet", "mlm+distil", mask_order="permuted")
    with pytest.raises(BothwaysError, match="one by one here: the enhanced mask decoder guesses all at once; leave"):
        order_of("mpnet", mask_decoder="enhanced", mask_order="permuted")


# -- runs

TEXT = [" ".join(f"{one.capitalize()}." for one in tiny.sentences(12, seed)) for seed in range(12)]
RUN = {"steps": 4, "batch_tokens": 256, "max_length": 16, "device": "cpu", "precision": "float32", "seed": 1}


def run(out, name="mpnet", **changes):
    start = bw.Model.random(tiny.config(name, embeddings__vocab_size=tiny.tokenizer().size), tiny.tokenizer())
    return bw.pretrain(TEXT, out=out, base=start, **{"objective": "mlm", **RUN, **changes})


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    def stop(event):
        if event.step == 2:
            raise KeyboardInterrupt

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", callbacks=[stop])
    resumed = run(tmp_path / "broken")
    for key, value in whole.model.encoder.state_dict().items():
        assert torch.equal(value, resumed.model.encoder.state_dict()[key]), key


@pytest.mark.parametrize("name", HEADS)
def test_bf16_is_close_to_float32(name):
    model, targets = model_of(name), item()[1]
    with torch.no_grad():
        exact = model["encoder"](targets["mlm.given"]).sequence
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model["encoder"](targets["mlm.given"]).sequence
    assert (rounded.float() - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert not torch.equal(rounded.float(), exact)


def test_the_order_stands_in_the_log_where_it_is_not_the_usual(tmp_path):
    asked = {name: run(tmp_path / name, name).history for name in ("mpnet", "bert")}
    assert asked
    opening = {name: (tmp_path / name / "log.jsonl").read_text().splitlines()[0] for name in asked}
    assert '"mask_order": "permuted"' in opening["mpnet"]
    assert "mask_order" not in opening["bert"]
