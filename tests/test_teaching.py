"""Runs with a teacher: where the student comes from, what is kept of the teacher, what is refused."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.checkpoint import own_tensors
from bothways.learn.objectives.distil.cache import TeacherCache
from bothways.learn.objectives.distil.student import begin_with_teacher, spread_layers, student_of
from bothways.run.model import Model
from bothways.text.normalize import Normalization
from bothways.text.prepare import prepare
from bothways.text.tokenizer import Tokenizer

PLAIN = {"device": "cpu", "precision": "float32", "max_length": 24, "batch_tokens": 300, "dropout": 0.0}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a teacher with 4 layers, 48 wide."""
    return tiny.folder(tmp_path_factory.mktemp("made") / "teacher", ("mlm",), seed=3, layers=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Some 6,000 tokens of the teacher's vocabulary."""
    folder = tmp_path_factory.mktemp("text")
    texts = tiny.sentences(400)
    (folder / "text.txt").write_text("\n\n".join(texts))
    return prepare(folder / "text.txt", tiny.tokenizer(), folder / "corpus")


def learn(corpus, teacher, out, objective="mlm+distil", **settings):
    settings = {"size": "half", "steps": 4, **PLAIN, **settings}
    return bw.pretrain(corpus, out=out, objective=objective, teacher=teacher, **settings)


def weights(result):
    return load_file(result.out / "model" / "model.safetensors")


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# -- learning


@pytest.mark.parametrize(
    ("objective", "size", "losses"),
    [
        ("mlm+distil", "half", {"soft", "cosine", "mlm"}),
        ("distil", "half", {"soft", "cosine"}),
        ("minilm", "narrow", {"minilm"}),
        ("mlm+tinybert", "narrow", {"embeddings", "states", "scores", "mlm"}),
    ],
)
def test_in_50_steps_a_student_comes_nearer(objective, size, losses, corpus, teacher, tmp_path):
    """From random weights; the loss falls by a tenth, and what is saved is a model without maps or teacher."""
    settings = {"size": "half", "start_from_teacher": False}
    if size == "narrow":
        config = tiny.config(width=24, embeddings__width=24, layers=2, embeddings__vocab_size=tiny.tokenizer().size)
        settings = {"base": Model.random(config.derive(init_std=0.1), tiny.tokenizer(), seed=1, device="cpu")}
    result = learn(corpus, teacher, tmp_path / "run", objective, steps=50, learning_rate=3e-3, **settings)
    found = [line["loss"] for line in result.history.evaluations]
    assert found[-1] < 0.9 * found[0], found
    assert {name.partition(".")[2] for name in result.scores if name.startswith("loss.")} == losses
    assert result.model.config.layers == 2
    assert set(result.model.heads) == ({"mlm"} if losses & {"soft", "mlm"} else set())
    saved = bw.load(tmp_path / "run")
    assert saved.parameters == result.model.parameters
    assert not any("map" in name or "teacher" in name for name in weights(result))


def test_the_weights_of_distilberts_losses_are_those_of_its_training(corpus, teacher, tmp_path):
    line = learn(corpus, teacher, tmp_path / "run").history.evaluations[-1]
    assert line["loss"] == pytest.approx(5 * line["loss.soft"] + line["loss.cosine"] + 2 * line["loss.mlm"])
    line = learn(corpus, teacher, tmp_path / "other", loss_weights={"soft": 1, "mlm": 0}).history.evaluations[-1]
    assert line["loss"] == pytest.approx(line["loss.soft"] + line["loss.cosine"])


def test_a_teacher_in_memory_stays_as_it_is(corpus, teacher, tmp_path):
    model = bw.load(teacher, device="cpu")
    before = {name: tensor.clone() for name, tensor in own_tensors(model.encoder).items()}
    learn(corpus, model, tmp_path / "run")
    assert_same_bits(own_tensors(model.encoder), before)
    assert all(parameter.grad is None for parameter in model.encoder.parameters())


# -- where the student comes from


def test_layers_are_spread_as_distilberts_were():
    assert spread_layers(12, 6) == [0, 2, 4, 7, 9, 11]
    assert spread_layers(4, 2) == [0, 3]
    assert spread_layers(6, 3) == [0, 2, 5]
    assert spread_layers(5, 5) == [0, 1, 2, 3, 4]
    assert spread_layers(5, 1) == [0]


def test_a_student_begins_with_every_second_layer_the_tables_and_the_head(teacher):
    taught = bw.load(teacher, device="cpu")
    half, heads = student_of(taught.config, "half"), [taught.head_configs["mlm"]]
    student = Model.random(half, taught.tokenizer, heads, device="cpu")
    done, sentence = begin_with_teacher(student, taught)
    assert done
    assert sentence == "The student begins with its teacher's embeddings and layers 0, 3 of 0 to 3"
    ours, theirs = (model.encoder.state_dict() for model in (student, taught))
    for name, tensor in ours.items():
        source = name.replace("blocks.1.", "blocks.3.")
        assert torch.equal(tensor, theirs[source]), name
    for name, tensor in student.heads["mlm"].state_dict().items():
        assert torch.equal(tensor, taught.heads["mlm"].state_dict()[name]), name


def test_a_distilbert_begins_with_a_bert(teacher):
    """Another family with the same layers: all that it has is the teacher's."""
    taught = bw.load(teacher, device="cpu")
    config = tiny.config("distilbert", layers=2).for_vocabulary(taught.tokenizer.size, 0)
    student = Model.random(config, taught.tokenizer, device="cpu")
    assert begin_with_teacher(student, taught)[0]
    block = taught.encoder.stack.blocks[3].state_dict()
    for name, tensor in student.encoder.stack.blocks[1].state_dict().items():
        assert torch.equal(tensor, block[name]), name
    assert torch.equal(student.encoder.token_table, taught.encoder.token_table)


def test_layers_that_share_a_block_stay_one():
    taught = tiny.model(("mlm",), name="albert", layers=4)
    config = student_of(taught.config, "half")
    student = Model.random(config, taught.tokenizer, device="cpu")
    assert (config.layers, config.blocks) == (2, 1)
    assert begin_with_teacher(student, taught)[0]
    assert_same_bits(student.encoder.stack.state_dict(), taught.encoder.stack.state_dict())


def test_half_of_a_teacher_keeps_the_windows_of_its_layers():
    config = tiny.config("modernbert", layers=5)
    assert config.attention.windows[0] == 0
    student = student_of(config, "3")
    pattern = config.attention.windows
    assert student.attention.windows == tuple(pattern[layer % len(pattern)] for layer in (0, 2, 4))
    with pytest.raises(BothwaysError, match="cannot have 6 layers of a teacher with 5"):
        student_of(config, "6")
    assert student_of(config, "tiny") is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 24, "embeddings__width": 24}, "random weights: it is 24 wide, its teacher 48"),
        ({"layers": 5}, "random weights: it has 5 layers, its teacher 4"),
        ({"feed_forward__width": 97}, "random weights: its layers are made otherwise"),
    ],
)
def test_a_student_that_cannot_begin_so_is_left_as_it_is(changes, sentence, teacher):
    taught = bw.load(teacher, device="cpu")
    student = Model.random(tiny.config(**changes), taught.tokenizer, device="cpu")
    before = {name: tensor.clone() for name, tensor in student.encoder.state_dict().items()}
    done, said = begin_with_teacher(student, taught)
    assert not done
    assert sentence in said
    assert_same_bits(student.encoder.state_dict(), before)


