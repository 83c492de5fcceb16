"""LoRA: low-rank updates that begin as nothing, merge into the weights, and travel in the folders of `peft`."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.tuning import lora
from bothways.model.build import build_encoder, build_head
from bothways.model.families import families
from bothways.run.adapter import CONFIG_FILE, WEIGHTS_FILE
from bothways.run.folder import Saved, write_folder

ROWS = [{"text": text, "label": ("even", "odd")[len(text) % 2]} for text in tiny.sentences(40, longest=12)]
TEXTS = [row["text"] for row in ROWS]


def tuned(base, out=None, task="classify", rows=ROWS, **own):
    given = {"lora": 3, "steps": 4, "batch_size": 8, "report": False, "learning_rate": 0.02, "metric": None}
    fixed = {"device": "cpu", "precision": "float32", "max_length": 32}
    return bw.finetune(task, base=base, train=rows, out=out, **fixed, **{**given, **own})


def learned(encoder, seed=5):
    """Gives the updates something to say."""
    for part in encoder.modules():
        if isinstance(part, lora.LowRank):
            tiny.randomise(part.up, seed)
    return encoder


@pytest.mark.parametrize("name", families())
def test_in_every_family_it_begins_as_the_base_and_merging_changes_nothing(name):
    encoder = tiny.randomise(build_encoder(tiny.config(name))).eval()
    batch = make_batch([[5, 6, 7, 8, 9], [10, 11, 12]])
    before = encoder(batch).sequence
    names = set(encoder.state_dict())
    lora.insert(encoder, 2, 4.0, None, 0.0, seed=0)
    torch.testing.assert_close(encoder(batch).sequence, before, rtol=0, atol=1e-6)
    learning = {name.rpartition(".")[0].rpartition(".")[2] for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning == {"down", "up"}
    apart = learned(encoder)(batch).sequence.detach()
    assert not torch.allclose(apart, before, atol=1e-3)
    updates = lora.merge(encoder)
    torch.testing.assert_close(encoder(batch).sequence, apart, rtol=1e-4, atol=1e-5)
    assert set(encoder.state_dict()) == names
    blocks = len(encoder.stack.blocks)
    assert len(updates) in (blocks, 2 * blocks)  # one fused projection, or queries and values


def test_only_updates_and_heads_get_a_gradient_and_the_rest_stays_to_the_bit():
    base = tiny.model(("classify",), layers=2)
    seen = {}

    def watch(event):
        seen.update({name: p.grad for name, p in event.model.named_parameters() if p.requires_grad})

    result = tuned(base, callbacks=[watch])
    assert {name.split(".")[0] for name in seen} == {"encoder", "classify"}
    assert all(name.startswith("classify.") or ".down." in name or ".up." in name for name in seen)
    before = base.encoder.state_dict()
    for name, value in result.model.encoder.state_dict().items():
        changed = name.endswith(("query.weight", "value.weight"))
        assert torch.equal(value, before[name]) is not changed, name


def test_targets_are_found_by_the_ends_of_their_names_and_slips_are_named():
    encoder = build_encoder(tiny.config("bert", layers=2))
    lora.insert(encoder, 2, 4.0, ("attention.output", "inner"), 0.0, seed=0)
    assert set(lora.merge(encoder)) == {
        f"encoder.stack.blocks.{layer}.{part}"
        for layer in (0, 1)
        for part in ("attention.output", "feed_forward.inner")
    }
    with pytest.raises(BothwaysError, match=r"names 'querry', .* encoder are inner, key.*did you mean 'query'"):
        lora.insert(encoder, 2, 4.0, ("querry",), 0.0, seed=0)


def test_the_adapter_is_small_and_gives_what_the_merged_model_gives(tmp_path):
    base = tiny.folder(tmp_path / "base", ("mlm",), layers=2)
    result = tuned(base, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run" / "adapter").iterdir()}
    assert files == {CONFIG_FILE, WEIGHTS_FILE, "bothways.json"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(BothwaysError, match="mine holds something else than an adapter, which is not replaced"):
        result.model.save_adapter(result.adapter, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    merged = bw.load(tmp_path / "run", device="cpu")
    added = bw.load(base, adapter=tmp_path / "run" / "adapter", device="cpu")
    for model in (merged, added):
        found = model.class_probabilities(TEXTS)
        assert found == pytest.approx(result.model.class_probabilities(TEXTS), abs=1e-5)
    assert (added.labels, added.task, added.max_length) == (merged.labels, "classify", 32)
    assert added.decoding == merged.decoding
    own = load_file(tmp_path / "run" / "adapter" / WEIGHTS_FILE)
    assert not any("embeddings" in name or "intermediate" in name for name in own)


def test_heads_that_no_published_class_has_travel_beside(tmp_path):
    base = tiny.folder(tmp_path / "base", ("mlm",), layers=2)
    result = tuned(base, tmp_path / "run", hidden="gelu", reads="mean")
    assert (tmp_path / "run" / "adapter" / "heads.safetensors").is_file()
    added = bw.load(base, adapter=tmp_path / "run" / "adapter", device="cpu")
    assert added.class_probabilities(TEXTS) == pytest.approx(result.model.class_probabilities(TEXTS), abs=1e-5)


def test_an_encoder_that_nobody_published_has_adapters_too(tmp_path):
    base = tiny.folder(tmp_path / "base", ("mlm",), layers=3, blocks=2)
    result = tuned(base, tmp_path / "run")
    added = bw.load(base, adapter=tmp_path / "run" / "adapter", device="cpu")
    assert added.class_probabilities(TEXTS) == pytest.approx(result.model.class_probabilities(TEXTS), abs=1e-5)


@pytest.fixture
def adapter(tmp_path):
    """A base and an adapter for it."""
    base = tiny.folder(tmp_path / "base", ("mlm",), layers=2)
    tuned(base, tmp_path / "run")
    return base, tmp_path / "run" / "adapter"


def test_an_adapter_for_another_base_is_refused(adapter, tmp_path):
    _, folder = adapter
    other = tiny.folder(tmp_path / "other", ("mlm",), layers=2, seed=9)
    with pytest.raises(
        BothwaysError, match=r"adapter in .* was made for .*base, and the weights of .*other are others"
    ):
        bw.load(other, adapter=folder)
    (folder / "bothways.json").unlink()  # as `peft` would have written it
    config = json.loads((folder / CONFIG_FILE).read_text())
    wider = tiny.folder(tmp_path / "wider", ("mlm",), layers=2, width=96, embeddings__width=96)
    with pytest.raises(BothwaysError, match=r"was made for another base"):
        bw.load(wider, adapter=folder)
    fewer = tiny.folder(tmp_path / "fewer", ("mlm",), layers=1)
    with pytest.raises(BothwaysError, match=r"it changes encoder.stack.blocks.1.*has no such layer"):
        bw.load(fewer, adapter=folder)
    (folder / CONFIG_FILE).write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(BothwaysError, match=r"use_dora = True, which is not supported; False is"):
        bw.load(wider, adapter=folder)


def test_predictions_and_evaluations_through_an_adapter_are_those_of_the_merged_model(adapter, tmp_path, capsys):
    base, folder = adapter
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    said = []
    for model in ([folder.parent], [base, "--adapter", folder]):
        assert main(["predict", *map(str, model), str(rows), "--quiet"]) == 0
        predicted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert main(["evaluate", *map(str, model), str(rows), "--json", "--quiet"]) == 0
        scores = json.loads(capsys.readouterr().out)
        said.append(([row["prediction"] for row in predicted], scores["macro_f1"], scores["classes"]))
        assert scores["model"] == str(model[-1])
    assert said[0] == said[1]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_adapter_for_another_base_is_one_sentence_on_the_command_line(command, adapter, tmp_path, capsys):
    _, folder = adapter
    other = tiny.folder(tmp_path / "other", ("mlm",), layers=2, seed=9)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:4]))
    assert main([command, str(other), str(rows), "--adapter", str(folder), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "was made for" in said
    assert "load it with the base that it was made for" in said


def test_damaged_and_missing_adapters_are_refused(adapter, tmp_path):
    base, folder = adapter
    with pytest.raises(BothwaysError, match=r"is not an adapter's folder: it has no adapter_config.json"):
        bw.load(base, adapter=base)
    tensors = load_file(folder / WEIGHTS_FILE)
    half = {name: value for name, value in tensors.items() if "layer.0.attention.self.query.lora_B" not in name}
    save_file(half, folder / WEIGHTS_FILE)
    with pytest.raises(BothwaysError, match=r"half of the update of encoder.stack.blocks.0.attention.query is missing"):
        bw.load(base, adapter=folder)
    save_file({**tensors, "base_model.model.transformer.h.0.weight": torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(BothwaysError, match=r"has no place for its tensor base_model.model.transformer.h.0.weight"):
        bw.load(base, adapter=folder)


# -- parity with peft

PEFT = {
    "bert": ("ForSequenceClassification", ["query", "value"]),
    "roberta": ("ForSequenceClassification", ["query", "value"]),
    "distilbert": ("ForSequenceClassification", ["q_lin", "v_lin"]),
    "albert": ("ForSequenceClassification", ["query", "value"]),
    "deberta": ("ForSequenceClassification", ["in_proj"]),
    "deberta-v2": ("ForSequenceClassification", ["query_proj", "value_proj"]),
    "modernbert": ("ForSequenceClassification", ["Wqkv"]),
}

SAID = {"modernbert": {"classifier_pooling": "mean"}}
"""What the base's configuration, which an adapter does not change, has to say of our head."""


