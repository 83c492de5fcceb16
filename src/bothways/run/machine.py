"""What this machine is: processor, threads that may be used, memory, torch, GPU; plain data for `doctor` and run.json.

In a container the machine has more cores than the process may use; the limits stand in the cgroup files (version 1
or 2).
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FEATURES = {
    "avx2": "avx2",
    "fma": "fma",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "neon_dot",
    "i8mm": "neon_i8mm",
    "bf16": "neon_bf16",
    "sve": "sve",
}
"""The kernel's names of the features that matter to an encoder, and ours."""
BF16_FEATURES = ("amx_bf16", "avx512_bf16", "neon_bf16")
"""Those that multiply bf16 natively."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCH_NUM_THREADS")
_UNLIMITED = 1 << 60
"""Memory limits of cgroup version 1 at or above this many bytes mean none."""


def describe_machine(precision: str = "auto", root: Path = Path("/")) -> dict[str, Any]:
    """The machine as plain data.

    Args:
        precision: What the user asks for, as `resolve_precision` takes it.
        root: Where the file system begins; tests put a false one here.

    Returns:
        ``system``, ``python``, ``processor`` (name, architecture, features, cores), ``threads`` (allowed, why),
        ``memory`` (bytes, limit), ``torch`` (version, None if it cannot be used), ``torch_problem`` (why, or None),
        ``gpus`` (names), ``precision`` (name, reason; None without torch), ``kernels`` (our own, or why there are
        none; None without torch).
    """
    return {
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "processor": {
            "name": processor_name(root),
            "architecture": platform.machine(),
            "features": processor_features(root),
            "cores": os.cpu_count() or 1,
        },
        "threads": dict(zip(("allowed", "why"), _told_threads(root), strict=True)),
        "memory": {"bytes": memory(), "limit": memory_limit(root)},
        **_describe_torch(precision),
    }


def processor_name(root: Path = Path("/")) -> str:
    """The name of the processor as its maker gives it."""
    name = _processor_line("model name", root) or _sysctl("machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def processor_features(root: Path = Path("/")) -> list[str]:
    """The instruction sets that matter to an encoder, such as ``avx512_bf16``; empty where they cannot be read."""
    flags = set((_processor_line("flags", root) or _processor_line("Features", root)).split())
    found = [ours for theirs, ours in _FEATURES.items() if theirs in flags]
    if not flags and platform.system() == "Darwin" and platform.machine() == "arm64":
        found = ["neon"] + (["neon_bf16"] if _sysctl("hw.optional.arm.FEAT_BF16") == "1" else [])
    return found


def cache_share(root: Path = Path("/")) -> int:
    """Bytes of the processor's last cache for each of the cores that share it; 0 where Linux does not tell."""
    share, deepest = 0, 0
    for index in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, size, cores = (
                (index / name).read_text(encoding="ascii").strip() for name in ("level", "size", "shared_cpu_list")
            )
            if int(level) > deepest:
                share, deepest = int(size.removesuffix("K")) * 1024 // _count(cores), int(level)
        except (OSError, ValueError):
            continue
    return share


def _count(cores: str) -> int:
    """How many there are of ``"0-3,8"``."""
    ends = [[int(end) for end in part.split("-")] for part in cores.split(",")]
    return sum(part[-1] - part[0] + 1 for part in ends)


def allowed_threads(root: Path = Path("/")) -> tuple[int, str]:
    """How many threads this process may run at once, and what says so.

    The least of: the machine's cores, the cores the process is bound to, the processor quota of its cgroup (rounded
    up). At least 1.
    """
    limits = [(float(os.cpu_count() or 1), "all cores of the machine")]
    if hasattr(os, "sched_getaffinity"):
        limits.append((float(len(os.sched_getaffinity(0))), "the cores this process is bound to"))
    quota = processor_quota(root)
    if quota is not None:
        limits.append((float(max(1, math.ceil(quota))), f"a cgroup quota of {quota:g} processors"))
    count, why = min(limits, key=lambda limit: limit[0])
    return int(count), why