def test_a_base_keeps_its_own_weights_and_random_ones_can_be_wanted(corpus, teacher, tmp_path, capsys):
    taught = bw.load(teacher, device="cpu")
    config = student_of(taught.config, "half")
    base = Model.random(config, taught.tokenizer, [taught.head_configs["mlm"]], seed=8, device="cpu")
    still = {"steps": 1, "learning_rate": 1e-12}
    kept = learn(corpus, taught, tmp_path / "kept", base=base, **still)
    assert "The student begins with the weights of this model" in capsys.readouterr().err
    begun = learn(corpus, taught, tmp_path / "begun", **still)
    random = learn(corpus, taught, tmp_path / "random", start_from_teacher=False, **still)
    tables = [run.model.encoder.token_table for run in (kept, begun, random)]
    originals = [base.encoder.token_table, taught.encoder.token_table]
    near = [[torch.allclose(table, other, atol=1e-6) for other in originals] for table in tables]
    assert near == [[True, False], [False, True], [False, False]]


def test_raw_text_is_read_with_the_teachers_tokenizer(teacher, tmp_path):
    texts = tiny.sentences(120)
    result = learn(texts, teacher, tmp_path / "run", "distil", steps=2)
    assert result.model.tokenizer.fingerprint == tiny.tokenizer().fingerprint
    assert not (tmp_path / "run" / "tokenizer").exists(), "none was trained"


