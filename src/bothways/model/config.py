"""What an encoder is, as a typed value: frozen dataclasses, an encoder's holding those of its parts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self

from bothways.batch import GlobalRule
from bothways.errors import BothwaysError
from bothways.model.value import Config, positive, share

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]
Pooler = Literal["tanh"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingsConfig(Config):
    """The table of tokens and what is added to it.

    Attributes:
        vocab_size: V, rows of the token table.
        width: E, width of the tables; projected to the encoder's after the norm where it is another.
        always_projected: Whether there is such a projection even where the widths agree.
        positions: Rows of the learned position table; 0 for none.
        position_offset: The row of a sequence's first position: tables that begin after the padding id have 2.
        positions_added: Whether the position table is added to the tokens; False keeps it for a head that reads it.
        segments: Rows of the segment table; 0 for none, 1 for a constant that is the same for every token.
        norm_eps: Epsilon of the layer norm.
        norm_bias: Whether the norm has a bias.
        dropout: Share of values dropped after the norm, in training.
        dropout_first: Whether they are dropped before the norm instead.
        pad_id: The token whose row begins as zero and learns nothing from being looked up.
    """

    vocab_size: int
    width: int
    positions: int
    segments: int
    always_projected: bool = False
    position_offset: int = 0
    positions_added: bool = True
    norm_eps: float = 1e-12
    norm_bias: bool = True
    dropout: float = 0.1
    dropout_first: bool = False
    pad_id: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "vocab_size", "width")
        share(self, "dropout")
        if not 0 <= self.pad_id < self.vocab_size:
            raise BothwaysError(f"pad_id {self.pad_id} is outside the vocabulary of {self.vocab_size} tokens")
        if self.positions and not 0 <= self.position_offset < self.positions:
            raise BothwaysError(
                f"{self.positions} positions leave none for a token after the first {self.position_offset} rows; "
                "give the table more"
            )


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(Config):
    """Full attention with H heads; the kinds below add to it.

    Attributes:
        heads: H; the encoder's width must be a multiple of it.
        dropout: Share of attention weights dropped in training.
        bias: Whether the projections have biases.
        kind: ``full``: every token looks at every token of its sequence.
    """

    heads: int
    dropout: float = 0.1
    bias: bool = True
    kind: Literal["full"] = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "heads")
        share(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class CausalAttentionConfig(AttentionConfig):
    """No token looks at a later one.

    Attributes:
        kind: ``causal``.
    """

    kind: Literal["causal"] = "causal"  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class BucketAttentionConfig(AttentionConfig):
    """A learned bias for each head and bucket of distances is added to the scores, the same in all layers.

    Attributes:
        buckets: Half of them before, half after; near distances have their own, farther ones share by logarithm.
        max_distance: From which on all distances share the last bucket.
        kind: ``buckets``.
    """

    buckets: int = 32
    max_distance: int = 128
    kind: Literal["buckets"] = "buckets"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buckets < 4 or self.buckets % 4:
            raise BothwaysError(f"buckets must be a multiple of 4, not {self.buckets}: half lie on either side")
        if self.max_distance <= self.buckets // 4:
            raise BothwaysError(
                f"max_distance must be more than {self.buckets // 4}, a quarter of the {self.buckets} buckets, "
                f"not {self.max_distance}"
            )


@dataclass(frozen=True, kw_only=True)
class DisentangledAttentionConfig(AttentionConfig):
    """Contents look at distances and distances at contents, beside contents at contents.

    Attributes:
        content_to_position: Whether the score gets the query's product with the distance's key.
        position_to_content: Whether it gets the key's product with the distance's query.
        max_distance: Distances beyond it are clipped to it.
        buckets: Distances beyond half of so many share buckets by logarithm; 0 for none.
        share_projections: Whether distances go through the tokens' own projections.
        norm_table: Whether the table of distances goes through a layer norm.
        fused: Whether query, key and value are one projection, interleaved by heads, with biases for query and value
            only.
        position_dropout: Share of values dropped from the table of distances, in training.
        kind: ``disentangled``.
    """

    content_to_position: bool = True
    position_to_content: bool = True
    max_distance: int = 512
    buckets: int = 0
    share_projections: bool = False
    norm_table: bool = False
    fused: bool = False
    position_dropout: float = 0.1
    kind: Literal["disentangled"] = "disentangled"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "max_distance")
        share(self, "position_dropout")
        if not (self.content_to_position or self.position_to_content):
            raise BothwaysError("disentangled attention needs content_to_position, position_to_content or both")
        if self.fused and self.share_projections:
            raise BothwaysError("fused projections cannot be shared with distances; switch fused or sharing off")
        if self.buckets and not 4 <= self.buckets < 2 * (self.max_distance - 1):
            raise BothwaysError(
                f"{self.buckets} buckets do not suit distances up to {self.max_distance}; take at least 4 and fewer "
                f"than {2 * (self.max_distance - 1)}, or 0 for none"
            )


@dataclass(frozen=True, kw_only=True)
class RotaryAttentionConfig(AttentionConfig):
    """Queries and keys are turned by angles that grow with the position.

    Attributes:
        base: Of the angles in layers where every token looks at every token.
        local_base: Of the angles in layers with a window.
        windows: How far a token looks to either side, layer by layer and over again; 0 for all the way.
        kind: ``rotary``.
    """

    base: float = 10_000.0
    local_base: float = 10_000.0
    windows: tuple[int, ...] = (0,)
    kind: Literal["rotary"] = "rotary"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "base", "local_base")
        if not self.windows or min(self.windows) < 0:
            raise BothwaysError(
                f"windows must be tokens to either side, 0 for all, at least one number, not {self.windows}"
            )


@dataclass(frozen=True, kw_only=True)
class WindowAttentionConfig(AttentionConfig):
    """Tokens look at their neighbours; global tokens look at all and are looked at by all.

    Attributes:
        windows: For each layer how far a token looks to either side; a single one holds for all layers.
        kind: ``windows``.
    """

    windows: tuple[int, ...]
    kind: Literal["windows"] = "windows"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if len(set(self.windows)) == 1:  # one way to say it, so that equal configurations are equal
            object.__setattr__(self, "windows", tuple(self.windows[:1]))
        super().__post_init__()
        if not self.windows or min(self.windows) < 1:
            raise BothwaysError(f"windows must be at least 1 token to either side, one a layer, not {self.windows}")


@dataclass(frozen=True, kw_only=True)
class SparseAttentionConfig(AttentionConfig):
    """Blocks of tokens look at neighbouring blocks, at the first and last block, and at some random ones.

    Sequences of at most (5 + 2 · `random_blocks`) blocks have full attention; only theirs is dropped out.

    Attributes:
        block: Tokens in a block.
        random_blocks: Random blocks that each block looks at.
        seed: Of their choice in training.
        kind: ``sparse``.
    """

    block: int = 64
    random_blocks: int = 3
    seed: int = 0
    kind: Literal["sparse"] = "sparse"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "block")
        for name in ("random_blocks", "seed"):
            if getattr(self, name) < 0:
                raise BothwaysError(f"{name} must be at least 0, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig(Config):
    """The two linear layers of a block.

    Attributes:
        width: Inner width.
        activation: ``gelu`` (exact), ``gelu_tanh`` (its approximation), ``relu``, ``silu`` or ``tanh``.
        gated: Whether the first layer is twice as wide and its activated half multiplies the other.
        bias: Whether the layers have biases.
        dropout: Share of inner values dropped in training.
    """

    width: int
    activation: Activation = "gelu"
    gated: bool = False
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width")
        share(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class ConvolutionConfig(Config):
    """A convolution over the embeddings, added to the first layer's output.

    Attributes:
        kernel: Tokens that it spans, an odd number.
        groups: Groups of channels that do not mix.
        activation: As in a feed-forward layer.
    """

    kernel: int
    groups: int = 1
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "kernel", "groups")
        if self.kernel % 2 == 0:
            raise BothwaysError(f"a convolution over {self.kernel} tokens has no middle; take an odd number")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """A whole encoder.

    Attributes:
        family: The family it belongs to, such as ``"bert"``.
        width: D, the width of hidden states.
        layers: Steps of the stack.
        embeddings: The tables at the bottom.
        attention: How tokens look at each other.
        feed_forward: What each token does alone.
        blocks: Blocks with parameters of their own, each applied at `layers` / `blocks` neighbouring layers; None for
            as many as layers.
        norm: ``"post"``: after each sum, as in BERT; ``"pre"``: before attention and feed-forward, and once at the end.
        first_norm: Whether the first block of the kind ``"pre"`` norms before its attention, where the embeddings have
            just been normed; a block that later layers share always does.
        norm_eps: Epsilon of the blocks' layer norms.
        norm_bias: Whether they have biases.
        dropout: Share of values dropped after attention and feed-forward, in training.
        convolution: A convolution beside the first layer.
        pooler: ``"tanh"`` for BERT's pooled output of the first token, None for none.
        init_std: Standard deviation of random initial weights.
        max_length: The longest input that the encoder was made for, where no position table says it.
    """

    family: str
    width: int
    layers: int
    embeddings: EmbeddingsConfig
    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    blocks: int | None = None
    norm: Literal["post", "pre"] = "post"
    first_norm: bool = True
    norm_eps: float = 1e-12
    norm_bias: bool = True
    dropout: float = 0.1
    convolution: ConvolutionConfig | None = None
    pooler: Pooler | None = "tanh"
    init_std: float = 0.02
    max_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "layers")
        share(self, "dropout")
        if self.width % self.attention.heads:
            raise BothwaysError(
                f"the width {self.width} is not a multiple of the {self.attention.heads} heads; change one of them"
            )
        if isinstance(self.attention, WindowAttentionConfig) and len(self.attention.windows) not in (1, self.layers):
            count = len(self.attention.windows)
            raise BothwaysError(f"{self.layers} layers cannot have {count} windows; give one, or one a layer")
        if isinstance(self.attention, RotaryAttentionConfig) and self.width // self.attention.heads % 2:
            raise BothwaysError(
                f"heads of {self.width // self.attention.heads} values cannot be turned in pairs; change width or heads"
            )
        if self.convolution is not None and self.width % self.convolution.groups:
            raise BothwaysError(
                f"the width {self.width} is not a multiple of the convolution's {self.convolution.groups} groups"
            )
        if self.blocks is not None and not 1 <= self.blocks <= self.layers:
            raise BothwaysError(f"{self.layers} layers cannot be made of {self.blocks} blocks; give 1 to {self.layers}")

    def for_vocabulary(self, size: int, pad_id: int) -> Self:
        """The same encoder for another vocabulary.

        A position table that begins after the padding id follows it, and takes texts as long as before.

        Args:
            size: Tokens in the vocabulary.
            pad_id: The padding token's id.
        """
        tables = self.embeddings
        changed = tables.derive(vocab_size=size, pad_id=pad_id)
        if tables.positions and tables.position_offset == tables.pad_id + 1:
            moved = pad_id - tables.pad_id
            changed = changed.derive(position_offset=tables.position_offset + moved, positions=tables.positions + moved)
        return self.derive(embeddings=changed)

    @property
    def schedule(self) -> tuple[int, ...]:
        """For each layer the number of the block that it applies."""
        blocks = self.layers if self.blocks is None else self.blocks
        # where layers are no multiple of blocks: rounded as published checkpoints of such models were computed
        return tuple(int(layer / (self.layers / blocks)) for layer in range(self.layers))

    @property
    def longest(self) -> int | None:
        """The longest input in tokens, or None where nothing sets a limit."""
        tables = self.embeddings
        added = tables.positions - tables.position_offset if tables.positions and tables.positions_added else None
        limits = [limit for limit in (added, self.max_length) if limit]
        return min(limits) if limits else None


Kind = Literal["mlm", "nsp", "sop", "rtd", "classify", "tag", "crf", "answer", "choose", "dense", "late"]


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Config):
    """A head on an encoder.

    Attributes:
        kind: ``mlm`` (which token stood here), ``nsp`` (does the second text follow), ``sop`` (are two texts in order),
            ``rtd`` (was this token replaced), ``classify``, ``tag`` (a class for each token), ``answer`` (where a span
            begins and ends) or ``choose`` (which of several texts). ``crf`` stands beside ``tag``: what its classes say
            of their neighbours. ``dense`` makes sentence vectors of pooled ones, ``late`` a vector of each token.
        problem: What a classifier's numbers mean: ``"one"`` of its classes holds, ``"several"`` may hold, or they are
            ``"scores"`` (a regression).
        labels: Names of the classes, in order, for heads that have classes.
        reads: What a head for whole sequences reads: the ``pooled`` output, the ``first`` token or the ``mean``.
        hidden: ``"none"`` for a plain linear layer, else the activation after a hidden one, ``"encoder"`` for the
            encoder's. A masked-token head always has one; ``"none"`` gives it the encoder's activation.
        hidden_norm: Whether a layer norm follows the hidden layer.
        bias: Whether the hidden layer, and its norm, have biases.
        decoder: What a masked-token head reads: ``"plain"`` hidden states, or what DeBERTa's ``"enhanced"`` mask
            decoder makes of them (`bothways.model.heads.enhanced_mask_decoder`).
        first_added: Whether a replaced-token head adds the first token to each and norms the sum, before all else.
        feed_forward: Whether an answer head begins as a block ends: with a feed-forward layer of the encoder's inner
            width, added to what came in and normed.
        dropout: Share of values dropped before the linear layers, in training.
        input_dropout: Whether they are also dropped before a hidden layer, or only after it.
        global_tokens: Which tokens see all and are seen by all while the head is at work, where the attention has such
            tokens: a rule of `mark_global`.
        inputs: Width of the pooled vectors that a ``dense`` head reads; 0 for other heads.
        outputs: Width of the vectors that a ``dense`` or ``late`` head gives; 0 for other heads.
    """

    kind: Kind
    problem: Literal["one", "several", "scores"] = "one"
    labels: tuple[str, ...] = ()
    reads: Literal["pooled", "first", "mean"] = "pooled"
    hidden: Activation | Literal["none", "encoder"] = "none"
    hidden_norm: bool = False
    bias: bool = True
    decoder: Literal["plain", "enhanced"] = "plain"
    first_added: bool = False
    feed_forward: bool = False
    dropout: float = 0.1
    input_dropout: bool = True
    global_tokens: GlobalRule = "none"
    inputs: int = 0
    outputs: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        super().__post_init__()
        share(self, "dropout")
        if self.kind == "dense":
            positive(self, "inputs", "outputs")
        if self.kind == "late":
            positive(self, "outputs")

    @property
    def needs_pooler(self) -> bool:
        """Whether it reads the pooled output."""
        return self.kind in ("nsp", "sop", "classify", "choose") and self.reads == "pooled"

    def shape(self) -> HeadConfig:
        """The same head without labels, their meaning and dropout: what two heads with the same tensors share."""
        return dataclasses.replace(self, labels=(), problem="one", dropout=0.0)
