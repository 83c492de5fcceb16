"""The causal twin: BERT's encoder under the mask of a GPT. No published family; for comparison and teaching.

It answers what looking both ways is worth: pre-trained on the same masked tokens with the same number of parameters, it
has to guess each from what stands before it alone (Devlin et al. 2018, section 5.1, compare the two in that way; the
mask is that of Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training"). Differences from
BERT:

- no token looks at a later one;
- no pooled output: the first token sees only itself, so heads for whole texts read the mean of all tokens;
- pre-trained on masked tokens alone.

Sizes are BERT's. No class of `transformers` computes it, so Bothways alone opens its folders.
"""

from __future__ import annotations

from bothways.model.config import CausalAttentionConfig, EncoderConfig, HeadConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead


def _twin(config: EncoderConfig) -> EncoderConfig:
    """The same size, looking one way."""
    full = config.attention
    causal = CausalAttentionConfig(heads=full.heads, dropout=full.dropout, bias=full.bias)
    return config.derive(family="causal", attention=causal, pooler=None)


SIZES = {name: _twin(bert.SIZES[name]) for name in ("tiny", "mini", "small", "medium", "base", "large")}

HEADS = {
    "mlm": FamilyHead(HeadConfig(kind="mlm"), {}),
    "nsp": FamilyHead(HeadConfig(kind="nsp", reads="mean"), {}),
    "sop": FamilyHead(HeadConfig(kind="sop", reads="mean"), {}),
    "classify": FamilyHead(HeadConfig(kind="classify", reads="mean"), {}),
    "tag": FamilyHead(HeadConfig(kind="tag"), {}),
    "answer": FamilyHead(HeadConfig(kind="answer", dropout=0.0), {}),
    "choose": FamilyHead(HeadConfig(kind="choose", reads="mean"), {}),
}

FAMILY = Family(
    name="causal",
    title="the causal twin",
    year=2018,
    paper="none: the causal twin of Devlin et al. 2018 has the mask of Radford et al. 2018, and nothing else of theirs",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="wordpiece",
)
