"""What our own kernels do, and with what: the functions of the compiled library, as Python calls them.

Shapes: T tokens, I inputs, O outputs, A channels apart, H heads, K head width, D = H · K, S sequences.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FLOATS: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""What C reads and writes, whatever torch's defaults are."""
_LANES, _WIDEST, _LONGEST_LEARNED = 16, 128, 1024
_THREAD_SCORES = 1 << 20
"""Attention weights for which another thread is worth beginning."""
_THREAD_NUMBERS = 1 << 19
"""Numbers, where each is by itself."""
_THREAD_PRODUCTS = 1 << 18
"""Products of words."""
_ACTIVATIONS = {None: 0, "gelu": 1, "gelu_tanh": 2, "relu": 3}
_PANEL = 64
_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.uint8: 2, torch.int16: 3, torch.float16: 4}
_LETTERS = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "i": ctypes.c_int, "f": ctypes.c_float,
            "s": ctypes.c_uint64, "u": ctypes.c_uint32}  # fmt: skip
_FUNCTIONS = {
    "attention": ("pppnipipnnnfpnpsui", ctypes.c_int),
    "attention_gradient": ("pppnippppppnnnfpsui", ctypes.c_int),
    "linear": ("pinppppppinppipipnni", None),
    "rounded": ("pippppppnpnni", None),
    "shortened_rows": ("pippfnni", None),
    "normed": ("pipnnppfi", None),
    "looked_up": ("ippipnnppf", ctypes.c_int),
    "dropped": ("pipnsufi", None),
    "gelu_gradient": ("ppipni", None),
    "use_threads": ("p", None),
}
"""What each takes, a letter an argument, and gives back."""


class Levels(NamedTuple):
    """A matrix in whole numbers: each row is ``low + step * level``.

    Attributes:
        levels: ``(T, I)`` uint8 or int16.
        steps: ``(T,)`` float32.
        lows: ``(T,)`` float32 of bytes; None: 0.
        few: ``(T, A)`` some channels as they are, of a type that is multiplied; None: there are none.
    """

    levels: Tensor
    steps: Tensor
    lows: Tensor | None = None
    few: Tensor | None = None


class Whole(NamedTuple):
    """What goes with a weight in whole numbers.

    Attributes:
        units: ``(O,)`` float32 what 1 in a row of it is worth.
        of_lows: ``(O,)`` float32 what a row sums up to; None in int16.
        few: The weight ``(O, A)`` of the channels that are as they are, as `Kernels.packed` makes it; None with None.
    """

    units: Tensor
    of_lows: Tensor | None = None
    few: Tensor | None = None


Drop = tuple[float, int]
"""What share is set to zero, and the seed that decides which."""


