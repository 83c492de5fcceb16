"""Our own kernels: C for processors with AVX-512, compiled once on the machine where they run.

Nothing needs them. Where there is no compiler, another processor, or ``BOTHWAYS_KERNELS=0``, torch's operators do the
same. What was compiled is kept in the user's cache folder, under a name that the source and the flags decide.

Shapes: T tokens, I channels, H heads, K head width, D = H · K, S sequences.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_HERE = Path(__file__).parent
_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
_PAIRS = "avx512_bf16"
_FLAGS = ("-O3", "-shared", "-fPIC", "-pthread", "-mfma", "-fno-math-errno", "-fno-trapping-math")
_LANES, _WIDEST, _LONGEST_LEARNED = 16, 128, 1024
_SECONDS = 120
"""That a compiler may take."""
_THREAD_SCORES = 1 << 20
"""Attention weights for which another thread is worth beginning."""
_THREAD_NUMBERS = 1 << 19
"""Numbers, where each is by itself."""
_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.uint8: 2}
_LETTERS = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "i": ctypes.c_int, "f": ctypes.c_float,
            "s": ctypes.c_uint64, "u": ctypes.c_uint32}  # fmt: skip
_FUNCTIONS = {
    "attention": ("pppnipipnnnfpnpppsui", ctypes.c_int),
    "attention_gradient": ("pppnippppppnnnfpsui", ctypes.c_int),
    "rounded": ("pipnnpp", None),
    "normed": ("pipnnppfi", None),
    "looked_up": ("ippipnnppf", ctypes.c_int),
    "dropped": ("pipnsufi", None),
    "gelu_gradient": ("ppipni", None),
}
"""What each takes, a letter an argument, and gives back."""

Rounding = tuple[Tensor, Tensor]
"""By what each channel is multiplied and what is added, before fractions are cut off: ``(D,)`` both, float32."""
Drop = tuple[float, int]
"""What share is set to zero, and the seed that decides which."""


class Kernels:
    """The functions of a compiled library.

    Args:
        path: Of the library.
        pairs: Whether it multiplies bfloat16.
    """

    def __init__(self, path: Path, pairs: bool) -> None:
        self.pairs = pairs
        self._library = ctypes.CDLL(str(path))
        for name, (letters, result) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = [_LETTERS[letter] for letter in letters], result

    def mixes(self, dtype: torch.dtype, width: int) -> bool:
        """Whether it can attend in a type with heads of a width."""
        return (dtype == torch.float32 or (dtype == torch.bfloat16 and self.pairs)) and (
            width % (2 * _LANES) == 0 and width <= _WIDEST
        )

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
        rounding: Rounding | None = None,
        drop: Drop = (0.0, 0),
        logs: Tensor | None = None,
    ) -> Tensor:
        """Softmax of the products of queries and keys, times the values, within each sequence and head.

        Args:
            qkv: Queries, keys and values ``(T, D)`` of a type that it `mixes`, all with the same strides, of which the
                last is 1.
            starts: ``(S + 1,)`` where each sequence begins.
            heads: H.
            scale: What products of queries and keys are multiplied by.
            bias: ``(H, 2 · L - 1)`` float32 what is added to a score by the key's place minus the query's, from 1 - L
                to L - 1, where L is at least the longest sequence; None: nothing.
            rounding: If given, levels from 0 to 255 come out.
            drop: What becomes of the weights.
            logs: ``(H, T)`` float32, if given, gets the logarithms to base 2 of the sums of exponentials.

        Returns:
            ``(T, D)`` of the type of `qkv`, or uint8.

        Raises:
            MemoryError: There is no memory for the scores of a few queries.
        """
        q, (tokens, width) = qkv[0], qkv[0].shape
        starts = np.ascontiguousarray(starts, dtype=np.int64)
        dtype = q.dtype if rounding is None else torch.uint8
        out = q.new_empty(tokens, width, dtype=dtype)
        failed = self._library.attention(
            *(
                *(each.data_ptr() for each in qkv),
                q.stride(0),
                q.dtype == torch.bfloat16,
                out.data_ptr(),
                _KINDS[dtype],
            ),
            *(starts.ctypes.data, len(starts) - 1, heads, width // heads, scale),
            *((None, 0) if bias is None else (bias.data_ptr(), (bias.shape[1] + 1) // 2)),
            *((None, None) if rounding is None else (each.data_ptr() for each in rounding)),
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

    def reads(self, x_TI: Tensor) -> bool:
        """Whether it can round a matrix, and normalise it."""
        return x_TI.dtype in (torch.float32, torch.bfloat16) and x_TI.ndim == 2 and x_TI.shape[1] % _LANES == 0

    def rounded(self, x_TI: Tensor, rounding: Rounding) -> Tensor:
        """The levels ``(T, I)`` uint8 of a matrix that it `reads`."""
        x_TI = x_TI.contiguous()
        out = torch.empty(x_TI.shape, dtype=torch.uint8)
        by, shift = rounding
        kind = _KINDS[x_TI.dtype]
        self._library.rounded(x_TI.data_ptr(), kind, out.data_ptr(), *x_TI.shape, by.data_ptr(), shift.data_ptr())
        return out

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
            dtype: What comes out: float32 or bfloat16.
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
        out = torch.empty(tokens, width, dtype=dtype)
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


def kernels() -> Kernels | None:
    """The compiled functions; None where there are none."""
    return _found()[0]


def describe_kernels() -> str:
    """Whether there are any, or why not."""
    return _found()[1]


def _of_all(share: float) -> int:
    """A share of 2^32."""
    return min(round(share * 2**32), 2**32 - 1)


def _threads(starts: np.ndarray, heads: int) -> int:
    scores = heads * int((np.diff(starts) ** 2).sum())
    return min(torch.get_num_threads(), 1 + scores // _THREAD_SCORES)


def _threads_of(values: Tensor) -> int:
    return min(torch.get_num_threads(), 1 + values.numel() // _THREAD_NUMBERS)


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("there is no memory for this batch; take smaller ones")


@cache
def _found() -> tuple[Kernels | None, str]:
    features = _features()
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if os.environ.get("BOTHWAYS_KERNELS") == "0":
        return None, "none: BOTHWAYS_KERNELS=0 switches them off"
    if not features.issuperset(_NEEDED):
        return None, "none: written for AVX-512 under Linux"
    if compiler is None:
        return None, "none: there is no C compiler (cc, gcc, clang)"
    pairs = _PAIRS in features
    flags = [*_FLAGS, *(f"-m{name}" for name in _NEEDED), *([f"-m{_PAIRS.replace('_', '')}"] if pairs else [])]
    try:
        return Kernels(_compiled(compiler, flags), pairs), "AVX-512" + (" with bf16" if pairs else "")
    except (
        OSError,
        subprocess.SubprocessError,
        AttributeError,
        RuntimeError,
        ValueError,
    ) as problem:  # no home, odd CC
        return None, f"none: {problem}"


def _features() -> set[str]:
    """What the processor has, by the names of Linux; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _compiled(compiler: str, flags: list[str]) -> Path:
    """The library, compiled if it is not in the cache.

    Raises:
        OSError: The cache folder is another user's, or cannot be written.
        subprocess.SubprocessError: It does not compile.
    """
    sources = sorted([*_HERE.glob("*.c"), *_HERE.glob("*.h")])
    made_of = "\0".join([*(source.read_text(encoding="utf-8") for source in sources), compiler, *flags]).encode()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bothways"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (found := folder.stat()).st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"others may write to {folder}")
    path = folder / f"kernels-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as new:
            made = Path(new) / path.name
            units = [str(source) for source in sources if source.suffix == ".c"]
            typed = [*shlex.split(compiler), *flags, *units, "-lm", "-o", str(made)]
            subprocess.run(typed, check=True, capture_output=True, timeout=_SECONDS)
            made.replace(path)  # whole or not at all, also when two processes compile it
    return path