# -- interrupted


@pytest.mark.parametrize("cached", [False, True])
def test_an_interrupted_run_goes_on_to_the_bit(cached, corpus, teacher, tmp_path):
    """Also where the cache holds more than the checkpoint knows of."""

    def settings(name):
        kept = {"static_masks": 1, "teacher_cache": tmp_path / f"{name}-cache"} if cached else {}
        return {"objective": "mlm+tinybert", "steps": 12, **kept}

    def interrupt(event):
        if event.step == 5:
            signal.raise_signal(signal.SIGINT)

    whole = learn(corpus, teacher, tmp_path / "whole", **settings("whole"))
    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt, match="Stopped after step 5 of 12"):
        learn(corpus, teacher, out, **settings("broken"), callbacks=[interrupt])
    held = load_file(out / "checkpoint" / (out / "checkpoint" / "current").read_text() / "weights.safetensors")
    assert {name.partition(".")[0] for name in held} == {"encoder", "mlm"}, "the teacher is not saved"
    again = learn(corpus, teacher, out, **settings("broken"))
    assert_same_bits(weights(again), weights(whole))


def test_a_run_with_another_teacher_is_another_run(corpus, teacher, tmp_path):
    def interrupt(event):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        learn(corpus, teacher, tmp_path / "run", callbacks=[interrupt])
    other = tiny.folder(tmp_path / "other", ("mlm",), seed=4, layers=4)
    with pytest.raises(BothwaysError, match=r"teacher is '[0-9a-f.]*' there and '[0-9a-f.]*' here"):
        learn(corpus, other, tmp_path / "run")


# -- the cache


def forbid(monkeypatch):
    """From here on running a teacher is a mistake, for what it makes could not be kept."""
    monkeypatch.setattr(TeacherCache, "keep", None)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_from_the_cache_is_that_which_filled_it(precision, corpus, teacher, tmp_path, monkeypatch):
    """The second run never runs its teacher. In bf16 even a run without a cache is the same to the bit."""
    settings = {"objective": "minilm", "steps": 36, "precision": precision, "teacher_cache": tmp_path / "kept"}
    first = learn(corpus, teacher, tmp_path / "first", **settings)
    assert first.history.training[-1]["epoch"] > 1.1, "examples came again"
    forbid(monkeypatch)
    second = learn(corpus, teacher, tmp_path / "second", **settings)
    assert_same_bits(weights(first), weights(second))
    bare = learn(corpus, teacher, tmp_path / "bare", **{**settings, "teacher_cache": None})
    losses = [[line["loss"] for line in run.history.training] for run in (first, bare)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3 if precision == "float32" else 2e-2)


def test_masks_that_come_again_can_be_kept(corpus, teacher, tmp_path, monkeypatch):
    settings = {"steps": 6, "static_masks": 2, "teacher_cache": tmp_path / "kept"}
    first = learn(corpus, teacher, tmp_path / "first", **settings)
    forbid(monkeypatch)
    assert_same_bits(weights(learn(corpus, teacher, tmp_path / "second", **settings)), weights(first))


# -- refused


def run_refused(match, corpus, teacher, out, *given, **settings):
    with pytest.raises(BothwaysError, match=match):
        learn(corpus, teacher, out, *given, **settings)
    assert not (out / "model").exists()
    assert not (out / "corpus").exists(), "nothing was prepared"


