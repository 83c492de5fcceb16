"""ELECTRA: tables shared by generator and discriminator, published configurations, replaced words spotted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.families import family
from bothways.model.sharing import share_tables
from bothways.run.folder import Saved, is_published, read_folder, write_folder
from bothways.run.spot import Spot, spots
from test_families import assert_same, rectangle, theirs_of

SHARED_NAMES = {"tokens.weight", "positions.weight", "segments.weight", "norm.weight", "norm.bias"}


def pair(**changes):
    """A generator half as wide as its discriminator, with the same tables, and its masked-token head."""
    wide = tiny.config("electra", **changes)
    narrow = wide.derive(width=24, attention__heads=2, feed_forward__width=48)
    generator, discriminator = build_encoder(narrow), build_encoder(wide)
    tiny.randomise(generator, 1), tiny.randomise(discriminator, 2)
    head = tiny.randomise(build_head(tiny.head("electra", "mlm"), narrow), 3)
    return generator.eval(), discriminator.eval(), head.eval()


# -- shared tables


def test_shared_tables_are_one_tensor_and_the_discriminators():
    generator, discriminator, _ = pair()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    own = generator.embeddings.projection.weight.clone()
    share_tables(generator, discriminator)
    ours, theirs = (dict(encoder.embeddings.named_parameters()) for encoder in (generator, discriminator))
    assert {name for name in ours if ours[name] is theirs.get(name)} == SHARED_NAMES
    assert torch.equal(generator.embeddings.projection.weight, own)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    once = {id(value) for encoder in (generator, discriminator) for value in encoder.parameters()}
    assert len(once) == sum(1 for encoder in (generator, discriminator) for _ in encoder.parameters()) - 5


def test_either_loss_moves_the_shared_tables():
    generator, discriminator, head = pair()
    share_tables(generator, discriminator)
    batch = make_batch([np.arange(1, 20)], None)
    table = discriminator.embeddings.tokens.weight
    from_discriminator = torch.autograd.grad(discriminator(batch).sequence.square().sum(), table)[0]
    loss, _ = head.loss(generator(batch).sequence, generator.token_table, torch.arange(30, 49))
    from_generator = torch.autograd.grad(loss, table)[0]
    assert from_discriminator[1:20].abs().min(1).values.max() > 0
    assert from_generator[30:49].abs().min(1).values.max() > 0, "the generator's head does not read the shared table"
    both = [*generator.parameters(), *discriminator.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(list(dict.fromkeys(both)), lr=0.1)
    before = table.detach().clone()
    loss, _ = head.loss(generator(batch).sequence, generator.token_table, torch.arange(30, 49))
    (loss + discriminator(batch).sequence.square().sum()).backward()
    optimizer.step()
    expected = before - 0.1 * (from_generator + from_discriminator)
    assert torch.allclose(generator.token_table, expected, atol=1e-5)
    assert generator.token_table is discriminator.token_table


def test_a_generator_with_shared_tables_computes_as_one_with_a_copy_of_them():
    generator, discriminator, head = pair()
    copied, _, _ = pair()
    for name in SHARED_NAMES:
        copied.embeddings.get_parameter(name).data.copy_(discriminator.embeddings.get_parameter(name))
    share_tables(generator, discriminator)
    batch = make_batch([np.arange(9), np.arange(30, 50)], [np.arange(9) > 4, np.arange(20) > 7])
    with torch.no_grad():
        found, expected = generator(batch).sequence, copied(batch).sequence
        assert torch.equal(found, expected)
        assert torch.equal(head(found, generator.token_table), head(expected, copied.token_table))


def test_both_are_saved_whole(tmp_path):
    generator, discriminator, head = pair()
    share_tables(generator, discriminator)
    made = build_head(tiny.head("electra", "rtd"), discriminator.config).eval()
    write_folder(
        Saved(
            encoder=generator, heads={"mlm": head}, head_configs={"mlm": tiny.head("electra", "mlm")}, tokenizer=None
        ),
        tmp_path / "generator",
    )
    write_folder(
        Saved(
            encoder=discriminator,
            heads={"rtd": made},
            head_configs={"rtd": tiny.head("electra", "rtd")},
            tokenizer=None,
        ),
        tmp_path / "disc",
    )
    batch = make_batch([np.arange(25)], None)
    for name, encoder, opener in (
        ("generator", generator, transformers.ElectraForMaskedLM),
        ("disc", discriminator, transformers.ElectraForPreTraining),
    ):
        again = read_folder(tmp_path / name)
        assert not str(again.report)
        with torch.no_grad():
            assert torch.equal(again.encoder(batch).sequence, encoder(batch).sequence)
        _, report = opener.from_pretrained(tmp_path / name, output_loading_info=True)
        assert not any(report.values()), report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embeddings__vocab_size": 100}, r"embeddings.tokens.weight: 211 × 32 and 100 × 32; .* vocabulary"),
        ({"embeddings__positions": 64}, r"embeddings.positions.weight: 512 × 32 and 64 × 32"),
        ({"embeddings__segments": 0}, r"embeddings.segments.weight: 2 × 32 and none"),
        ({"embeddings__width": 40}, r"embeddings.tokens.weight: 211 × 32 and 211 × 40"),
    ],
)
def test_tables_that_differ_are_refused_and_left_alone(change, said):
    generator, _, _ = pair()
    other = build_encoder(tiny.config("electra", **change))
    before = dict(generator.named_parameters())
    with pytest.raises(BothwaysError, match=said):
        share_tables(generator, other)
    assert all(value is before[name] for name, value in generator.named_parameters())


# -- configurations and checkpoints


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("small", 13_483_008),
        ("base", 108_891_648),
        ("large", 334_092_288),
        ("small-generator", 13_483_008),
        ("base-generator", 33_511_168),
        ("large-generator", 50_999_552),
    ],
)
def test_published_sizes(size, parameters):
    """What people call 14M, 110M and 335M; the generators as their checkpoints have them."""
    with torch.device("meta"):
        encoder = build_encoder(family("electra").size(size))
    assert sum(value.numel() for value in encoder.parameters()) == parameters
    assert (encoder.embeddings.projection is None) == (size in ("base", "large"))


def test_generators_fit_their_discriminators():
    sizes = family("electra").sizes
    for size in ("small", "base", "large"):
        with torch.device("meta"):
            generator, discriminator = build_encoder(sizes[f"{size}-generator"]), build_encoder(sizes[size])
        share_tables(generator, discriminator)
        assert generator.token_table is discriminator.token_table


@pytest.mark.parametrize(
    ("key", "value"), [("summary_type", "mean"), ("summary_use_proj", False), ("summary_activation", "tanh")]
)
def test_other_summaries_are_refused(key, value):
    members = family("electra")
    with pytest.raises(BothwaysError, match=f"says {key} = {value!r}, which is not supported"):
        members.from_hf(members.to_hf(members.size()) | {key: value})


def test_a_misspelt_key_of_its_own_is_refused():
    members = family("electra")
    with pytest.raises(BothwaysError, match="'embeding_size'; did you mean 'embedding_size'"):
        members.from_hf(members.to_hf(members.size()) | {"embeding_size": 128})


def test_settings_left_out_mean_what_they_mean_there():
    theirs = transformers.ElectraConfig().to_dict()
    assert family("electra").from_hf({"model_type": "electra"}) == family("electra").from_hf(theirs)


def test_a_pooler_makes_it_a_composition(tmp_path):
    config = tiny.config("electra", pooler="tanh")
    assert not is_published(config)
    saved = Saved(encoder=tiny.randomise(build_encoder(config)), heads={}, head_configs={}, tokenizer=None)
    write_folder(saved, tmp_path / "model")
    assert read_folder(tmp_path / "model").encoder.config == config


def test_only_the_heads_there_are_are_read(tmp_path):
    """A published generator also opens where a table under the name of its last layer repeats the token table."""
    config = tiny.config("electra")
    made = transformers.AutoConfig.for_model(**family("electra").to_hf(config))
    theirs = tiny.randomise(transformers.ElectraForMaskedLM(made))
    theirs.save_pretrained(tmp_path)
    state = theirs.state_dict()
    (tmp_path / "model.safetensors").unlink()
    torch.save({**state, "electra.embeddings.position_ids": torch.arange(512)[None]}, tmp_path / "pytorch_model.bin")
    saved = read_folder(tmp_path)
    assert list(saved.heads) == ["mlm"]
    assert not saved.report.missing
    assert not saved.report.unexpected
    assert saved.report.dropped == ["electra.embeddings.position_ids"]


@pytest.mark.parametrize("kind", ["mlm", "rtd", "classify", "choose"])
def test_heads_have_the_activation_they_have_there(kind, tmp_path):
    """The discriminator's head has the encoder's activation, all others the exact GELU."""
    config = tiny.config("electra", feed_forward__activation="relu")
    settings = {"num_labels": 3} if kind == "classify" else {}
    theirs = theirs_of(config, family("electra").architectures[frozenset({kind})], **settings)
    theirs.save_pretrained(tmp_path)
    assert_same(read_folder(tmp_path), theirs, rectangle(config, (17, 40, 3)))


def test_the_dropout_of_choices_has_its_own_key(tmp_path):
    """There nothing is dropped before their hidden layer."""
    config = tiny.config("electra")
    head = tiny.head("electra", "choose").derive(dropout=0.3)
    assert not head.input_dropout
    modules = {"choose": build_head(head, config)}
    write_folder(
        Saved(encoder=build_encoder(config), heads=modules, head_configs={"choose": head}, tokenizer=None),
        tmp_path / "model",
    )
    theirs = transformers.ElectraForMultipleChoice.from_pretrained(tmp_path / "model")
    assert theirs.sequence_summary.last_dropout.p == 0.3
    (tmp_path / "model" / "bothways.json").unlink()
    assert read_folder(tmp_path / "model").head_configs["choose"] == head


def test_packed_equals_one_by_one():
    encoder = tiny.randomise(build_encoder(tiny.config("electra"))).eval()
    head = tiny.randomise(build_head(tiny.head("electra", "rtd"), encoder.config)).eval()
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, 200, length) for length in (1, 64, 17, 17, 2, 300)]
    batch = make_batch(texts, None)
    with torch.no_grad():
        logits = head(encoder(batch))
        for place, row in enumerate(batch.rows):
            alone = head(encoder(make_batch([texts[row]], None)))
            assert (logits[batch.starts[place] : batch.starts[place + 1]] - alone).abs().max() < 1e-5


# -- replaced words


def by_hand(model, text):
    """The probability of each token of a text, with the characters that it covers."""
    encoded = model.tokenizer.encode([text], offsets=True)
    batch = make_batch([encoded.token_ids], [encoded.segment_ids])
    with torch.no_grad():
        logits = model.heads["rtd"].eval()(model.encoder.eval()(batch))
    return list(zip(encoded.offsets.tolist(), torch.sigmoid(logits).tolist(), strict=True))[1:-1]


@pytest.fixture(scope="module")
def model():
    return tiny.model(["rtd"], seed=5, name="electra")


@pytest.fixture(scope="module")
def spotted(model):
    return model.spot(tiny.sentences(40, seed=2))


def test_every_word_has_the_highest_probability_of_its_tokens(model, spotted):
    for text, words in zip(tiny.sentences(40, seed=2), spotted, strict=True):
        tokens = by_hand(model, text)
        assert [word.word for word in words] == text.split()
        for word in words:
            assert text[word.start : word.end] == word.word
            inside = [share for (a, b), share in tokens if word.start <= a and b <= word.end]
            assert word.probability == pytest.approx(max(inside), abs=1e-6)
            assert word.replaced == (word.probability > 0.5)
    probabilities = [word.probability for words in spotted for word in words]
    assert min(probabilities) < 0.5 < max(probabilities)
    assert any(len(word.word) > 1 and not known(model, word.word) for words in spotted for word in words)


def known(model, word):
    return word in model.tokenizer.vocabulary


def test_one_text_gives_one_list(model, spotted):
    texts = tiny.sentences(40, seed=2)
    for found, expected in zip(model.spot(texts[3]), spotted[3], strict=True):
        assert (found.word, found.start, found.end) == (expected.word, expected.start, expected.end)
        assert found.probability == pytest.approx(expected.probability, abs=1e-6)
    assert model.spot([]) == []
    assert model.spot("") == []
    assert model.spot(["", "river"])[0] == []


def test_punctuation_capitals_and_spaces_keep_their_places(model):
    text = "  The River,  quux-town!"
    assert [(word.word, word.start, word.end) for word in model.spot(text)] == [
        ("The", 2, 5), ("River", 6, 11), (",", 11, 12), ("quux", 14, 18), ("-", 18, 19), ("town", 19, 23),
        ("!", 23, 24),
    ]  # fmt: skip


def test_a_space_that_a_tokenizer_counts_to_a_word_is_not_part_of_it():
    """As byte-level and Unigram tokenizers do; a word of nothing but space is no word."""
    text = " the  river bed"
    ends = np.array([(0, 0), (0, 4), (4, 5), (5, 8), (8, 11), (11, 15), (0, 0)])
    encoded = tiny.tokenizer().encode("the the river book my", offsets=True)
    encoded = replace(encoded, offsets=ends, word_ids=np.array([-1, 0, 1, 2, 2, 3, -1]))
    found = spots([text], encoded, np.linspace(0.1, 0.7, 7))
    expected = [Spot("the", 1, 4, 0.2), Spot("river", 6, 11, 0.5), Spot("bed", 12, 15, 0.6)]
    for one, wanted in zip(found[0], expected, strict=True):
        assert (one.word, one.start, one.end) == (wanted.word, wanted.start, wanted.end)
        assert one.probability == pytest.approx(wanted.probability)
    assert [word.replaced for word in expected] == [False, False, True]


def test_words_of_a_long_text_are_spotted_in_windows_or_cut():
    text = " ".join(tiny.sentences(6, seed=4))
    windows = tiny.model(["rtd"], seed=5, name="electra", truncation="window", max_length=16)
    assert [word.word for word in windows.spot(text)] == text.split()
    cut = tiny.model(["rtd"], seed=5, name="electra", truncation="head", max_length=16)
    words = [word.word for word in cut.spot(text)]
    assert words == text.split()[: len(words)]
    assert 0 < len(words) < len(text.split())


def test_without_the_head_it_says_which_there_are():
    with pytest.raises(
        BothwaysError, match=r"spot needs the head 'rtd', which tiny does not have \(its heads: mlm, nsp"
    ):
        tiny.model(["mlm", "nsp"]).spot("the river")


def test_a_discriminator_of_another_library_spots_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    theirs = transformers.ElectraForPreTraining.from_pretrained(tmp_path / "model").eval()
    split = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "the river runs under an old bridge"
    inputs = split(text, return_tensors="pt")
    with torch.no_grad():
        shares = torch.sigmoid(theirs(**inputs).logits[0]).tolist()
    for place, word in enumerate(model.spot(text)):
        tokens = [share for share, at in zip(shares, inputs.word_ids(), strict=True) if at == place]
        assert word.probability == pytest.approx(max(tokens), abs=1e-5)
