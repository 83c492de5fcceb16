"""From configurations to modules: read once, top to bottom, this says what a model is made of."""

from __future__ import annotations

from torch import nn

from bothways.errors import BothwaysError
from bothways.model.config import (
    AttentionConfig,
    BucketAttentionConfig,
    CausalAttentionConfig,
    DisentangledAttentionConfig,
    EncoderConfig,
    HeadConfig,
    RotaryAttentionConfig,
    SparseAttentionConfig,
    WindowAttentionConfig,
)
from bothways.model.encoder import Encoder
from bothways.model.heads.classify import AnswerHead, ChooseHead, ClassifyHead, DeepAnswerHead, TagHead
from bothways.model.heads.crf import TagChain
from bothways.model.heads.late import LateHead
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.heads.nsp import TwoTextsHead
from bothways.model.heads.rtd import ReplacedTokenHead
from bothways.model.heads.sentence import DenseHead
from bothways.model.parts.attention import Attention
from bothways.model.parts.block import PostNormBlock, PreNormBlock
from bothways.model.parts.buckets import BucketAttention, DistanceBias
from bothways.model.parts.causal import CausalAttention
from bothways.model.parts.convolution import Convolution
from bothways.model.parts.disentangled import DisentangledAttention, FusedDisentangledAttention
from bothways.model.parts.distances import DistanceTable
from bothways.model.parts.embeddings import Embeddings
from bothways.model.parts.feed_forward import FeedForward, GatedFeedForward
from bothways.model.parts.global_tokens import GlobalTokenScheme
from bothways.model.parts.pooler import Pooler
from bothways.model.parts.rotary import RotaryAttention, RotaryScheme
from bothways.model.parts.sparse import SparseAttention
from bothways.model.parts.stack import Stack
from bothways.model.parts.window_attention import WindowAttention


def build_encoder(config: EncoderConfig) -> Encoder:
    """An encoder with random weights, drawn from torch's generator as BERT draws them."""
    blocks = [_block(config) for _ in range(max(config.schedule) + 1)]
    if config.norm == "pre" and not config.first_norm and config.schedule.count(0) == 1:
        blocks[0].attention_norm = nn.Identity()
    norm = nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.norm_bias) if config.norm == "pre" else None
    encoder = Encoder(
        config,
        embeddings=Embeddings(config.embeddings, config.width),
        scheme=_scheme(config.attention, config),
        stack=Stack(blocks, config.schedule, norm, _convolution(config)),
        pooler=Pooler(config.width) if config.pooler else None,
    )
    initialise(encoder, config.init_std)
    return encoder


def _block(config: EncoderConfig) -> nn.Module:
    block = PreNormBlock if config.norm == "pre" else PostNormBlock
    return block(
        attention=_attention(config.attention, config),
        feed_forward=_feed_forward(config),
        width=config.width,
        norm_eps=config.norm_eps,
        dropout=config.dropout,
        norm_bias=config.norm_bias,
    )


def _feed_forward(config: EncoderConfig) -> nn.Module:
    inner = config.feed_forward
    made = GatedFeedForward if inner.gated else FeedForward
    return made(config.width, inner.width, inner.activation, inner.bias, inner.dropout)


def _convolution(config: EncoderConfig) -> nn.Module | None:
    beside = config.convolution
    if beside is None:
        return None
    return Convolution(config.width, beside.kernel, beside.groups, beside.activation, config.norm_eps, config.dropout)


def _scheme(attention: AttentionConfig, config: EncoderConfig) -> nn.Module | None:
    match attention:
        case DisentangledAttentionConfig(max_distance=far, buckets=buckets):
            norm = nn.LayerNorm(config.width, eps=config.norm_eps) if attention.norm_table else None
            return DistanceTable(config.width, far, buckets, norm)
        case RotaryAttentionConfig(base=base, local_base=local_base, windows=windows):
            bases = [local_base if window else base for window in windows[: config.layers]]
            return RotaryScheme(config.width // attention.heads, bases)
        case BucketAttentionConfig(buckets=buckets, max_distance=far):
            return DistanceBias(attention.heads, buckets, far)
        case WindowAttentionConfig():
            return GlobalTokenScheme()
        case _:
            return None


def _attention(attention: AttentionConfig, config: EncoderConfig) -> nn.Module:
    plain = (config.width, attention.heads, attention.dropout, attention.bias)
    match attention:
        case DisentangledAttentionConfig(fused=fused):
            return (FusedDisentangledAttention if fused else DisentangledAttention)(config.width, attention)
        case CausalAttentionConfig():
            return CausalAttention(*plain)
        case BucketAttentionConfig():
            return BucketAttention(*plain)
        case SparseAttentionConfig(block=block, random_blocks=count, seed=seed):
            return SparseAttention(*plain, block, count, seed)
        case RotaryAttentionConfig(base=base, local_base=local_base, windows=windows):
            return RotaryAttention(*plain, base, local_base, windows)
        case WindowAttentionConfig(windows=windows):
            return WindowAttention(*plain, windows)
        case _:
            return Attention(*plain)


def build_head(head: HeadConfig, config: EncoderConfig) -> nn.Module:
    """A head with random weights for an encoder of the given configuration.

    Raises:
        BothwaysError: The head reads the pooled output and the encoder has none.
    """
    if head.needs_pooler and config.pooler is None:
        raise BothwaysError(f"the head {head.kind!r} needs the pooled output, which this encoder does not have")
    made = _head(head, config)
    initialise(made, config.init_std)
    return made


def _head(head: HeadConfig, config: EncoderConfig) -> nn.Module:
    width, tables = config.width, config.embeddings
    activation = config.feed_forward.activation if head.hidden in ("none", "encoder") else head.hidden
    if head.hidden == "encoder":
        head = head.derive(hidden=activation)
    match head.kind:
        case "mlm":
            return MaskedTokenHead(width, tables.width, tables.vocab_size, activation, config.norm_eps, head.bias)
        case "rtd":
            norm = nn.LayerNorm(width, eps=config.norm_eps) if head.first_added else None
            return ReplacedTokenHead(width, activation, norm)
        case "nsp" | "sop":
            return TwoTextsHead(width, head.dropout if head.kind == "sop" else 0.0, head.reads)
        case "classify":
            return ClassifyHead(width, len(head.labels), head, config.norm_eps)
        case "tag":
            return TagHead(width, len(head.labels), head, config.norm_eps)
        case "crf":
            return TagChain(len(head.labels))
        case "answer" if head.feed_forward:
            return DeepAnswerHead(width, _feed_forward(config), head, config.norm_eps)
        case "answer":
            return AnswerHead(width, 2, head, config.norm_eps)
        case "choose":
            return ChooseHead(width, 1, head, config.norm_eps)
        case "late":
            return LateHead(width, head.outputs)
        case "dense":
            return DenseHead(head.inputs, head.outputs, head.hidden, head.bias)


def initialise(module: nn.Module, std: float) -> None:
    """Draws weights from a normal distribution of the given deviation; biases 0, norms 1, the padding row 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding | nn.Conv1d):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear | nn.Conv1d) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])
