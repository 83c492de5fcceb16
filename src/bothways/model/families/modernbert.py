"""ModernBERT: Warner et al., 2024, "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder".

Differences from BERT:

- no positions and no segments are added; queries and keys are turned by angles that grow with the position (RoPE);
- every third layer, the first one too, looks at all tokens, the others at 64 to either side; each kind of layer has its
  own base of angles, 160,000 and 10,000;
- the norm stands before attention and feed-forward, and once at the end (pre-norm); the first attention has none, the
  embeddings' is just before it;
- the feed-forward layer is gated: its inner half with GELU multiplies the other;
- no biases in linear layers and norms, except those that score classes and tokens;
- no dropout as published; what there is, drops attention weights and attention's output, and inner values;
- texts of up to 8,192 tokens, unpadded, as here all families are;
- no pooled output: heads read the mean of all tokens, or the first, through a hidden layer, GELU and norm;
- byte-level BPE, 50,368 rows; pre-trained on masked tokens alone.
"""

from __future__ import annotations

from typing import Any

from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig, HeadConfig, RotaryAttentionConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead
from bothways.model.families.hf import HF_ACTIVATIONS, Reader, attention_of
from bothways.model.families.names import NameTable

BASE = bert.BASE.derive(
    family="modernbert",
    layers=22,
    embeddings__positions=0,
    embeddings__segments=0,
    attention=RotaryAttentionConfig(
        heads=12,
        dropout=0.0,
        bias=False,
        base=160_000.0,
        local_base=10_000.0,
        windows=(0, 64, 64),
    ),
    norm="pre",
    first_norm=False,
    norm_eps=1e-5,
    embeddings__norm_eps=1e-5,
    feed_forward__gated=True,
    feed_forward__width=1152,
    norm_bias=False,
    embeddings__norm_bias=False,
    feed_forward__bias=False,
    dropout=0.0,
    embeddings__dropout=0.0,
    max_length=8192,
    pooler=None,
    embeddings__vocab_size=50_368,
    embeddings__pad_id=50_283,
)

SIZES = {
    "base": BASE,
    "large": BASE.derive(
        layers=28, width=1024, embeddings__width=1024, attention__heads=16, feed_forward__width=2624
    ),
}  # fmt: skip

NAMES = NameTable(
    prefix="model.",
    names={
        "embeddings.tok_embeddings.weight": "encoder.embeddings.tokens.weight",
        "embeddings.norm.weight": "encoder.embeddings.norm.weight",
        "layers.{}.attn_norm.weight": "encoder.stack.blocks.{}.attention_norm.weight",
        "layers.{}.attn.Wqkv.weight": "encoder.stack.blocks.{}.attention.qkv.weight",
        "layers.{}.attn.Wo.weight": "encoder.stack.blocks.{}.attention.output.weight",
        "layers.{}.mlp_norm.weight": "encoder.stack.blocks.{}.feed_forward_norm.weight",
        "layers.{}.mlp.Wi.weight": "encoder.stack.blocks.{}.feed_forward.inner.weight",
        "layers.{}.mlp.Wo.weight": "encoder.stack.blocks.{}.feed_forward.output.weight",
        "final_norm.weight": "encoder.stack.norm.weight",
    },
    tied={"decoder.weight": "embeddings.tok_embeddings.weight"},
)


def _scorer(kind: str) -> FamilyHead:
    """Linear, GELU, norm, dropout, linear."""
    return FamilyHead(
        HeadConfig(
            kind=kind,  # type: ignore[arg-type]
            reads="mean",
            hidden="gelu",
            hidden_norm=True,
            bias=False,
            dropout=0.0,
            input_dropout=False,
        ),
        {
            "head.dense.weight": f"{kind}.hidden.weight",
            "head.norm.weight": f"{kind}.norm.weight",
            "classifier.weight": f"{kind}.output.weight",
            "classifier.bias": f"{kind}.output.bias",
        },
        dropout=("classifier_dropout",),
        reads="classifier_pooling",
    )


HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm", hidden="gelu", bias=False),
        {"head.dense.weight": "mlm.dense.weight", "head.norm.weight": "mlm.norm.weight", "decoder.bias": "mlm.bias"},
    ),
    **{kind: _scorer(kind) for kind in ("classify", "tag", "answer", "choose")},
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from ModernBERT's ``config.json``, in its spelling of 2024 or today's.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    # how kernels run, what the loss looks at, how random weights are drawn; and keys of other families that the
    # published files carry; the pooling of heads is the folder reader's
    ignored = {
        "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "sparse_prediction",
        "sparse_pred_ignore_index", "initializer_cutoff_factor", "layer_norm_eps", "position_embedding_type",
        "classifier_pooling",
    }  # fmt: skip
    read = Reader(config, ignored=frozenset(ignored))
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        read.only(key, False)
    read.only("decoder_bias", True)
    read.only("classifier_activation", "gelu")
    read.only("tie_word_embeddings", True)
    read.only("rope_scaling", None)
    width, layers = read.get("hidden_size", 768), read.get("num_hidden_layers", 22)
    norm_eps = read.get("norm_eps", 1e-5)
    base = _base(read, "full_attention", "global_rope_theta", 160_000.0)
    made = BASE.derive(
        layers=layers,
        width=width,
        embeddings__width=width,
        embeddings__vocab_size=read.get("vocab_size", 50_368),
        embeddings__pad_id=read.get("pad_token_id", 50_283) or 0,
        embeddings__norm_eps=norm_eps,
        embeddings__dropout=read.get("embedding_dropout", 0.0),
        attention__heads=read.get("num_attention_heads", 12),
        attention__dropout=read.get("attention_dropout", 0.0),
        attention__base=base,
        attention__local_base=_base(read, "sliding_attention", "local_rope_theta", 10_000.0, null=base),
        attention__windows=_windows(read, layers),
        feed_forward__width=read.get("intermediate_size", 1152),
        feed_forward__activation=read.activation("hidden_activation"),
        feed_forward__dropout=read.get("mlp_dropout", 0.0),
        norm_eps=norm_eps,
        init_std=read.get("initializer_range", 0.02),
        max_length=read.get("max_position_embeddings", 8192),
    )
    read.finish()
    return made


def _base(read: Reader, layers: str, older: str, default: float, null: float | None = None) -> float:
    """The base of the angles in one kind of layer: today's spelling counts where both are there, `null` is a null."""
    earlier, stated = read.get(older, default), read.get("rope_parameters", None) or {}
    own = stated.get(layers) or {}
    plain = own.get("rope_type", "default") == "default" and own.keys() <= {"rope_type", "rope_theta"}
    if not plain or stated.keys() - {_kind(True), _kind(False)}:
        raise BothwaysError(
            f"config.json says rope_parameters = {stated!r}, which is not supported; "
            f"a rope_theta of the type default for {_kind(True)} and {_kind(False)} is"
        )
    base = own.get("rope_theta", earlier)
    base = null if base is None else base
    if base is None:
        raise BothwaysError(f"config.json says {older} = null, which is not supported; give the number")
    return float(base)


def _windows(read: Reader, layers: int) -> tuple[int, ...]:
    """How far each layer looks, as the shortest list that repeats itself; every third one whole, if that says it."""
    local, every = read.get("local_attention", 128), read.get("global_attn_every_n_layers", 3)
    if local < 2 or every < 1:
        raise BothwaysError(
            f"config.json says local_attention = {local} and global_attn_every_n_layers = {every}, "
            "but a window holds at least 2 tokens, and one layer of 1 or more looks at all"
        )
    kinds = read.get("layer_types", None) or [_kind(layer % every == 0) for layer in range(layers)]
    if len(kinds) != layers or set(kinds) - {_kind(True), _kind(False)}:
        raise BothwaysError(
            f"config.json says layer_types = {kinds!r}, but there are {layers} layers, {_kind(True)} or {_kind(False)}"
        )
    windows = tuple(0 if kind == _kind(True) else local // 2 for kind in kinds)
    patterns = [(0, local // 2, local // 2), *(windows[:size] for size in range(1, layers + 1))]
    return next(pattern for pattern in patterns if (pattern * layers)[:layers] == windows)


def _kind(whole: bool) -> str:
    return "full_attention" if whole else "sliding_attention"


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """ModernBERT's ``config.json`` from our configuration, in today's spelling."""
    attention = attention_of(config, RotaryAttentionConfig)
    pattern = attention.windows
    return {
        "model_type": "modernbert",
        "vocab_size": config.embeddings.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": attention.heads,
        "intermediate_size": config.feed_forward.width,
        "hidden_activation": HF_ACTIVATIONS[config.feed_forward.activation],
        "embedding_dropout": config.embeddings.dropout,
        "attention_dropout": attention.dropout,
        "mlp_dropout": config.feed_forward.dropout,
        "max_position_embeddings": config.max_length or 8192,
        "initializer_range": config.init_std,
        "norm_eps": config.norm_eps,
        "pad_token_id": config.embeddings.pad_id,
        "layer_types": [_kind(pattern[layer % len(pattern)] == 0) for layer in range(config.layers)],
        "local_attention": 2 * (max(pattern) or 64),
        "rope_parameters": {
            _kind(True): {"rope_type": "default", "rope_theta": attention.base},
            _kind(False): {"rope_type": "default", "rope_theta": attention.local_base},
        },
    }


FAMILY = Family(
    name="modernbert",
    title="ModernBERT",
    year=2024,
    paper="Warner et al., Smarter, Better, Faster, Longer (ModernBERT), arXiv 2024",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="bpe",
    stated={"base": 149, "large": 395},
    dropouts=("attention__dropout", "feed_forward__dropout", "embeddings__dropout"),
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures={
        frozenset(): "ModernBertModel",
        frozenset({"mlm"}): "ModernBertForMaskedLM",
        frozenset({"classify"}): "ModernBertForSequenceClassification",
        frozenset({"tag"}): "ModernBertForTokenClassification",
        frozenset({"answer"}): "ModernBertForQuestionAnswering",
        frozenset({"choose"}): "ModernBertForMultipleChoice",
    },
)
