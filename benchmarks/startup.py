"""How long it takes until something happens: ``import bothways``, ``bothways --help``, the first vector.

    python benchmarks/startup.py [--model FOLDER]

Each command runs in a fresh process, after one uncounted run; the median of nine is printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

IMPORT = "import sys, bothways; assert 'torch' not in sys.modules"
EMBED = "import bothways as bw; bw.load({!r}).embed('How long does it take?')"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder, to time the first vector too")
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import bothways": [sys.executable, "-c", IMPORT],
        "bothways --help": [sys.executable, "-m", "bothways", "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    if args.model:
        commands["process start to first vector"] = [sys.executable, "-c", EMBED.format(args.model)]
    print("| command | seconds (median) | fastest | slowest |\n|---|---|---|---|")
    for name, command in commands.items():
        times = sorted([seconds(command) for _ in range(args.runs + 1)][1:])  # the first fills caches
        print(f"| `{name}` | {statistics.median(times):.2f} | {times[0]:.2f} | {times[-1]:.2f} |")


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
