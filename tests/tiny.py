"""Small models for the tests: random weights large enough that a mistake shows, a vocabulary made from a text."""

import re

import numpy as np
import torch

from bothways.batch import mark_global
from bothways.model.build import build_encoder, build_head
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.run.folder import Saved, write_folder
from bothways.run.model import Model
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer
from cases import case

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KNOWN = """
the a of and to in is was it for on as with his he at by from her she they were which or an are this but be not have had
one all out when up there been who him more if no so what said its about into than them can only other new some time
could these two may then do first any my now such like our over man me even most made after also did many before must
red river stone bridge small town old house garden winter summer morning evening teacher child book letter music
"""
LABELS = ("bad", "fine", "good")


def tokenizer(text=KNOWN, max_length=None):
    """A lower-casing WordPiece tokenizer that knows the words of a text, and every letter for the others."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"
    words = [word for word in dict.fromkeys(re.findall(r"\w+", text.lower())) if len(word) > 1]
    tokens = [*SPECIALS, *letters, *(f"##{letter}" for letter in letters if letter.isalnum()), *words]
    return Tokenizer.from_vocabulary(tokens, Normalization(), max_length)


def config(name="bert", **changes):
    """A family's smallest size, made narrower."""
    assert "family" not in changes, "that would be another family's shape under its name: give name"
    small = min(family(name).sizes.values(), key=lambda size: (size.layers, size.width))
    return small.derive(**{**case(name).NARROW, "embeddings__vocab_size": 211, **changes})


@torch.no_grad()
def randomise(module, seed=0, spread=0.1):
    """Draws every parameter, biases and norms too, so that none of them could be left out unnoticed."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in sorted(module.named_parameters()):
        middle = 1.0 if re.search(r"norm\.weight$", name, re.IGNORECASE) else 0.0
        value.copy_(middle + spread * torch.randn(value.shape, generator=draw))
    return module


def head(name, kind):
    """A family's head, with classes where it has any."""
    return family(name).head(kind, labels=LABELS if kind in ("classify", "tag") else ())


def marked(batch, saved, separator=2):
    """A batch with the tokens marked that the first of a model's heads with such a wish wants to be global."""
    rules = [head.global_tokens for head in saved.head_configs.values() if head.global_tokens != "none"]
    return mark_global(batch, rules[0], separator) if rules else batch


def saved(heads=("mlm", "nsp"), *, seed=0, texts=None, hidden="none", recipe=None, max_length=None, **changes):
    """A random model as a folder holds it, with a tokenizer that fits."""
    words = tokenizer() if texts is None else tokenizer(texts)
    made = config(**{"embeddings__vocab_size": words.size, **changes})
    head_configs = {kind: head(made.family, kind) for kind in heads}
    if hidden != "none":
        head_configs["classify"] = head_configs["classify"].derive(hidden=hidden)
    encoder = randomise(build_encoder(made), seed)
    modules = {kind: randomise(build_head(head, made), seed + 1).eval() for kind, head in head_configs.items()}
    return Saved(
        encoder=encoder.eval(),
        heads=modules,
        head_configs=head_configs,
        tokenizer=words,
        sentence=recipe or SentenceRecipe(),
        max_length=max_length,
    )


def model(heads=("mlm", "nsp", "classify"), *, precision="float32", truncation="warn", **changes):
    """A random model at work."""
    return Model(saved(heads, **changes), device="cpu", precision=precision, truncation=truncation, name="tiny")


def folder(path, heads=("mlm", "nsp"), **changes):
    """A random model's folder."""
    write_folder(saved(heads, **changes), path)
    return path


def ranker(path, kind, **settings):
    """The folder of a random model with a single head of those settings."""
    made = saved(())
    made.head_configs[kind] = HeadConfig(kind=kind, reads="first", **settings)
    made.heads[kind] = randomise(build_head(made.head_configs[kind], made.encoder.config))
    write_folder(made, path)
    return path


def sentences(count, seed=0, longest=30):
    """Texts of words that the vocabulary holds, and some that it does not, of 1 to `longest` words."""
    draw = np.random.default_rng(seed)
    known = [*KNOWN.split(), "zebra", "quux", "1984"]
    return [" ".join(draw.choice(known, size=draw.integers(1, longest + 1))) for _ in range(count)]
