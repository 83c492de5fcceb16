"""What older and published checkpoints of RoBERTa and its relatives hold.

The test of real weights needs those of Sapiens, which are not installed with the others because that package asks for
an old torch: ``pip install --no-deps sapiens==1.0.5``.
"""

import argparse
import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch
from bothways.model.families import family
from bothways.run.folder import encoder_config, read_folder, write_folder
from bothways.run.weights import write_safetensors
from test_roberta import NAMES, TOLERANCE, theirs_of

# -- names of older checkpoints


@torch.no_grad()
def old_checkpoint(folder, name="roberta"):
    """A masked-token model as the first conversions hold it: repeated tables, counters, a pooler nothing reads."""
    theirs = theirs_of(tiny.config(name), "ForMaskedLM")
    tensors = dict(theirs.state_dict())
    width = theirs.config.hidden_size
    tensors |= {
        "lm_head.decoder.weight": tensors["roberta.embeddings.word_embeddings.weight"].clone(),
        "lm_head.decoder.bias": tensors["lm_head.bias"].clone(),
        "roberta.embeddings.position_ids": torch.arange(514)[None],
        "roberta.embeddings.token_type_ids": torch.zeros(1, 514, dtype=torch.long),
        "roberta.pooler.dense.weight": torch.randn(width, width),
        "roberta.pooler.dense.bias": torch.randn(width),
    }
    folder.mkdir(exist_ok=True)
    theirs.config.save_pretrained(folder)
    return theirs, tensors


