"""Our own kernels: C for processors with AVX-512, compiled once on the machine where they run.

Nothing needs them. Where there is no compiler, another processor, or ``BOTHWAYS_KERNELS=0``, torch's operators do the
same. What was compiled is kept in the user's cache folder, under a name that the source and the flags decide, and ends
with a hash of itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bothways.cache import cache_folder
from bothways.model.kernels.functions import Kernels
from bothways.whole import sync

_HERE = Path(__file__).parent
_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
_PAIRS, _BYTES = "avx512_bf16", "avx512_vnni"
_FLAGS = ("-O3", "-shared", "-fPIC", "-pthread", "-mfma", "-fno-math-errno", "-fno-trapping-math")
_SECONDS = 120
"""That a compiler may take."""
_HASH = hashlib.sha256().digest_size


def kernels() -> Kernels | None:
    """The compiled functions; None where there are none."""
    return _found()[0]


def describe_kernels() -> str:
    """Whether there are any, or why not."""
    return _found()[1]


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
    more = [name for name in (_PAIRS, _BYTES) if name in features]
    try:
        path, more = _with_what_it_knows(compiler, more)
        ours = Kernels(path, _PAIRS in more, _BYTES in more, _openmp())
        with_what = " and ".join(["bf16"] * ours.pairs + ["VNNI"] * ours.levels)
        return ours, f"AVX-512 with {with_what}" if with_what else "AVX-512"
    except (
        OSError,
        subprocess.SubprocessError,
        AttributeError,
        RuntimeError,
        ValueError,
    ) as problem:  # no home, odd CC
        return None, f"none: {_said(problem) or problem}"


def _features() -> set[str]:
    """What the processor has, by the names of Linux; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _with_what_it_knows(compiler: str, more: list[str]) -> tuple[Path, list[str]]:
    """The library with as many of some features, the newest first, as the compiler knows, and these.

    Raises:
        OSError: As `_compiled` says.
        subprocess.SubprocessError: It does not compile without them either.
    """
    flags = [*_FLAGS, *(f"-m{name.replace('_', '')}" for name in (*_NEEDED, *more))]
    try:
        return _compiled(compiler, flags), more
    except subprocess.CalledProcessError:
        if not more:
            raise
        return _with_what_it_knows(compiler, more[1:])


def _said(problem: Exception) -> str:
    """What a compiler itself says is wrong; nothing where it is silent, or did not run."""
    raw = problem.stderr if isinstance(problem, subprocess.CalledProcessError) else b""
    lines = (raw or b"").decode("utf-8", "replace").splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else "").strip()


def _compiled(compiler: str, flags: list[str]) -> Path:
    """The library, compiled if it is not in the cache, or not whole there: half a library would end the process.

    Raises:
        OSError: The cache folder is another user's, or cannot be written.
        subprocess.SubprocessError: It does not compile.
    """
    sources = sorted([*_HERE.glob("*.c"), *_HERE.glob("*.h")])
    made_of = "\0".join([*(source.read_text(encoding="utf-8") for source in sources), compiler, *flags]).encode()
    folder = cache_folder()
    path = folder / f"kernels-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not _whole(path):
        with tempfile.TemporaryDirectory(dir=folder) as new:
            made = Path(new) / path.name
            units = [str(source) for source in sources if source.suffix == ".c"]
            typed = [*shlex.split(compiler), *flags, *units, "-lm", "-o", str(made)]
            subprocess.run(typed, check=True, capture_output=True, timeout=_SECONDS)
            with made.open("ab") as library:
                library.write(hashlib.sha256(made.read_bytes()).digest())  # after its end nothing is read by others
            sync(made)
            made.replace(path)  # whole or not at all, also when two processes compile it
    return path


def _whole(path: Path) -> bool:
    """Whether a library is there as it was made: it ends with the hash of what is before."""
    content = path.read_bytes() if path.exists() else b""
    return hashlib.sha256(content[:-_HASH]).digest() == content[-_HASH:]


def _openmp() -> int | None:
    """Where the function lies by which torch's own threads are begun; None where that is not known."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        paths = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line or "/libiomp" in line}
        paths = {path for path in paths if "/torch" in path} or paths  # other packages bring their own
        if len(paths) == 1:
            return ctypes.cast(ctypes.CDLL(paths.pop())["GOMP_parallel"], ctypes.c_void_p).value
    except (OSError, AttributeError):
        pass
    return None
