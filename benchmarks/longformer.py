"""Attention within windows against full attention: time and memory of long texts.

Both sides are the same encoder, Longformer's base size with fewer layers and random weights, one text at a time with
its first token global; one side attends within windows of 256 to either side, the other attends to everything. A third
side, if asked for, is Longformer in `transformers`, which pads texts to whole windows.

    python benchmarks/longformer.py                      # 512, 1,024, 2,048 and 4,096 tokens
    python benchmarks/longformer.py --layers 12 --modes forward --transformers
    python benchmarks/longformer.py --device cuda --layers 12 --precision bf16

Each figure comes from a process of its own. Time is the median of some runs after an uncounted one; a training step is
a forward and a backward pass with dropout, without an optimizer. Memory is the highest that the process (on a GPU:
torch) ever held, less what the same process holds for a text of 16 tokens: what the length costs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = {"windows": "windows", "full": "full attention", "transformers": "transformers"}
MODES = ("forward", "training")
SHORT = 16
"""The length that memory is compared with."""


def main() -> None:
    args = parse()
    if args.cell:
        print(json.dumps(measure(*args.cell.split(","), args)))
        return
    sides = [side for side in SIDES if side != "transformers" or args.transformers]
    results: dict[str, dict[str, Any]] = {}
    for mode in args.modes:
        for length in (SHORT, *args.lengths):
            for side in sides:
                cell = f"{side},{mode},{length}"
                results[cell] = in_process(cell)
                print(cell, results[cell], file=sys.stderr, flush=True)
        print(table(results, mode, sides, args.lengths))
    if args.json:
        Path(args.json).write_text(json.dumps(vars(args) | {"results": results}, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--layers", type=int, default=4, help="of full attention, each needs about 3 GB for training")
    parser.add_argument("--runs", type=int, default=5, help="counted runs a figure")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--transformers", action="store_true", help="measure its Longformer too")
    parser.add_argument("--json", help="write everything here")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(cell: str) -> dict[str, Any]:
    """One figure, by a fresh process with the same settings."""
    command = [sys.executable, __file__, *sys.argv[1:], "--cell", cell]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(side: str, mode: str, length: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and the highest memory in bytes."""
    import torch

    module, run = prepared(side, int(length), args)
    module.train(mode == "training")

    def once() -> float:
        began = time.perf_counter()
        with (
            torch.set_grad_enabled(mode == "training"),
            torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"),
        ):
            out = run()
        if mode == "training":
            out.float().square().mean().backward()
            module.zero_grad(set_to_none=False)
        if args.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    times = [once() for _ in range(args.runs + 1)][1:]
    peak = torch.cuda.max_memory_allocated() if args.device != "cpu" else 1024 * rss()
    return {"seconds": statistics.median(times), "fastest": min(times), "bytes": peak}


def rss() -> int:
    """The most memory that this process ever held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def prepared(side: str, length: int, args: argparse.Namespace) -> tuple[Any, Callable[[], Any]]:
    """A module and a call that runs it on one text."""
    import numpy as np
    import torch

    from bothways.batch import make_batch, mark_global
    from bothways.model.build import build_encoder
    from bothways.model.config import AttentionConfig
    from bothways.model.families import family

    longformer = family("longformer")
    config = longformer.size("base-4096").derive(layers=args.layers, pooler=None)
    ids = np.random.default_rng(0).integers(3, config.embeddings.vocab_size, length)
    torch.manual_seed(0)
    if side == "transformers":
        import transformers

        transformers.logging.set_verbosity_error()
        settings = transformers.LongformerConfig(**longformer.to_hf(config))
        model = transformers.LongformerModel(settings, add_pooling_layer=False).to(args.device)
        tokens = torch.from_numpy(ids)[None].to(args.device)
        chosen = torch.zeros_like(tokens)
        chosen[:, 0] = 1
        return model, lambda: model(tokens, global_attention_mask=chosen).last_hidden_state
    if side == "full":
        config = config.derive(attention=AttentionConfig(heads=config.attention.heads))
    encoder = build_encoder(config).to(args.device)
    batch = mark_global(make_batch([ids]), "first")
    return encoder, lambda: encoder(batch).sequence


def table(results: dict[str, dict[str, Any]], mode: str, sides: list[str], lengths: list[int]) -> str:
    """The figures of one mode as a Markdown table."""
    titles = [f"{SIDES[side]}, {what}" for what in ("s", "MB") for side in sides]
    rows = [f"| {mode}, tokens | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for length in lengths:
        cells = {side: results[f"{side},{mode},{length}"] for side in sides}
        seconds = [f"{cell['seconds']:.3f}" for cell in cells.values()]
        more = [cells[side]["bytes"] - results[f"{side},{mode},{SHORT}"]["bytes"] for side in sides]
        rows.append(f"| {length:,} | {' | '.join(seconds + [f'{max(0, one) / 1e6:,.0f}' for one in more])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