@torch.no_grad()
def assert_same_logits(theirs, saved):
    ids = torch.arange(5, 40)
    sequence = saved.encoder(make_batch([ids.numpy()])).sequence
    found = saved.heads["mlm"](sequence, saved.encoder.token_table)
    assert (found - theirs(ids[None]).logits[0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_old_checkpoints_load_without_a_word(name, file, tmp_path):
    theirs, tensors = old_checkpoint(tmp_path, name)
    torch.save(tensors, tmp_path / file) if file.endswith("bin") else write_safetensors(tensors, tmp_path / file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved = read_folder(tmp_path)
    assert (list(saved.heads), str(saved.report)) == (["mlm"], "")
    assert saved.encoder.pooler is not None
    assert_same_logits(theirs, saved)


@pytest.mark.parametrize("file", ["a pooler", "no pooler"])
def test_a_published_pooler_is_kept_and_written(file, tmp_path):
    """What a folder held stays in it: a classifier may be trained on it yet."""
    _, tensors = old_checkpoint(tmp_path / "old")
    kept = {key: value for key, value in tensors.items() if file == "a pooler" or "pooler" not in key}
    write_safetensors(kept, tmp_path / "old" / "model.safetensors")
    write_folder(read_folder(tmp_path / "old"), tmp_path / "new")
    again = read_folder(tmp_path / "new")
    assert (again.encoder.pooler is not None) == (file == "a pooler")
    if again.encoder.pooler is not None:
        assert torch.equal(again.encoder.pooler.dense.weight, tensors["roberta.pooler.dense.weight"])


def test_a_table_under_its_second_name_is_enough(tmp_path):
    theirs, tensors = old_checkpoint(tmp_path)
    for repeated in ("roberta.embeddings.word_embeddings.weight", "lm_head.bias"):
        del tensors[repeated]
    write_safetensors(tensors, tmp_path / "model.safetensors")
    saved = read_folder(tmp_path)
    assert not str(saved.report)
    assert_same_logits(theirs, saved)


def test_a_second_table_that_is_another_is_reported(tmp_path):
    _, tensors = old_checkpoint(tmp_path)
    tensors["lm_head.decoder.weight"][3, 3] += 1
    write_safetensors(tensors, tmp_path / "model.safetensors")
    with pytest.warns(match=r"not used: lm_head\.decoder\.weight"):
        assert read_folder(tmp_path).report.unexpected == ["lm_head.decoder.weight"]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_without_model_type_is_known_by_its_class(name, tmp_path):
    members = family(name)
    settings = members.to_hf(members.size()) | {"architectures": [members.architectures[frozenset({"mlm"})]]}
    del settings["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert encoder_config(tmp_path) == members.size()


@pytest.mark.parametrize("name", NAMES)
def test_a_config_without_padding_id_has_the_usual_one(name):
    """The first published files left it out: it is 1 in the classes of `transformers`."""
    members = family(name)
    settings = members.to_hf(members.size())
    del settings["pad_token_id"]
    assert members.from_hf(settings) == members.size()
    assert transformers.AutoConfig.for_model(**settings).pad_token_id == 1


# -- real weights

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRY"
    "ADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
VL = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQGTKVEIK"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
FROM_FAIRSEQ = {
    "decoder.sentence_encoder.": "roberta.",
    "embed_tokens.": "embeddings.word_embeddings.",
    "embed_positions.": "embeddings.position_embeddings.",
    "emb_layer_norm.": "embeddings.LayerNorm.",
    "roberta.layers.": "roberta.encoder.layer.",
    "self_attn.q_proj.": "attention.self.query.",
    "self_attn.k_proj.": "attention.self.key.",
    "self_attn.v_proj.": "attention.self.value.",
    "self_attn.out_proj.": "attention.output.dense.",
    "self_attn_layer_norm.": "attention.output.LayerNorm.",
    "fc1.": "intermediate.dense.",
    "fc2.": "output.dense.",
    "final_layer_norm.": "output.LayerNorm.",
    "decoder.lm_head.weight": "lm_head.decoder.weight",
    "decoder.lm_head.": "lm_head.",
}


def sapiens():
    """The folder of Sapiens' weights, or None; the package itself is not imported."""
    found = importlib.util.find_spec("sapiens")
    folder = found and Path(found.origin).parent / "models" / "v1"
    return folder if folder and folder.is_dir() else None


def converted(checkpoint, folder):
    """A checkpoint of fairseq, where RoBERTa comes from, in the layout of the Hugging Face ecosystem."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    tensors = {}
    for name, value in held["model"].items():
        for theirs, published in FROM_FAIRSEQ.items():
            name = name.replace(theirs, published)
        tensors[name] = value
    stated = held["args"]
    settings = {
        "model_type": "roberta",
        "architectures": ["RobertaForMaskedLM"],
        "vocab_size": len(tensors["roberta.embeddings.word_embeddings.weight"]),
        "hidden_size": stated.encoder_embed_dim,
        "num_hidden_layers": stated.encoder_layers,
        "num_attention_heads": stated.encoder_attention_heads,
        "intermediate_size": stated.encoder_ffn_embed_dim,
        "hidden_act": stated.activation_fn,
        "max_position_embeddings": len(tensors["roberta.embeddings.position_embeddings.weight"]),
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
    }
    # there is no segment in fairseq, which is the same as one that is zero
    tensors["roberta.embeddings.token_type_embeddings.weight"] = torch.zeros(1, stated.encoder_embed_dim)
    folder.mkdir()
    write_safetensors(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.skipif(sapiens() is None, reason="sapiens, which carries the weights, is not installed")
@pytest.mark.parametrize(("chain", "residues", "longest", "found"), [("vh", VH, 144, 92), ("vl", VL, 128, 91)])
@torch.no_grad()
def test_published_weights_know_an_antibody(chain, residues, longest, found, tmp_path):
    """Each residue of trastuzumab masked in turn: 92 of 120 and 91 of 107 are found again."""
    folder = converted(sapiens() / f"checkpoint_{chain}.pt", tmp_path / chain)
    saved = read_folder(folder)
    assert (list(saved.heads), str(saved.report), saved.encoder.config.longest) == (["mlm"], "", longest)
    ids = np.array([0, *(4 + LETTERS.index(letter) for letter in residues), 2])
    places = np.arange(1, len(ids) - 1)
    masked = np.where(np.arange(len(ids)) == places[:, None], 4 + len(LETTERS), ids)
    batch = make_batch(list(masked))
    assert (batch.rows == np.arange(len(masked))).all()
    sequence = saved.encoder(batch).sequence.unflatten(0, (len(masked), -1))
    logits = saved.heads["mlm"](sequence[torch.arange(len(masked)), places], saved.encoder.token_table)
    assert int((logits.argmax(-1) == torch.from_numpy(ids[places])).sum()) == found
    theirs = transformers.RobertaForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    expected = theirs(torch.from_numpy(masked)).logits[torch.arange(len(masked)), places]
    assert (logits - expected).abs().max() < TOLERANCE * 10  # logits of up to 30
