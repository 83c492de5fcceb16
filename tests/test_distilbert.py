"""What is true of DistilBERT in particular."""

import json
import warnings

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.run.folder import Saved, read_folder, write_folder

DISTILBERT = family("distilbert")

# Sanh et al. 2019, table 3 (66M), and the published vocabularies: layers, width, heads, feed-forward, vocabulary, and
# the parameters of the encoder
SIZES = {
    "base": (6, 768, 12, 3072, 30_522, 66_362_880),
    "base-cased": (6, 768, 12, 3072, 28_996, 65_190_912),
    "base-multilingual-cased": (6, 768, 12, 3072, 119_547, 134_734_080),
}

PUBLISHED = {
    "activation": "gelu",
    "architectures": ["DistilBertForSequenceClassification"],
    "attention_dropout": 0.1,
    "dim": 768,
    "dropout": 0.1,
    "finetuning_task": "sst-2",
    "hidden_dim": 3072,
    "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
    "initializer_range": 0.02,
    "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
    "max_position_embeddings": 512,
    "model_type": "distilbert",
    "n_heads": 12,
    "n_layers": 6,
    "output_past": True,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "vocab_size": 30522,
}
"""As the fine-tuned checkpoints of the paper's time are described."""


def written(config, heads=()):
    """A random model as a folder holds it."""
    configs = {kind: tiny.head("distilbert", kind) for kind in heads}
    modules = {kind: tiny.randomise(build_head(head, config), 4).eval() for kind, head in configs.items()}
    return Saved(
        encoder=tiny.randomise(build_encoder(config), 3).eval(), heads=modules, head_configs=configs, tokenizer=None
    )


def reference(architecture="DistilBertModel", **settings):
    """The class of `transformers` at the tests' size, every parameter random."""
    described = DISTILBERT.to_hf(tiny.config("distilbert")) | settings
    made = transformers.DistilBertConfig(**described, attn_implementation="eager")
    return tiny.randomise(getattr(transformers, architecture)(made)).eval()


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_published_ones(size):
    config = DISTILBERT.sizes[size]
    with torch.device("meta"):
        count = sum(value.numel() for value in build_encoder(config).parameters())
    resolved = config.layers, config.width, config.attention.heads, config.feed_forward.width
    assert (*resolved, config.embeddings.vocab_size, count) == SIZES[size]
    assert (config.embeddings.segments, config.pooler) == (0, None)


def test_no_size_is_left_out():
    assert list(SIZES) == list(DISTILBERT.sizes)


def test_base_is_what_transformers_makes_without_being_told():
    assert DISTILBERT.from_hf(transformers.DistilBertConfig().to_dict()) == DISTILBERT.size()
    assert DISTILBERT.from_hf({"model_type": "distilbert"}) == DISTILBERT.size()


def test_a_published_config_json_is_read_without_complaint():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DISTILBERT.from_hf(PUBLISHED) == DISTILBERT.size("base")


def test_the_names_of_bert_for_its_settings_are_understood_as_in_transformers():
    stated = {"model_type": "distilbert", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = DISTILBERT.from_hf(stated)
    theirs = transformers.DistilBertConfig(**stated)
    assert (config.width, config.layers, config.attention.heads) == (96, 2, 4)
    assert (theirs.dim, theirs.n_layers, theirs.n_heads) == (96, 2, 4)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [("tie_weights_", False, "True is"), ("is_decoder", True, "False is"), ("activation", "mish", "there are gelu")],
)
def test_switches_that_mean_another_model_are_refused(key, value, wanted):
    with pytest.raises(BothwaysError, match=f"says {key} = .*, which is not supported; {wanted}"):
        DISTILBERT.from_hf(PUBLISHED | {key: value})


@torch.no_grad()
def test_sinusoidal_positions_are_a_table_like_any_other(tmp_path):
    """The setting says what a new table begins with; a checkpoint holds the table."""
    made = transformers.DistilBertConfig(**DISTILBERT.to_hf(tiny.config("distilbert")), sinusoidal_pos_embds=True)
    theirs = transformers.DistilBertModel._from_config(made, attn_implementation="eager").eval()
    assert theirs.embeddings.position_embeddings.weight[0, :4].tolist() == [0, 1, 0, 1]
    theirs.save_pretrained(tmp_path)
    ids = np.arange(40)
    found = read_folder(tmp_path).encoder(make_batch([ids], [np.zeros(40, int)])).sequence
    assert (found - theirs(torch.from_numpy(ids)[None]).last_hidden_state[0]).abs().max() < 1e-5


