"""The machine is described truly: features, cgroup limits of both versions, precision with its reason."""

import builtins
import json
import os
import subprocess
import sys

import pytest

from bothways.errors import BothwaysError
from bothways.run import machine, processor
from bothways.run import precision as precision_module
from bothways.run.machine import (
    allowed_threads,
    cache_share,
    describe_machine,
    memory_limit,
    processor_features,
    processor_name,
    processor_quota,
)
from bothways.run.precision import native_bf16, resolve_precision

X86 = """processor\t: 0
model name\t: Fictional 9000 @ 3.00GHz
flags\t\t: fpu sse4_2 avx2 fma avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimddp i8mm bf16
"""


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_features_of_intel_and_arm(tmp_path):
    x86 = write(tmp_path / "x86", {"proc/cpuinfo": X86})
    assert processor_name(x86) == "Fictional 9000 @ 3.00GHz"
    assert processor_features(x86) == ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
    arm = write(tmp_path / "arm", {"proc/cpuinfo": ARM})
    assert processor_features(arm) == ["neon", "neon_dot", "neon_i8mm", "neon_bf16"]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/a/b/cpu.max": "200000 100000", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ({"sys/fs/cgroup/unified/cpu.max": "300000 100000"}, 3.0),
    ],
)
def test_processor_quota_of_cgroup_version_2(tmp_path, files, quota):
    root = write(tmp_path, {"proc/self/cgroup": "0::/a/b\n", **files})
    assert processor_quota(root) == quota


@pytest.mark.parametrize(
    ("folder", "microseconds", "quota"),
    [
        ("cpu,cpuacct/docker/c0ffee", "250000", 2.5),
        ("cpu,cpuacct", "250000", 2.5),  # inside a container the group is often mounted at the top
        ("cpu", "250000", 2.5),
        ("cpu,cpuacct", "-1", None),
    ],
)
def test_processor_quota_of_cgroup_version_1(tmp_path, folder, microseconds, quota):
    base = f"sys/fs/cgroup/{folder}"
    files = {f"{base}/cpu.cfs_quota_us": microseconds, f"{base}/cpu.cfs_period_us": "100000\n"}
    root = write(tmp_path, {"proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/c0ffee\n", **files})
    assert processor_quota(root) == quota


def test_memory_limits_of_both_versions(tmp_path):
    two = write(tmp_path / "2", {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1073741824"})
    assert memory_limit(two) == 1 << 30
    unlimited = write(tmp_path / "u", {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max"})
    assert memory_limit(unlimited) is None
    group = {"proc/self/cgroup": "4:memory:/b\n"}
    one = write(tmp_path / "1", {**group, "sys/fs/cgroup/memory/b/memory.limit_in_bytes": "536870912"})
    assert memory_limit(one) == 1 << 29
    none = write(tmp_path / "0", {**group, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"})
    assert memory_limit(none) is None


def test_the_last_cache_is_shared_out_among_the_cores_that_have_it(tmp_path):
    folder = "sys/devices/system/cpu/cpu0/cache/index"
    caches = {("0", "1", "48K", "0"), ("2", "2", "1280K", "0"), ("3", "3", "49152K", "0-3,8-11")}
    names = ("level", "size", "shared_cpu_list")
    files = {
        f"{folder}{number}/{name}": f"{value}\n"
        for number, *rest in caches
        for name, value in zip(names, rest, strict=True)
    }
    assert cache_share(write(tmp_path / "told", files)) == 49152 * 1024 // 8
    assert cache_share(write(tmp_path / "odd", files | {f"{folder}3/size": "48M\n"})) == 1280 * 1024
    assert cache_share(tmp_path / "untold") == 0


@pytest.mark.parametrize(("quota", "threads"), [("10000", 1), ("100000", 1), ("110000", 2), ("6400000", 8)])
def test_threads_are_the_least_of_cores_binding_and_quota_rounded_up(tmp_path, monkeypatch, quota, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    count, why = allowed_threads(root)
    assert count == threads
    assert ("quota" in why) == (threads < 8)


def test_torch_gets_no_more_threads_than_allowed_unless_the_user_says_so(monkeypatch):
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(machine, "allowed_threads", lambda: (1, "a test"))
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert machine.apply_thread_limit() == 2
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCH_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        assert machine.apply_thread_limit() == 1
    finally:
        torch.set_num_threads(before)


def test_the_description_is_plain_data():
    described = describe_machine()
    assert json.loads(json.dumps(described)) == described
    assert described["threads"]["allowed"] >= 1
    assert described["precision"]["name"] in ("float32", "bf16")
    assert described["precision"]["reason"]
    assert described["torch"]


def test_without_torch_or_with_a_broken_one_it_still_describes_the_rest(monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    described = describe_machine()
    assert (described["torch"], described["torch_problem"], described["precision"]) == (None, "not installed", None)
    monkeypatch.undo()
    real = builtins.__import__

    def broken(name, *rest, **more):
        if name == "torch":
            raise OSError("libtorch_cpu.so: cannot open shared object file")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert "libtorch_cpu.so" in describe_machine()["torch_problem"]


def test_importing_it_imports_no_torch():
    code = "import sys, bothways.run.machine, bothways.run.precision; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("features", "mkldnn", "name"),
    [
        (["avx2", "avx512f"], True, "float32"),
        (["avx512f", "avx512_bf16"], True, "bf16"),
        (["amx_bf16"], True, "bf16"),
        (["neon", "neon_bf16"], True, "bf16"),
        (["avx512_bf16"], False, "float32"),
    ],
)
def test_bf16_is_chosen_where_the_processor_and_torch_have_it(monkeypatch, features, mkldnn, name):
    import torch

    for module in (precision_module, processor):
        monkeypatch.setattr(module, "processor_features", lambda: features)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: mkldnn)
    choice = resolve_precision("auto", "cpu")
    if name == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        name = "float32"
    assert choice.name == name
    assert choice.device == "cpu"


def test_what_is_asked_for_is_done(monkeypatch):
    for module in (precision_module, processor):
        monkeypatch.setattr(module, "processor_features", lambda: [])
    assert resolve_precision("float32", "cpu").name == "float32"
    forced = resolve_precision("bf16", "cpu")
    assert forced.name == "bf16"
    assert "no instructions for bf16" in forced.reason
    with pytest.raises(BothwaysError, match="no precision 'fp8'"):
        resolve_precision("fp8", "cpu")


def test_other_devices_are_not_guessed_about():
    assert resolve_precision("auto", "mps").name == "float32"
    assert native_bf16("xpu")[0] is False


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_is_asked(monkeypatch, supported):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Fictional GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    choice = resolve_precision("auto", torch.device("cuda", 0))
    assert (choice.name, choice.device) == ("bf16" if supported else "float32", "cuda")
    assert "Fictional GPU" in choice.reason


def test_autocast_rounds_products_and_nothing_else():
    import torch

    with resolve_precision("bf16", "cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with resolve_precision("float32", "cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