@pytest.mark.parametrize(
    ("objective", "settings", "sentence"),
    [
        ("mlm", {"size": "tiny"}, "a teacher is given, but mlm does not learn from one"),
        ("mlm+distil", {"teacher_cache": "kept"}, "mlm makes each epoch's examples anew; give static_masks"),
        ("distil", {"soft_targets": "masked"}, "masked tokens need masked tokens: take the objective mlm.distil"),
        ("distil", {"loss_weights": {"mlm": 2}}, "there is no loss 'mlm' to weigh.*soft, cosine"),
        ("minilm", {"teacher_layer": 5}, "no layer 5 in a teacher with 4"),
        ("minilm", {"relation_heads": 7}, "no multiple of 7 relation heads"),
        ("minilm", {"relation_heads": 0}, "relation_heads must be 1 or more"),
        ("tinybert", {"size": "3"}, "no multiple of the student's 3"),
        ("distil", {"max_length": 513}, "at most 512"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(objective, settings, sentence, corpus, teacher, tmp_path):
    if "teacher_cache" in settings:
        settings = {**settings, "teacher_cache": tmp_path / "kept"}
    run_refused(sentence, corpus, teacher, tmp_path / "run", objective, **settings)


def test_an_objective_that_compares_needs_a_teacher(corpus, tmp_path):
    with pytest.raises(BothwaysError, match="distil learns from a teacher"):
        bw.pretrain(corpus, out=tmp_path / "run", objective="mlm+distil", steps=1)
    with pytest.raises(BothwaysError, match="no teacher is given"):
        bw.pretrain(corpus, out=tmp_path / "run", objective="mlm", steps=1, teacher_cache=tmp_path / "kept")


def test_a_teacher_without_guesses_teaches_relations_only(corpus, tmp_path):
    headless = tiny.folder(tmp_path / "headless", (), layers=4)
    for texts in (corpus, list(tiny.sentences(40))):
        run_refused("has no head for them; learn from it by minilm", texts, headless, tmp_path / "run", "distil")
    assert learn(corpus, headless, tmp_path / "other", "minilm", steps=1).history.steps == 1


def test_student_and_teacher_have_one_vocabulary(corpus, teacher, tmp_path):
    """Whether the other one is the corpus's, is given, or is that of the model to continue with."""
    other = tiny.tokenizer("entirely different words")
    sentence = "student and teacher must have one vocabulary, but {} is not that of .*teacher .* tokens, the teacher's "
    texts = tiny.sentences(100)
    strange = prepare(texts, other, tmp_path / "strange")
    run_refused(sentence.format("that of the corpus in .*"), strange, teacher, tmp_path / "run")
    run_refused(sentence.format("the vocabulary given"), texts, teacher, tmp_path / "run", tokenizer=other)
    base = Model.random(tiny.config().for_vocabulary(other.size, 0), other, device="cpu")
    run_refused(sentence.format("the vocabulary given"), texts, teacher, tmp_path / "run", base=base)
    cased = Tokenizer.from_vocabulary(tiny.tokenizer().tokens, Normalization(lowercase=False))
    assert cased.size == tiny.tokenizer().size
    run_refused(sentence.format("the vocabulary given"), texts, teacher, tmp_path / "run", tokenizer=cased)


def test_the_cosine_is_left_out_where_widths_differ(corpus, teacher, tmp_path, capsys):
    config = tiny.config(width=24, embeddings__width=24, layers=2).for_vocabulary(tiny.tokenizer().size, 0)
    base = Model.random(config, tiny.tokenizer(), device="cpu")
    result = learn(corpus, teacher, tmp_path / "run", base=base, steps=1)
    assert "loss.cosine" not in result.scores
    assert "cosine of hidden states is left out: the student is 24 wide, its teacher 48" in capsys.readouterr().err
    with pytest.raises(BothwaysError, match="cosine compares hidden states of one width"):
        learn(corpus, teacher, tmp_path / "other", base=base, loss_weights=["cosine=1"])


def test_the_run_names_its_teacher(corpus, teacher, tmp_path):
    learn(corpus, teacher, tmp_path / "run", steps=1)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["teacher"] == str(teacher)
    shutil.rmtree(tmp_path / "run")