class Kernels:
    """The functions of a compiled library.

    Args:
        path: Of the library.
        pairs: Whether it multiplies bfloat16.
        levels: Whether it multiplies bytes, and numbers of 16 bits.
        threads: Where the function lies that begins torch's own threads; None where that is not known.
    """

    def __init__(self, path: Path, pairs: bool, levels: bool, threads: int | None = None) -> None:
        self.pairs, self.levels = pairs, levels
        self._library = ctypes.CDLL(str(path))
        for name, (letters, result) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = [_LETTERS[letter] for letter in letters], result
        self._library.use_threads(threads)

    def mixes(self, dtype: torch.dtype, width: int) -> bool:
        """Whether it can attend in a type with heads of a width."""
        return (dtype == torch.float32 or (dtype == torch.bfloat16 and self.pairs)) and (
            width % (2 * _LANES) == 0 and width <= _WIDEST
        )

    def mixes_whole(self, dtype: torch.dtype, width: int) -> bool:
        """Whether it can attend with whole numbers made of a type: of float32, where that is faster, and float16."""
        return dtype in (torch.float32, torch.float16) and self.levels and self.mixes(torch.float32, width)

    def learns(self, dtype: torch.dtype, width: int, longest: int) -> bool:
        """Whether it has a gradient of attention in a type, for heads of a width and sequences up to a length."""
        return self.mixes(dtype, width) and longest <= _LONGEST_LEARNED

    def attention(
        self,
        qkv: Sequence[Tensor],
        starts: np.ndarray,
        heads: int,
        *,
        scale: float = 1.0,
        bias: Tensor | None = None,
        drop: Drop = (0.0, 0),
        logs: Tensor | None = None,
        whole: bool = False,
    ) -> Tensor:
        """Softmax of the products of queries and keys, times the values, within each sequence and head.

        Args:
            qkv: Queries, keys and values ``(T, D)`` of a type that it `mixes` (or `mixes_whole`), all with the same
                strides, of which the last is 1.
            starts: ``(S + 1,)`` where each sequence begins.
            heads: H.
            scale: What products of queries and keys are multiplied by.
            bias: ``(H, 2 · L - 1)`` float32 what is added to a score by the key's place minus the query's, from 1 - L
                to L - 1, where L is at least the longest sequence; None: nothing.
            drop: What becomes of the weights.
            logs: ``(H, T)`` float32, if given, gets the logarithms to base 2 of the sums of exponentials.
            whole: Whether numbers are rounded to 14 bits and multiplied so, where it `mixes_whole`; there are no
                logarithms then.

        Returns:
            ``(T, D)`` of the type of `qkv`.

        Raises:
            MemoryError: There is no memory for the scores of a few queries.
        """
        q, (tokens, width) = qkv[0], qkv[0].shape
        starts = np.ascontiguousarray(starts, dtype=np.int64)
        out = q.new_empty(tokens, width)
        failed = self._library.attention(
            *(
                *(each.data_ptr() for each in qkv),
                q.stride(0),
                _KINDS[torch.int16 if whole else q.dtype],
                out.data_ptr(),
                _KINDS[q.dtype],
            ),
            *(starts.ctypes.data, len(starts) - 1, heads, width // heads, scale),
            *((None, 0) if bias is None else (bias.data_ptr(), (bias.shape[1] + 1) // 2)),
            None if logs is None else logs.data_ptr(),
            *(drop[1], _of_all(drop[0]), _threads(starts, heads)),
        )
        _check(failed)
        return out

    def attention_gradient(
        self,
        qkv: Sequence[Tensor],
        out: Tensor,
        gradient: Tensor,
        starts: np.ndarray,
        heads: int,
        *,
        scale: float,
        drop: Drop,
        logs: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of queries, keys and values ``(T, D)``.

        Args:
            qkv: What `attention` was given, with `starts`, `heads`, `scale` and `drop`.
            out: ``(T, D)`` what it gave.
            gradient: ``(T, D)`` that of what it gave, of the same type.
            starts: As there.
            heads: As there.
            scale: As there.
            drop: As there.
            logs: ``(H, T)`` as it wrote them.

        Raises:
            MemoryError: There is no memory for the weights of a sequence.
        """
        q, gradient = qkv[0], gradient.contiguous()
        starts = np.ascontiguousarray(starts, dtype=np.int64)
        found = torch.empty_like(out), torch.empty_like(out), torch.empty_like(out)
        failed = self._library.attention_gradient(
            *(*(each.data_ptr() for each in qkv), q.stride(0), q.dtype == torch.bfloat16),
            *(each.data_ptr() for each in (out, gradient, *found)),
            *(starts.ctypes.data, len(starts) - 1, heads, q.shape[1] // heads, scale, logs.data_ptr()),
            *(drop[1], _of_all(drop[0]), _threads(starts, heads)),
        )
        _check(failed)
        return found

    def multiplies(self, weight: Tensor, activation: str | None) -> bool:
        """Whether it has a product with a weight ``(O, I)``, and an activation after it, by its name.

        Args:
            weight: float32, bfloat16, or int8 and int16 for inputs of levels.
            activation: None: none.
        """
        known = {torch.float32: True, torch.bfloat16: self.pairs, torch.int8: self.levels, torch.int16: self.levels}
        rows, columns = weight.shape
        return (
            known.get(weight.dtype, False)
            and activation in _ACTIVATIONS
            and rows % _LANES == 0
            and columns * weight.element_size() % 4 == 0
        )

    def packed(self, weight: Tensor) -> Tensor:
        """A weight ``(O, I)`` that it `multiplies`, as `linear` wants it: words ``(O / 64, I's words, 64)``."""
        words = weight.detach().contiguous().view(torch.int32)
        words = functional.pad(words, (0, 0, 0, -len(words) % _PANEL))
        return words.view(-1, _PANEL, words.shape[1]).transpose(1, 2).contiguous()

    def linear(
        self,
        x: Tensor | Levels,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        *,
        activation: str | None = None,
        added: Tensor | None = None,
        whole: Whole | None = None,
    ) -> Tensor:
        """The product with a weight, what is added to it and done to it.

        Args:
            x: ``(T, I)``, or more dimensions before I, of the type that was packed; levels for int8 and int16.
            weight: As `packed` makes it.
            bias: ``(O,)`` float32.
            dtype: What comes out: float32, bfloat16 or float16.
            activation: Of product and bias; a name that it knows.
            added: ``(T, O)`` of `dtype`, afterwards.
            whole: What goes with a weight in int8 or int16.

        Returns:
            ``(T, O)``.
        """
        x_TI, steps, lows, few = x if isinstance(x, Levels) else (x, None, None, None)
        units, of_lows, few_weight = (None, None, None) if whole is None else whole
        x_TI, columns, words = x_TI.contiguous(), len(bias), weight.shape[1]
        out = torch.empty(*x_TI.shape[:-1], columns, dtype=dtype, device="cpu")
        rows = out.numel() // columns
        added = None if added is None else added.contiguous()
        self._library.linear(
            *(x_TI.data_ptr(), _KINDS[x_TI.dtype], words, weight.data_ptr()),
            *map(_place, (steps, lows, units, of_lows, few)),
            *((0, 0) if few is None or few_weight is None else (_KINDS[few.dtype], few_weight.shape[1])),
            *(_place(few_weight), bias.data_ptr(), _ACTIVATIONS[activation]),
            *(_place(added), _KINDS[dtype], out.data_ptr(), rows, columns),
            min(torch.get_num_threads(), 1 + rows * words * columns // _THREAD_PRODUCTS),
        )
        return out

    def reads(self, x_TI: Tensor) -> bool:
        """Whether it can round a matrix, and normalise it."""
        kept = (torch.float32, torch.bfloat16, torch.float16)
        return x_TI.dtype in kept and x_TI.ndim == 2 and x_TI.shape[1] % _LANES == 0

    def rounded(self, x_TI: Tensor, by: Tensor, shift: Tensor, apart: Tensor | None = None) -> Levels:
        """A matrix in bytes.

        Args:
            x_TI: One that it `reads`.
            by: ``(I,)`` float32 what each channel is multiplied by first.
            shift: ``(I,)`` float32 what is added to it then.
            apart: ``(A,)`` int64 channels that are also given as they are, in the type that is `multiplied`.
        """
        x_TI, rows = x_TI.contiguous(), len(x_TI)
        count = 0 if apart is None else len(apart)
        few = torch.empty(rows, count, dtype=multiplied(x_TI.dtype), device="cpu") if count else None
        steps, lows = torch.empty(rows, **FLOATS), torch.empty(rows, **FLOATS)
        found = Levels(torch.empty(x_TI.shape, dtype=torch.uint8, device="cpu"), steps, lows, few)
        self._library.rounded(
            *(x_TI.data_ptr(), _KINDS[x_TI.dtype], by.data_ptr(), shift.data_ptr()),
            *(found.levels.data_ptr(), steps.data_ptr(), lows.data_ptr()),
            *(_place(apart), count, _place(few), *x_TI.shape, _threads_of(x_TI)),
        )
        return found

    def shortened(self, x_TI: Tensor, norm: float) -> Levels:
        """A matrix in int16, of which no 768 neighbours in a row have a norm above `norm`, but for their rounding.

        Args:
            x_TI: One that it `reads`.
            norm: In steps.
        """
        x_TI = x_TI.contiguous()
        whole = torch.empty(x_TI.shape, dtype=torch.int16, device="cpu")
        found = Levels(whole, torch.empty(len(x_TI), **FLOATS))
        self._library.shortened_rows(
            *(x_TI.data_ptr(), _KINDS[x_TI.dtype], found.levels.data_ptr(), found.steps.data_ptr(), norm),
            *(*x_TI.shape, _threads_of(x_TI)),
        )
        return found

    def normed(self, x_TI: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """`torch.nn.functional.layer_norm` of each row of a matrix that it `reads`.

        Args:
            x_TI: ``(T, I)``.
            gain: ``(I,)`` float32.
            bias: ``(I,)`` float32.
            epsilon: Added to the variance.

        Returns:
            ``(T, I)`` of the same type.
        """
        x_TI = x_TI.contiguous()
        out = torch.empty_like(x_TI)
        self._library.normed(
            *(x_TI.data_ptr(), _KINDS[x_TI.dtype], out.data_ptr(), *x_TI.shape),
            *(gain.data_ptr(), bias.data_ptr(), epsilon, _threads_of(x_TI)),
        )
        return out

    def looks_up(self, table: Tensor) -> bool:
        """Whether it can look tokens up in a table."""
        return table.dtype == torch.float32 and self.reads(table) and table.is_contiguous()

    def looked_up(
        self,
        tables: Sequence[Tensor],
        places: Sequence[Tensor],
        dtype: torch.dtype,
        gain: Tensor,
        bias: Tensor,
        epsilon: float,
    ) -> Tensor:
        """The norm of a sum of rows of some tables.

        Args:
            tables: Each ``(rows, I)``, of those that it `looks_up`.
            places: For each table ``(T,)`` integers, rows that it has: this is not checked here.
            dtype: What comes out: float32, bfloat16 or float16.
            gain: ``(I,)`` float32.
            bias: ``(I,)`` float32.
            epsilon: Added to the variance.

        Returns:
            ``(T, I)``.

        Raises:
            MemoryError: There is no memory for a few rows.
        """
        places = [each.long().contiguous() for each in places]
        tokens, width = len(places[0]), tables[0].shape[1]
        out = torch.empty(tokens, width, dtype=dtype, device="cpu")
        both = ((ctypes.c_void_p * len(tables))(*(each.data_ptr() for each in some)) for some in (tables, places))
        failed = self._library.looked_up(
            *(len(tables), *both, _KINDS[dtype], out.data_ptr(), tokens, width),
            *(gain.data_ptr(), bias.data_ptr(), epsilon),
        )
        _check(failed)
        return out

    def dropped(self, values: Tensor, drop: Drop) -> Tensor:
        """A share of values, float32 or bfloat16, set to zero, the others scaled up; for one seed always the same."""
        values = values.contiguous()
        out, some = torch.empty_like(values), _of_all(drop[0])
        scale = torch.tensor(1 / (1 - some / 2**32), dtype=values.dtype).item()
        self._library.dropped(
            *(values.data_ptr(), _KINDS[values.dtype], out.data_ptr(), values.numel()),
            *(drop[1], some, scale, _threads_of(values)),
        )
        return out

    def gelu_gradient(self, values: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of values, float32 or bfloat16, from that of their GELU, the exact one; any shape."""
        values, gradient = values.contiguous(), gradient.contiguous()
        whole = values.numel() // _LANES * _LANES
        out = torch.empty_like(values)
        self._library.gelu_gradient(
            *(values.data_ptr(), gradient.data_ptr(), _KINDS[values.dtype], out.data_ptr(), whole),
            _threads_of(values),
        )
        if whole < values.numel():
            rest = torch.ops.aten.gelu_backward(gradient.flatten()[whole:], values.flatten()[whole:])
            out.view(-1)[whole:] = rest
        return out


def multiplied(dtype: torch.dtype) -> torch.dtype:
    """As what numbers of a type are multiplied."""
    return torch.float32 if dtype == torch.float16 else dtype


def _of_all(share: float) -> int:
    """A share of 2^32."""
    return min(round(share * 2**32), 2**32 - 1)


def _threads(starts: np.ndarray, heads: int) -> int:
    scores = heads * int((np.diff(starts) ** 2).sum())
    return min(torch.get_num_threads(), 1 + scores // _THREAD_SCORES)


def _threads_of(values: Tensor) -> int:
    return min(torch.get_num_threads(), 1 + values.numel() // _THREAD_NUMBERS)


def _place(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("there is no memory for this batch; take smaller ones")
