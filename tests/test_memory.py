"""Freed memory stays with the process while it trains, and goes back afterwards and between slices of a file."""

import json
import platform
import subprocess
import sys

import pytest

from bothways.run import memory
from bothways.run.memory import give_back, kept_memory

ON_GLIBC = platform.libc_ver()[0] == "glibc"
FAULTS = """
import contextlib, json, resource, sys
import torch
from bothways.run.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(12_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])

torch.set_num_threads(1)
before = faults()
with kept_memory():
    faults()
    within = faults()
    with kept_memory():
        pass
    still = faults()
    held = resident()
print(json.dumps({"before": before, "within": within, "still": still, "held": held, "left": resident()}))
"""


@pytest.mark.skipif(not ON_GLIBC, reason="another C library")
def test_a_block_that_was_freed_is_used_again_without_being_cleared_by_the_system():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found["before"] < 10_000:  # 48 MB ten times are 120,000 pages of 4 kB
        pytest.skip("the system hands out huge pages")
    assert found["within"] < found["before"] / 20
    assert found["still"] < found["before"] / 20  # the inner block has ended, the outer has not
    assert found["held"] - found["left"] > 30_000  # kB


def test_the_outermost_block_puts_the_settings_back_and_gives_memory_back(monkeypatch):
    """Told to the library; how many pages a process then clears also depends on what lies beside them."""
    told = []

    class Library:
        mallopt = staticmethod(lambda name, value: told.append((name, value)))
        malloc_trim = staticmethod(lambda pad: told.append("given back"))

    monkeypatch.setattr(memory, "_glibc", Library)
    with kept_memory():
        kept = told.copy()
        with kept_memory():
            pass
        assert told == kept * 2
    assert kept == [(memory._MMAP_MAX, 0), (memory._TRIM_THRESHOLD, memory._KEPT)]
    assert told == kept * 2 + [*memory._USUAL.items(), "given back"]


def test_where_there_is_no_such_setting_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    for wanted in (True, False):
        with kept_memory(wanted):
            assert memory._holders == 0, "nothing is kept, so nothing has to be given back"


@pytest.mark.skipif(not ON_GLIBC, reason="another C library")
def test_it_ends_after_an_error_too():
    with pytest.raises(RuntimeError), kept_memory():
        raise RuntimeError
    assert memory._holders == 0


def test_what_is_free_goes_back_when_it_is_asked_for_also_while_freed_blocks_are_kept(monkeypatch):
    told = []

    class Library:
        mallopt = staticmethod(lambda name, value: None)
        malloc_trim = staticmethod(lambda pad: told.append("given back"))

    monkeypatch.setattr(memory, "_glibc", Library)
    give_back()
    assert told == ["given back"]
    with kept_memory():
        give_back()
        assert told == ["given back"] * 2


@pytest.mark.skipif(not ON_GLIBC, reason="another C library")
def test_holes_between_blocks_go_back_to_the_system():
    code = """if True:
        import torch
        from bothways.run.memory import give_back

        def resident():
            lines = open("/proc/self/status").read().splitlines()
            return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])

        blocks = [torch.ones(10_000) for _ in range(2_000)]  # too small to be mapped by themselves
        del blocks[::2]
        before = resident()
        give_back()
        print(before - resident())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 30_000  # kB, of 40,000 that are free
