"""DeBERTaV3 and v2: He, Gao and Chen, 2021, "DeBERTaV3", and the second edition of He, Liu, Gao and Chen, 2020.

One kind of model, trained in two ways. Differences from BERT, beyond those of DeBERTa:

- SentencePiece tokens, 128,100 of them, 251,000 in the multilingual mDeBERTa;
- query, key and value are three projections with biases each, and distances go through those of queries and keys;
- distances beyond 128 share rows of their table by logarithm, 256 rows to either side, and the table is normed;
- v2: a convolution over three tokens beside the first layer; pre-trained on masked tokens;
- v3: pre-trained on replaced tokens, as ELECTRA is, but with a generator as wide and half as deep, and what the
  discriminator learns never reaches its tables (`bothways.model.disentangled_tables`); the head reads each token's
  sum with the first one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.errors import BothwaysError
from bothways.model.config import ConvolutionConfig, DisentangledAttentionConfig, EncoderConfig, HeadConfig
from bothways.model.families import bert, deberta
from bothways.model.families.family import Family, FamilyHead, GeneratorPlan, classes
from bothways.model.families.hf import ACTIVATIONS, HF_ACTIVATIONS, Reader, attention_of

BASE = deberta.BASE.derive(
    family="deberta-v2",
    embeddings__vocab_size=128_100,
    attention__fused=False,
    attention__share_projections=True,
    attention__buckets=256,
    attention__norm_table=True,
)


def _size(layers: int, width: int, **changes: Any) -> EncoderConfig:
    """A published size: heads are 64 wide, the feed-forward layer four times the width."""
    return BASE.derive(
        layers=layers,
        width=width,
        embeddings__width=width,
        attention__heads=width // 64,
        feed_forward__width=4 * width,
        **changes,
    )


SIZES = {
    "v3-xsmall": _size(12, 384),
    "v3-small": _size(6, 768),
    "v3-base": BASE,
    "v3-large": _size(24, 1024),
    "mdeberta-v3-base": BASE.derive(embeddings__vocab_size=251_000),
    "v2-xlarge": _size(24, 1536, convolution=ConvolutionConfig(kernel=3)),
    "v2-xxlarge": _size(48, 1536, convolution=ConvolutionConfig(kernel=3)),
}

_SELF, _OURS = "encoder.layer.{}.attention.self", "encoder.stack.blocks.{}.attention"

NAMES = replace(
    deberta.NAMES,
    names={
        **{theirs: ours for theirs, ours in deberta.NAMES.names.items() if _SELF not in theirs},
        f"{_SELF}.query_proj.*": f"{_OURS}.query.*",
        f"{_SELF}.key_proj.*": f"{_OURS}.key.*",
        f"{_SELF}.value_proj.*": f"{_OURS}.value.*",
        f"{_SELF}.pos_key_proj.*": f"{_OURS}.position_key.*",
        f"{_SELF}.pos_query_proj.*": f"{_OURS}.position_query.*",
        "encoder.LayerNorm.*": "encoder.scheme.norm.*",
        "encoder.conv.conv.*": "encoder.stack.convolution.conv.*",
        "encoder.conv.LayerNorm.*": "encoder.stack.convolution.norm.*",
    },
    # _weight: what a discriminator had learnt beyond its generator's table; the published table is their sum already
    dropped=(*deberta.NAMES.dropped, r"embeddings\.(word|position)_embeddings\._weight"),
)

HEADS = {
    **deberta.HEADS,
    "rtd": FamilyHead(
        HeadConfig(kind="rtd", first_added=True),
        {
            "mask_predictions.LayerNorm.*": "rtd.norm.*",
            "mask_predictions.dense.*": "rtd.dense.*",
            "mask_predictions.classifier.*": "rtd.output.*",
            "mask_predictions.classifer.weight": "rtd.output.weight",  # so spelt in the published code
            "mask_predictions.classifer.bias": "rtd.output.bias",
        },
    ),
    "choose": FamilyHead(
        HeadConfig(kind="choose", reads="first", hidden="gelu", input_dropout=False),
        {
            "pooler.dense.*": "choose.hidden.*",
            **bert.HEADS["choose"].names,
        },
        dropout=deberta.HEADS["classify"].dropout,
    ),
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from the ``config.json`` of DeBERTa v2 and v3.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    # what is left out means the size v2-xlarge
    sizes = {"hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24, "intermediate_size": 6144}
    own = Reader(sizes | config)
    norms = [name.strip() for name in own.get("norm_rel_ebd", "none").lower().split("|")]
    if set(norms) - {"none", "layer_norm"}:
        raise BothwaysError(f"config.json says norm_rel_ebd = {norms}, which is not supported; 'layer_norm' is")
    activation = own.get("conv_act", "tanh")
    if activation not in ACTIVATIONS | {"tanh": "tanh"}:
        raise BothwaysError(f"config.json says conv_act = {activation!r}, which is not supported; 'gelu' is")
    kernel, groups = own.get("conv_kernel_size", 0), own.get("conv_groups", 1)
    attention = {
        "buckets": max(own.get("position_buckets", -1), 0),
        "share_projections": own.get("share_att_key", False),
        "norm_table": "layer_norm" in norms,
    }
    made = deberta.read(own.config, own.known, **attention).derive(family="deberta-v2")
    if kernel < 1:
        return made
    activation = ACTIVATIONS.get(activation, activation)
    return made.derive(convolution=ConvolutionConfig(kernel=kernel, groups=groups, activation=activation))


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """The ``config.json`` of DeBERTa v2 and v3 from our configuration."""
    attention, beside = attention_of(config, DisentangledAttentionConfig), config.convolution
    written = deberta.to_hf(config) | {
        "model_type": "deberta-v2",
        "position_buckets": attention.buckets or -1,
        "share_att_key": attention.share_projections,
        "norm_rel_ebd": "layer_norm" if attention.norm_table else "none",
    }
    if beside is not None:
        written["conv_kernel_size"], written["conv_groups"] = beside.kernel, beside.groups
        written["conv_act"] = HF_ACTIVATIONS.get(beside.activation, beside.activation)
    return written


FAMILY = Family(
    name="deberta-v2",
    title="DeBERTaV3",
    year=2021,
    paper="He, Gao and Chen, DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training with Gradient-Disentangled "
    "Embedding Sharing, ICLR 2023",
    sizes=SIZES,
    default_size="v3-base",
    heads=HEADS,
    objectives=("rtd", "mlm"),
    tokenizer="unigram",
    mask_decoder="enhanced",
    generator=GeneratorPlan(width=1.0, layers=0.5, tables="disentangled"),
    dropouts=deberta.FAMILY.dropouts,
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("DebertaV2", "mlm", "classify", "tag", "answer", "choose"),
)