def processor_quota(root: Path = Path("/")) -> float | None:
    """The processors, maybe a fraction, that the cgroup and those around it allow; None without a limit."""
    quotas = []
    for folder in _cgroups("cpu", root):
        limit = _words(folder / "cpu.max") or (
            *_words(folder / "cpu.cfs_quota_us")[:1],
            *_words(folder / "cpu.cfs_period_us")[:1],
        )
        if len(limit) == 2 and limit[0].isdigit() and int(limit[1]) > 0 and int(limit[0]) > 0:
            quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas, default=None)


def memory() -> int | None:
    """The machine's memory in bytes; None where it cannot be read."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def memory_limit(root: Path = Path("/")) -> int | None:
    """The bytes of memory that the cgroup and those around it allow; None without a limit."""
    limits = []
    for folder in _cgroups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(word) for word in _words(folder / name)[:1] if word.isdigit() and int(word) < _UNLIMITED]
    return min(limits, default=None)


def peak_memory(root: Path = Path("/")) -> int | None:
    """The most bytes of memory that this process has held so far; None where that is not known."""
    line = next((line for line in _text(root / "proc/self/status").splitlines() if line.startswith("VmHWM:")), "")
    if line:  # unlike the other figure, this one does not begin with what the parent process held
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def apply_thread_limit() -> int:
    """Keeps torch from starting more threads than the process may run, unless the user's environment says how many.

    Its kernels are kept from growing without bound, too.

    Returns:
        The threads torch will use.
    """
    import torch

    # Each shape that oneDNN multiplied keeps a kernel, a thousand of them a hundred megabytes; read at the first one.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    if not any(os.environ.get(name) for name in _THREAD_VARIABLES):
        allowed, _ = allowed_threads()
        # Fewer than allowed is torch's own choice, such as one a physical core.
        torch.set_num_threads(min(torch.get_num_threads(), allowed))
    return torch.get_num_threads()


def wanted_threads() -> int:
    """How many threads to compute with: as the user's environment says, else as many as the process may run."""
    return _told_threads()[0]


def _told_threads(root: Path = Path("/")) -> tuple[int, str]:
    """How many threads are used, and what says so."""
    for name in _THREAD_VARIABLES:
        said = os.environ.get(name, "").partition(",")[0].strip()
        if said.isdigit() and int(said):
            return int(said), f"{name} says so"
    return allowed_threads(root)


def _describe_torch(precision: str) -> dict[str, Any]:
    problem = None
    if find_spec("torch") is None:
        problem = "not installed"
    else:
        try:
            import torch
        except (ImportError, OSError) as error:  # a broken installation is what `doctor` is asked about
            problem = str(error)
    if problem is not None:
        return {"torch": None, "torch_problem": problem, "gpus": [], "precision": None, "kernels": None}

    from importlib.metadata import PackageNotFoundError, version

    from bothways.model.kernels.compiled import describe_kernels
    from bothways.run.precision import resolve_precision

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    choice = resolve_precision(precision, "cuda" if gpus else "cpu")
    try:
        installed = version("torch")
    except PackageNotFoundError:
        installed = str(torch.__version__)
    decided = {"name": choice.name, "reason": choice.reason}
    return {
        "torch": installed,
        "torch_problem": None,
        "gpus": gpus,
        "precision": decided,
        "kernels": describe_kernels(),
    }


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """The folders that may hold this process's limits of a controller, from its own group up to the outermost."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 names no controllers and lies at the mount itself, or beside version 1 under "unified".
        bases = [mount / controllers, mount / controller] if controllers else [mount, mount / "unified"]
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for base in dict.fromkeys(bases):
            yield from (base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _processor_line(key: str, root: Path) -> str:
    """The value after ``key :`` in /proc/cpuinfo, of the first processor that has it."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _sysctl(name: str) -> str:
    if platform.system() != "Darwin":
        return ""
    import subprocess

    try:
        return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _words(path: Path) -> tuple[str, ...]:
    return tuple(_text(path).split())