def folder_of(path, name, heads):
    """A saved model of a family, with a tokenizer that fits."""
    words = tiny.tokenizer()
    config = tiny.config(name).for_vocabulary(words.size, words.pad_id)
    configs = {kind: tiny.head(name, kind) for kind in heads}
    if not any(head.needs_pooler for head in configs.values()):
        config = config.derive(pooler=None)
    encoder = tiny.randomise(build_encoder(config)).eval()
    modules = {kind: tiny.randomise(build_head(head, config), 1).eval() for kind, head in configs.items()}
    write_folder(Saved(encoder=encoder, heads=modules, head_configs=configs, tokenizer=words), path)
    return path


def theirs(model, tokenizer, texts):
    """The logits of a model of `transformers`, one text at a time."""
    rows = tokenizer.encode(texts, max_length=32)
    found = []
    for begin, end in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        ids = torch.as_tensor(rows.token_ids[begin:end])[None].long()
        with torch.no_grad():
            found.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0])
    return torch.stack(found)


@pytest.mark.parametrize("name", PEFT)
def test_peft_opens_our_adapter_and_computes_the_same(name, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = folder_of(tmp_path / "base", name, ("mlm",))
    result = tuned(base, tmp_path / "run")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, **SAID.get(name, {}))
    both = peft.PeftModel.from_pretrained(model.eval(), tmp_path / "run" / "adapter").eval()
    temperature = result.model.decoding.get("classify", {}).get("temperature", 1.0)
    found = torch.softmax(theirs(both, result.model.tokenizer, TEXTS[:6]) / temperature, -1)
    assert found.numpy() == pytest.approx(result.model.class_probabilities(TEXTS[:6]), abs=2e-5)


