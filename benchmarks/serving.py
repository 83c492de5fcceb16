"""How much of a model's speed is left over HTTP: one server, many callers, beside the same texts asked in Python.

The server runs in a process of its own with all cores; the callers, which send prepared bytes over connections that
stay open, in another. Each way takes the texts of `inference.py`, shuffled: one a request from 1, 8 and 64 callers, and
64 a request from 4 callers. What is printed is texts a second, their share of what ``model.embed`` does in a process
alone, and how long a request took (p50, p99).

    python benchmarks/serving.py --model all-MiniLM-L6-v2 --precision auto
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from inference_texts import sampled_texts
from real_run import SHARED

WAYS = ((1, 1), (8, 1), (64, 1), (4, 64))
"""Callers, and texts in each of their requests."""
HEAD = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def main() -> None:
    """Runs all ways and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/inference"), help="keeps the texts")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    texts = sampled_texts(args.texts, args.data, args.out)
    random.Random(0).shuffle(texts)
    alone = statistics.median(in_python(args, texts) for _ in range(args.rounds))
    print(
        f"in Python: {alone:,.0f} texts a second\n\n| callers | texts a request | texts/s | share | p50 ms | p99 ms |"
    )
    print("|---|---|---|---|---|---|")
    command = [sys.executable, "-m", "bothways", "serve", args.model, "--port", "0", "--precision", args.precision]
    server = subprocess.Popen([*command, "--max-waiting", "10000000"], stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(server.stdout.readline, "")  # type: ignore[union-attr]
        place = next(line for line in lines if line.startswith("listening")).split()[2]
        port = int(place.rpartition(":")[2])
        for callers, each in WAYS:
            few = texts if callers > 1 else texts[: len(texts) // 4]
            bodies = [json.dumps({"texts": few[at : at + each]}).encode() for at in range(0, len(few), each)]
            asyncio.run(asked(port, bodies[: 4 * callers], callers))
            rounds = [asyncio.run(asked(port, bodies, callers)) for _ in range(args.rounds)]
            speed = statistics.median(len(few) / seconds for seconds, _ in rounds)
            took = sorted(itertools.chain.from_iterable(each for _, each in rounds))
            p50, p99 = (1000 * took[int(share * (len(took) - 1))] for share in (0.5, 0.99))
            print(f"| {callers} | {each} | {speed:,.0f} | {speed / alone:.0%} | {p50:.1f} | {p99:.1f} |", flush=True)
    finally:
        server.terminate()
        server.wait()


def in_python(args: argparse.Namespace, texts: Sequence[str]) -> float:
    """Texts a second of ``model.embed``, in a process of its own."""
    code = (
        "import json, sys, time, bothways as bw; texts = json.load(sys.stdin); "
        "model = bw.load(sys.argv[1], precision=sys.argv[2], truncation='head'); model.embed(texts[:200]); "
        "begun = time.perf_counter(); model.embed(texts); print(len(texts) / (time.perf_counter() - begun))"
    )
    command = [sys.executable, "-c", code, args.model, args.precision]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    return float(done.stdout)


async def asked(port: int, bodies: Sequence[bytes], callers: int) -> tuple[float, list[float]]:
    """Seconds until all requests were answered, and those of each."""
    waiting, took = iter(bodies), []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            begun = time.perf_counter()
            writer.write(HEAD % len(body) + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in answer.split(b"\r\n", 1)[0]:
                raise SystemExit(answer.decode())
            await reader.readexactly(int(answer.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            took.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - begun, took


if __name__ == "__main__":
    main()
