"""Evidence: what comes out of every objective, family, task and sentence objective, in tables anyone can run again.

A table is a list of cells; a cell is one training and its scores, takes under 30 minutes on two cores with bf16 (on
others some take several sittings of 29 minutes), and is kept as a line of ``results/TABLE.jsonl`` when it is finished.
What is missing is done, in any number of sittings; then ``docs/evidence.md`` is written anew from all that is there.

    make evidence                                             # everything that is missing
    make evidence TABLE=objectives
    python benchmarks/evidence objectives --minutes 60        # for an hour; what is unfinished goes on the next time
    python benchmarks/evidence --only mlm --jobs 2            # two cells side by side, a thread each
    python benchmarks/evidence --list                         # what is done and what is missing
    python benchmarks/evidence --page                         # only writes the page

Quality is measured here, never speed: cells may run side by side, and beside other work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import cells  # noqa: E402
import page  # noqa: E402
from real_run import SHARED  # noqa: E402

MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "mpnet": "sentence-transformers/all-mpnet-base-v2"}


def main() -> int:
    """Does what is asked; 1 where a cell failed, 2 where there is no data."""
    parser = argparse.ArgumentParser(
        prog="evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(cells.TABLES)} (default: all)")
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with the data sets")
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / "runs" / "evidence", help="for trained models")
    parser.add_argument("--minilm", default=MODELS["minilm"], help="all-MiniLM-L6-v2: a folder, or a hub id")
    parser.add_argument("--mpnet", default=MODELS["mpnet"], help="all-mpnet-base-v2: a folder, or a hub id")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cells whose name holds one of the words")
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side")
    parser.add_argument("--cells", type=int, help="so many and no more")
    parser.add_argument("--minutes", type=float, help="as long and no longer")
    parser.add_argument("--list", action="store_true", help="only says what is done and what is missing")
    parser.add_argument("--page", action="store_true", help="only writes docs/evidence.md")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = [name for name in args.tables if name not in cells.TABLES]
    if unknown:
        parser.error(f"there is no table {unknown[0]}; there are {', '.join(cells.TABLES)}")
    names = args.tables or [name for name in cells.TABLES if (HERE / "tables" / f"{name}.py").exists()]
    if args.list:
        listed(names)
        return 0
    if args.page:
        page.write()
        return 0
    if not args.data.is_dir():
        print(f"evidence: the data sets are not there: {args.data} is no folder; name it with --data", file=sys.stderr)
        return 2
    if args.cell:
        one(args)
        return 0
    given = ["--data", str(args.data), "--work", str(args.work), "--minilm", args.minilm, "--mpnet", args.mpnet]
    threads = max(1, len(os.sched_getaffinity(0)) // args.jobs)
    runner = cells.Runner(names, args.only, given, threads)
    try:
        runner.run(args.jobs, args.cells, None if args.minutes is None else time.time() + 60 * args.minutes)
    except KeyboardInterrupt:
        print("evidence: stopped; what is unfinished goes on the next time", file=sys.stderr)
        return 130
    finally:
        page.write()
    return 1 if runner.failed else 0


def one(args: argparse.Namespace) -> None:
    """Does one cell, in this process, and prints its result last."""
    from bothways.progress import silent

    silent()
    name, wanted = args.cell
    cell = next(cell for cell in cells.table(name).cells() if cell.name == wanted)
    room = cells.Room(args.data, args.work, {"minilm": args.minilm, "mpnet": args.mpnet})
    print(json.dumps(cell.run(room)))


def listed(names: list[str]) -> None:
    """How far each table is, and what comes next."""
    for name in names:
        every, done = list(cells.table(name).cells()), cells.results(name)
        missing = [cell.name for cell in every if cell.name not in done]
        following = f"; next {missing[0]}" if missing else ""
        print(f"{name}: {len(every) - len(missing)} of {len(every)} cells{following}")


if __name__ == "__main__":
    sys.exit(main())