@pytest.mark.parametrize("begun", ["pissa", "olora", "loftq", "corda"])
def test_an_adapter_whose_base_is_not_the_published_one_is_refused(begun, adapter):
    base, folder = adapter
    config = json.loads((folder / CONFIG_FILE).read_text()) | {"init_lora_weights": begun}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(BothwaysError, match=f"init_lora_weights = '{begun}', which is not supported"):
        bw.load(base, adapter=folder)


@pytest.mark.parametrize("name", PEFT)
def test_we_open_peft_s_adapter_and_compute_the_same(name, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = folder_of(tmp_path / "base", name, ("mlm",))
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=PEFT[name][1], use_rslora=name == "bert",
        modules_to_save=["pooler"] if name in ("bert", "albert", "deberta", "deberta-v2") else
        {"modernbert": ["head"], "distilbert": ["pre_classifier"]}.get(name),
    )  # fmt: skip
    both = peft.get_peft_model(model, config).eval()
    for key, value in both.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.2)
    both.save_pretrained(tmp_path / "adapter")
    ours = bw.load(base, adapter=tmp_path / "adapter", device="cpu")
    assert ours.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    found = torch.softmax(theirs(both, ours.tokenizer, TEXTS[:6]), -1)
    assert found.numpy() == pytest.approx(ours.class_probabilities(TEXTS[:6]), abs=2e-5)
