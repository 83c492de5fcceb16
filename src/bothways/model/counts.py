"""What a configuration costs, counted without building it: parameters, and multiplications for a token.

Both follow from the configuration alone, so the tables of families need no torch.
"""

from __future__ import annotations

import math

from bothways.model.config import (
    AttentionConfig,
    BucketAttentionConfig,
    CausalAttentionConfig,
    DisentangledAttentionConfig,
    EncoderConfig,
    RotaryAttentionConfig,
    SparseAttentionConfig,
    WindowAttentionConfig,
)

USUAL_LENGTH = 128
"""Tokens of the text for which `work` counts where nothing else is asked."""


def parameter_count(config: EncoderConfig) -> int:
    """How many parameters an encoder has, those of shared blocks once.

    Heads are not counted; the pooled output is. A test holds it equal to the modules' own count.
    """
    width, blocks = config.width, max(config.schedule) + 1
    norm = _norm(width, config.norm_bias)
    count = _tables(config) + _shared_by_layers(config)
    count += blocks * (_attention(config.attention, width) + _feed_forward(config) + 2 * norm)
    if config.norm == "pre":
        normed_already = not config.first_norm and config.schedule.count(0) == 1
        count += norm - (norm if normed_already else 0)
    if config.convolution is not None:
        beside = config.convolution
        count += width // beside.groups * width * beside.kernel + width + _norm(width)
    return count + (_linear(width, width) if config.pooler else 0)


def _linear(inner: int, outer: int, bias: bool = True) -> int:
    return inner * outer + outer * bias


def _norm(width: int, bias: bool = True) -> int:
    return width + width * bias


def _tables(config: EncoderConfig) -> int:
    tables = config.embeddings
    rows = tables.vocab_size + tables.positions + tables.segments
    projection = _linear(tables.width, config.width) if _projected(config) else 0
    return rows * tables.width + _norm(tables.width, tables.norm_bias) + projection


def _projected(config: EncoderConfig) -> bool:
    return config.embeddings.always_projected or config.embeddings.width != config.width


def _shared_by_layers(config: EncoderConfig) -> int:
    match config.attention:
        case DisentangledAttentionConfig(buckets=buckets, max_distance=far, norm_table=normed):
            return 2 * (buckets or far) * config.width + (_norm(config.width) if normed else 0)
        case BucketAttentionConfig(buckets=buckets, heads=heads):
            return buckets * heads
        case _:
            return 0


def _attention(attention: AttentionConfig, width: int) -> int:
    linear = _linear(width, width, attention.bias)
    match attention:
        case DisentangledAttentionConfig(share_projections=shared, fused=fused):
            key = _linear(width, width, attention.bias and not fused) * attention.content_to_position
            query = linear * attention.position_to_content
            without = width if fused and attention.bias else 0  # the fused projection has no bias for keys
            return 4 * linear - without + (0 if shared else key + query)
        case WindowAttentionConfig():  # global tokens have projections of their own
            return 7 * linear
        case _:
            return 4 * linear


def _feed_forward(config: EncoderConfig) -> int:
    inner = config.feed_forward
    first = _linear(config.width, inner.width * (2 if inner.gated else 1), inner.bias)
    return first + _linear(inner.width, config.width, inner.bias)


def work(config: EncoderConfig, length: int = USUAL_LENGTH) -> float:
    """Multiplications (each with its addition) that an encoder takes for a token of a text.

    What the design needs: linear layers at every layer of the stack, shared or not, and the products of attention with
    the tokens that it lets see each other. Norms, softmax, look-ups, the pooled output, heads and global tokens are
    left out, and so is what a kernel computes in vain.

    Args:
        config: The encoder.
        length: Tokens in the text.
    """
    width, beside = config.width, config.convolution
    count = float(config.layers * (3 * width * width + work_after_attention(config)))
    products = 2 * width  # of a query with a key, and of a weight with a value
    if isinstance(config.attention, DisentangledAttentionConfig):
        products += width * (config.attention.content_to_position + config.attention.position_to_content)
    count += products * sum(_seen(config.attention, layer, length) for layer in range(config.layers))
    if _projected(config):
        count += config.embeddings.width * width
    if beside is not None:
        count += width // beside.groups * width * beside.kernel
    return count


def work_after_attention(config: EncoderConfig) -> int:
    """Multiplications that a layer takes for a token once attention has mixed the values."""
    width, inner = config.width, config.feed_forward
    return width * width + (3 if inner.gated else 2) * width * inner.width


def _seen(attention: AttentionConfig, layer: int, length: int) -> float:
    """How many tokens a token looks at in a layer, itself included, on average over a text."""
    match attention:
        case CausalAttentionConfig():
            return (length + 1) / 2
        case RotaryAttentionConfig(windows=windows):
            return _within(windows[layer % len(windows)], length)
        case WindowAttentionConfig(windows=windows):
            return _within(windows[layer % len(windows)], length)
        case SparseAttentionConfig(block=block, random_blocks=random_blocks):
            if length <= (5 + 2 * random_blocks) * block:
                return length
            return (2 * block * length + (length - 2 * block) * (5 + random_blocks) * block) / length
        case _:
            return length


def _within(window: int, length: int) -> float:
    """The mean of how many tokens are at most `window` away, in a text of so many; 0 stands for all the way."""
    reach = min(window, length - 1) if window else length - 1
    return (length * (2 * reach + 1) - reach * (reach + 1)) / length


def speed_class(config: EncoderConfig, base: EncoderConfig, length: int = USUAL_LENGTH) -> str:
    """How fast an encoder is beside another if multiplications alone counted, as a power of two.

    Args:
        config: The encoder.
        base: The other one, BERT base in the tables.
        length: Tokens in the text.

    Returns:
        ``"4×"`` for about a quarter of the other's `work` a token, ``"1/2×"`` for about twice as much.
    """
    power = round(math.log2(work(base, length) / work(config, length)))
    return f"{2**power}×" if power >= 0 else f"1/{2**-power}×"
