"""Which of the processor's instructions the kernels use, and what tells kinds of processors apart."""

from __future__ import annotations

import os

from bothways.run.machine import processor_features

CAP = "ONEDNN_MAX_CPU_ISA"
_NEWEST = ("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")
_BEYOND = {
    "AVX512_CORE_VNNI": _NEWEST,
    "AVX512_CORE": (*_NEWEST, "avx512_vnni", "avx_vnni"),
    "AVX2_VNNI": (*_NEWEST, "avx512_vnni", "avx512f"),
    "AVX2": (*_NEWEST, "avx512_vnni", "avx512f", "avx_vnni"),
    "AVX": (*_NEWEST, "avx512_vnni", "avx512f", "avx_vnni", "avx2", "fma"),
    "SSE41": (*_NEWEST, "avx512_vnni", "avx512f", "avx_vnni", "avx2", "fma"),
}
"""What torch's library of kernels leaves unused where the user's environment caps it."""


def used_features() -> list[str]:
    """The instruction sets that torch's kernels use: the processor's but those that ``ONEDNN_MAX_CPU_ISA`` forbids."""
    beyond = _BEYOND.get(os.environ.get(CAP, "").upper(), ())
    return [feature for feature in processor_features() if feature not in beyond]


def processor_kind() -> str:
    """What tells processors apart that are fast at different precisions, such as ``"avx2 fma avx512f"``."""
    return " ".join(used_features()) or "unknown"
