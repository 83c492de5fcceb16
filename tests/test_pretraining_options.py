"""What a run is asked for reaches its examples: static masks, rates, sequences, tokenizers of the family's kind."""

import inspect
import json
import re

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.cli.pretrain import pretrain as command
from bothways.errors import BothwaysError
from bothways.learn import pretrain as module
from bothways.learn.objectives.pairs import Pairs
from bothways.learn.objectives.recipe import recipe
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.runs import write_run
from bothways.learn.start import prepared_corpus, suited_objective, suited_tokenizer
from bothways.learn.stream import Stream
from bothways.model.families import families, family
from bothways.run.folder import is_published
from bothways.text.prepare import prepare

SENTENCES = [f"{one.capitalize()}." for one in tiny.sentences(240, longest=12)]
DOCUMENTS = [" ".join(SENTENCES[begin : begin + 8]) for begin in range(0, 240, 8)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare(DOCUMENTS, tiny.tokenizer(), tmp_path_factory.mktemp("prepared") / "corpus")


def epochs_of(corpus, count, copies, **settings):
    """For each epoch the sequences as an encoder sees them, in the order of their labels and tokens."""
    plan = recipe(ObjectiveSettings(max_length=32, seed=1, **settings), corpus)
    stream = Stream(plan.examples, plan.finish, batch_size=len(plan.examples), epochs=count, copies=copies, seed=1)
    found = []
    while (items := stream.next_step(0.0)) is not None:
        seen = []
        for batch, targets in items:
            labels = np.full(batch.tokens, -1)
            labels[targets["mlm.places"]] = targets["mlm.labels"]
            pairs = targets.get("nsp.labels", targets.get("sop.labels", np.zeros(batch.sequences)))
            for number, (begin, end) in enumerate(zip(batch.starts[:-1], batch.starts[1:], strict=True)):
                seen.append((batch.token_ids[begin:end].tolist(), labels[begin:end].tolist(), int(pairs[number])))
        found.append(sorted(seen))
    return found


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp", "mlm+sop"])
@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_static_masks_come_again_and_dynamic_ones_do_not(objective, unit, corpus):
    """Masks and pairs: with two copies in every other epoch, with one in each; else never."""
    settings = {"objective": objective, "mask_unit": unit}
    dynamic = epochs_of(corpus, 4, None, **settings)
    assert all(dynamic[a] != dynamic[b] for a in range(4) for b in range(a))
    two = epochs_of(corpus, 4, 2, **settings)
    assert two[0] == two[2]
    assert two[1] == two[3]
    assert two == dynamic[:2] * 2, "the first copies are what dynamic masking makes first"
    assert epochs_of(corpus, 3, 1, **settings) == [dynamic[0]] * 3


def test_the_rate_of_a_run_goes_to_its_end(corpus):
    plan = recipe(ObjectiveSettings(objective="mlm", max_length=32, mask_rate=0.5, mask_rate_end=0.1), corpus)
    stream = Stream(plan.examples, plan.finish, batch_size=len(plan.examples))
    for progress, rate in ((0.0, 0.5), (0.75, 0.2), (1.0, 0.1)):
        items = stream.next_step(progress)
        masked = sum(len(targets["mlm.places"]) for _, targets in items)
        ordinary = sum(int((~np.isin(batch.token_ids, [2, 3])).sum()) for batch, _ in items)
        assert masked / ordinary == pytest.approx(rate, abs=0.02)


RUN = {"size": "tiny", "steps": 2, "max_length": 32, "batch_tokens": 256, "device": "cpu", "precision": "float32"}


def test_what_is_held_out_does_not_depend_on_how_masks_are_made(corpus, tmp_path, monkeypatch):
    """At the last rate, and the same in runs with static and with dynamic masks."""
    held, streams = [], []
    monkeypatch.setattr(
        module, "Stream", lambda *given, **options: streams.append(options) or Stream(*given, **options)
    )
    made = module._held_items

    def watched(*given):
        held.append(made(*given))
        return held[-1]

    monkeypatch.setattr(module, "_held_items", watched)
    masked = []
    for name, options in {"static": {"static_masks": 3}, "dynamic": {}, "rising": {"mask_rate_end": 0.6}}.items():
        held.clear()
        bw.pretrain(corpus, objective="mlm", out=tmp_path / name, **RUN, **options)
        masked.append([(batch.token_ids.tolist(), targets["mlm.places"].tolist()) for batch, targets in held[0]])
    assert [options["copies"] for options in streams] == [3, None, None]
    static, dynamic, rising = masked
    assert static == dynamic
    assert sum(len(places) for _, places in rising) > 3 * sum(len(places) for _, places in static)


@pytest.mark.parametrize("options", [{"mask_unit": "word"}, {"sequences": "full-sentences", "mask_unit": "span"}])
def test_a_run_with_other_units_and_sequences_is_trained_and_measured(options, corpus, tmp_path):
    run = bw.pretrain(corpus, objective="mlm", out=tmp_path / "run", **RUN, **options)
    assert 0 < run.scores["loss.mlm"] < 10


def test_pairs_are_told_what_is_held_out_before_any_is_made(corpus, tmp_path, monkeypatch):
    said, tell = [], Pairs.hold_out
    monkeypatch.setattr(Pairs, "hold_out", lambda self, numbers: (said.append(len(numbers)), tell(self, numbers)))
    made = Pairs.sequence
    monkeypatch.setattr(Pairs, "sequence", lambda self, *key: (said.append("made"), made(self, *key))[1])
    bw.pretrain(corpus, objective="nsp", out=tmp_path / "run", **RUN | {"steps": 1})
    assert said[0] == 0
    assert said[1] > 0
    assert set(said[2:]) == {"made"}


def test_sentence_order_is_learned_saved_and_opens_again(corpus, tmp_path):
    run = bw.pretrain(corpus, objective="mlm+sop", out=tmp_path / "run", **RUN)
    assert run.scores["loss.sop"] == pytest.approx(np.log(2), abs=0.3)
    assert {"mlm", "sop"} <= set(bw.load(tmp_path / "run").heads)


def test_an_albert_gets_its_own_tokenizer_and_objectives(tmp_path):
    run = bw.pretrain(
        DOCUMENTS, family="albert", **RUN | {"size": "base", "steps": 1}, vocab_size=200, out=tmp_path / "run"
    )
    assert run.model.tokenizer.spelling.mark == "▁"
    assert {"loss.mlm", "loss.sop"} <= set(run.scores)


@pytest.mark.parametrize("name", families())
def test_a_family_gets_a_tokenizer_of_its_kind_and_template(name, tmp_path):
    """Relatives of RoBERTa have at most one segment, so their pairs are set as RoBERTa's; all stay published."""
    marks = {"wordpiece": "##", "bpe": "Ġ", "unigram": "▁"}
    made = prepared_corpus(DOCUMENTS[:6], tmp_path, None, 330, True, "text", name).tokenizer
    assert made.spelling.mark == marks[family(name).tokenizer]
    assert suited_tokenizer(name)[0] == family(name).tokenizer
    segments = family(name).size().embeddings.segments
    assert segments != 1 or {piece.segment for piece in made.pair} == {0}
    if segments > 1:
        assert {piece.segment for piece in made.pair} == {0, 1}
    shape = family(name).size().for_vocabulary(made.size, made.pad_id)
    assert is_published(shape) == family(name).is_published
    assert shape.embeddings.position_offset == family(name).size().embeddings.position_offset


def test_an_mpnet_from_raw_text_opens_in_transformers_with_the_same_ids(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = prepared_corpus(DOCUMENTS, tmp_path, None, 330, True, "text", "mpnet").tokenizer
    settings = {"width": 48, "layers": 1, "attention.heads": 3, "feed_forward.width": 64}
    made = bw.new("mpnet", vocab=tokenizer, settings=settings, device="cpu")
    made.save(tmp_path / "model")
    opened = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert type(opened).__name__ == "MPNetForMaskedLM"
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = [*SENTENCES[:20], "the red Zürich é qux<mask>"]
    assert [made.tokenizer.encode([text]).sequence(0).tolist() for text in texts] == theirs(texts)["input_ids"]
    pair = made.tokenizer.encode([texts[0]], [texts[1]]).sequence(0).tolist()
    assert pair == theirs(texts[0], texts[1])["input_ids"]
    assert theirs.mask_token_id == made.tokenizer.mask_id
    assert theirs.unk_token_id == made.tokenizer.roles["unk"]


def test_albert_learns_the_order_of_sentences():
    assert suited_objective("albert") == "mlm+sop"
    assert suited_objective("bert") == "mlm+nsp"


@pytest.mark.parametrize(
    ("name", "heads", "objective"),
    [
        ("bert", ["rtd"], "rtd"),
        ("bert", ["mlm"], "mlm+nsp"),
        ("bert", [], "mlm+nsp"),
        ("electra", ["rtd"], "rtd"),
        ("electra", ["mlm"], "mlm"),
        ("electra", [], "rtd"),
    ],
)
def test_discriminators_and_generators_go_on_as_what_they_are(name, heads, objective):
    assert suited_objective(name, tiny.model(heads, name=name)) == objective


def test_a_discriminator_of_any_family_is_continued_as_one(corpus, tmp_path):
    run = bw.pretrain(corpus, base=tiny.model(["rtd"]), out=tmp_path / "run", **{**RUN, "size": None})
    assert "loss.rtd" in run.scores
    assert list(run.model.heads) == ["rtd"]


def test_another_family_than_that_of_the_model_that_goes_on_is_refused(tmp_path):
    base = tiny.model(["mlm"])
    kept = "tiny is a BERT and stays one, but the family 'roberta' is asked for; leave the family out"
    for given in ({"base": base}, {"teacher": base, "size": "1", "objective": "minilm"}):
        with pytest.raises(BothwaysError, match=kept):
            bw.pretrain(tmp_path / "absent.txt", out=tmp_path / "run", family="roberta", **given)
        with pytest.raises(BothwaysError, match="absent"):
            bw.pretrain(tmp_path / "absent.txt", out=tmp_path / "run", family="bert", **given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask_unit": "words"}, "mask_unit must be token or word or span, not 'words'; did you mean 'word'"),
        ({"mask_rate": 1.5}, "masking rate must be between 0 and 1, not 1.5"),
        ({"mask_rate_end": 0.0}, "masking rate must be between 0 and 1, not 0.0"),
        ({"static_masks": 0}, "static_masks must be 1 or more, not 0"),
        ({"static_masks": 2, "mask_rate_end": 0.3}, "static masks are made once"),
        ({"sequences": "sentences"}, "sequences must be blocks or full-sentences or doc-sentences"),
        ({"objective": "nsp+sop"}, "nsp and sop want different pairs"),
        ({"objective": "sop", "sequences": "doc-sentences"}, "pairs of texts, which cannot be doc-sentences"),
        ({"objective": "spo"}, "there is no objective 'spo'; there are mlm, .*; did you mean 'sop'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(options, words, corpus, tmp_path):
    with pytest.raises(BothwaysError, match=words) as refused:
        bw.pretrain(corpus, out=tmp_path / "run", **RUN, **options)
    assert "\n" not in str(refused.value)


MISTAKES = [
    ({"objective": "spo"}, "there is no objective 'spo'"),
    ({"objective": "nsp+sop"}, "want different pairs"),
    ({"objective": "rtd+mlm"}, "leave mlm out"),
    ({"size": "tinny"}, "did you mean 'tiny'"),
    ({"family": "berd"}, "berd"),
    ({"max_length": 1000}, "takes at most 512 tokens"),
    ({"dropout": 2.0}, "dropout must be"),
    ({"mask_decoder": "enhanced", "family": "modernbert", "objective": "mlm"}, "the enhanced mask decoder needs"),
    ({"optimizer": "adam"}, "did you mean 'adamw'"),
    ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
    ({"steps": 0}, "steps must be 1 or more"),
    ({"steps": 5, "epochs": 1}, "steps and epochs say the same in two ways"),
    ({"epochs": -1}, "epochs must be above 0, not -1"),
    ({"batch_tokens": 0}, "batch_tokens must be 1 or more, not 0"),
    ({"micro_tokens": -5}, "micro_tokens must be 1 or more, not -5"),
    ({"on_corrupt": "leave"}, "on_corrupt must be stop or skip, not 'leave'"),
]


@pytest.mark.parametrize(("options", "told"), MISTAKES)
def test_mistakes_are_refused_before_the_text_is_read_or_a_run_thrown_away(options, told, tmp_path):
    with pytest.raises(BothwaysError, match=told) as refused:
        bw.pretrain(tmp_path / "absent.txt", out=tmp_path / "run", **options)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()
    write_run(tmp_path / "run", command="pretrain", settings={}, seed=0, results={})
    with pytest.raises(BothwaysError, match=told):
        bw.pretrain(tmp_path / "absent.txt", out=tmp_path / "run", overwrite=True, **options)
    assert (tmp_path / "run" / "run.json").is_file()
    with pytest.raises(BothwaysError, match="absent"):
        bw.pretrain(tmp_path / "absent.txt", out=tmp_path / "new", objective="mlm")


def test_a_model_that_is_continued_has_its_own_size_and_others_a_name(corpus, tmp_path, capsys):
    base = tiny.folder(tmp_path / "base")
    run = bw.pretrain(corpus, base=base, objective="mlm", out=tmp_path / "run", **RUN)
    assert run.model.config.width == bw.load(base).config.width
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["size"] is None
    bw.pretrain(corpus, teacher=base, objective="minilm", out=tmp_path / "student", **RUN | {"size": "1"})
    said = capsys.readouterr().err
    assert re.search("Size tiny is left aside: .*base is continued as it is", said)
    assert "BERT continued: " in said
    assert "BERT student of 1 layer: " in said


def test_the_command_line_has_the_same_options():
    ours, theirs = (inspect.signature(one).parameters for one in (bw.pretrain, command))
    for name in ("mask_rate", "mask_rate_end", "mask_unit", "static_masks", "sequences", "objective", "loss_weights"):
        assert ours[name].default == theirs[name].default