@torch.no_grad()
def test_packed_is_one_by_one_and_segments_are_not_looked_at():
    encoder = written(tiny.config("distilbert")).encoder
    draw = np.random.default_rng(1)
    texts = [draw.integers(1, 211, length) for length in (7, 1, 64, 7, 33, 2, 512)]
    batch = make_batch(texts, [(np.arange(len(text)) > len(text) // 2).astype(int) for text in texts])
    out = encoder(batch)
    assert out.pooled is None
    for place, row in enumerate(batch.rows):
        alone = encoder(make_batch([texts[row]], [np.zeros(len(texts[row]), int)])).sequence
        assert (out.sequence[batch.starts[place] : batch.starts[place + 1]] - alone).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["classify", "choose"])
def test_the_head_is_first_token_hidden_relu_dropout_linear(kind):
    """Against the same by hand; in training the dropout stands after the hidden layer only."""
    config = tiny.config("distilbert")
    saved = written(config, [kind])
    own, head = saved.heads[kind].state_dict(), saved.heads[kind]
    out = saved.encoder(make_batch([np.arange(9), np.arange(4)], [np.zeros(9, int), np.zeros(4, int)]))
    first = torch.stack([out.sequence[0], out.sequence[4]])  # the shorter one comes first
    hidden = (first @ own["hidden.weight"].T + own["hidden.bias"]).clamp(min=0)
    expected = (hidden @ own["output.weight"].T + own["output.bias"]).squeeze(-1)
    assert (head(out) - expected).abs().max() < 1e-5
    seen = []
    head.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head.train()(out)
    assert torch.equal(seen[0], first)
    assert (seen[1] == 0).sum() > (hidden == 0).sum()
    assert head.dropout.rate == 0.2


@pytest.mark.parametrize(
    ("kind", "architecture", "key"),
    [
        ("classify", "DistilBertForSequenceClassification", "seq_classif_dropout"),
        ("choose", "DistilBertForMultipleChoice", "seq_classif_dropout"),
        ("answer", "DistilBertForQuestionAnswering", "qa_dropout"),
        ("tag", "DistilBertForTokenClassification", "dropout"),
    ],
)
def test_heads_have_the_dropout_of_their_own_key(kind, architecture, key, tmp_path):
    """Read from it and, where it is not the encoder's, written to it."""
    theirs = reference(architecture, **{key: 0.35})
    theirs.save_pretrained(tmp_path / "theirs")
    saved = read_folder(tmp_path / "theirs")
    assert saved.head_configs[kind].dropout == theirs.dropout.p == 0.35
    assert saved.encoder.config.dropout == (0.35 if key == "dropout" else 0.1)
    saved.head_configs[kind] = saved.head_configs[kind].derive(dropout=0.45)
    write_folder(saved, tmp_path / "ours")
    said = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert said[key] == (0.35 if key == "dropout" else 0.45)
    assert read_folder(tmp_path / "ours").head_configs[kind].dropout == 0.45


@torch.no_grad()
def test_the_masked_token_head_has_the_activation_of_the_config(tmp_path):
    theirs = reference("DistilBertForMaskedLM", activation="relu")
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    ids = np.arange(30)
    out = saved.encoder(make_batch([ids], [np.zeros(30, int)]))
    found = saved.heads["mlm"].eval()(out.sequence, saved.encoder.token_table)
    assert (found - theirs(torch.from_numpy(ids)[None]).logits[0]).abs().max() < 1e-5


def test_gradients_equal_those_of_transformers(tmp_path):
    write_folder(written(tiny.config("distilbert"), ["mlm"]), tmp_path / "model")
    theirs = transformers.DistilBertForMaskedLM.from_pretrained(tmp_path / "model", attn_implementation="eager").eval()
    saved = read_folder(tmp_path / "model")
    draw = np.random.default_rng(0)
    ids, labels = draw.integers(1, 211, (3, 16)), draw.integers(0, 211, (3, 16))
    theirs(torch.from_numpy(ids), labels=torch.from_numpy(labels)).loss.backward()
    batch = make_batch(list(ids), [np.zeros(16, int)] * 3)
    targets = torch.from_numpy(labels[batch.rows]).flatten()
    states = saved.encoder(batch).sequence
    loss, _ = saved.heads["mlm"].loss(states, saved.encoder.token_table, targets)
    (loss / labels.size).backward()
    expected = {name: value.grad for name, value in theirs.named_parameters()}
    for part, module in {"encoder": saved.encoder, **saved.heads}.items():
        for name, value in module.named_parameters():
            published = DISTILBERT.table(["mlm"]).published(f"{part}.{name}")
            assert (value.grad - expected[published]).abs().max() < 1e-5, name


def test_a_head_that_wants_the_pooled_output_is_refused():
    plain = HeadConfig(kind="classify", labels=("a", "b"))
    with pytest.raises(BothwaysError, match="the head 'classify' needs the pooled output, which this encoder does not"):
        build_head(plain, tiny.config("distilbert"))


def test_next_sentences_are_told_by_the_first_token_all_the_same():
    """No published head, but pre-training with it is asked for by name and then works."""
    config = tiny.config("distilbert")
    head = tiny.randomise(build_head(DISTILBERT.head("nsp"), config))
    out = written(config).encoder(make_batch([np.arange(9)], [np.zeros(9, int)]))
    assert torch.equal(head(out), head.output(out.sequence[:1]))


def test_a_plain_classifier_is_known_to_bothways_only(tmp_path):
    """One linear layer is not the published head, so `transformers` is offered the encoder alone."""
    config = tiny.config("distilbert")
    saved = written(config)
    plain = HeadConfig(kind="classify", labels=tiny.LABELS, reads="first")
    saved.head_configs["classify"] = plain
    saved.heads["classify"] = tiny.randomise(build_head(plain, config))
    sentence = write_folder(saved, tmp_path / "model")
    assert sentence == "transformers opens model as DistilBertModel; the head classify is known to bothways only"
    again = read_folder(tmp_path / "model")
    assert again.head_configs == saved.head_configs
