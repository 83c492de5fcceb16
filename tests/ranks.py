"""Runs of several processes for the tests, as torchrun would start them; run as a program it pre-trains or fine-tunes.

    python ranks.py JOB ...

A job is JSON: ``count`` processes, what ``pretrain`` or ``finetune`` is given, and who dies when: ``deaths``
[[rank, signal, step]]. The jobs come one after the other, each in processes forked from this one, so torch is imported
once for all. For each job a line is printed: how its processes ended.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

TEXT = """
The {adjective} river rose in spring and the old {thing} stood. The {animal} was red and small.
The evening after, the teacher read a {adjective} letter. She sent the {thing} on to the house in the town.
"""


def corpus(folder, documents=120):
    """A prepared corpus of short documents, in several shards."""
    import tiny
    from bothways.text.prepare import prepare

    adjectives, things = ["long", "old", "small", "red", "new"], ["bridge", "stone", "house", "letter", "book", "music"]
    texts = [
        TEXT.format(adjective=adjectives[number % 5], thing=things[number % 6], animal=f"cat {number * number}")
        for number in range(documents)
    ]
    return prepare(texts, tiny.tokenizer(), folder, shard_tokens=1500)


def settings(corpus, out, **changes):
    """A small, quick, exact run: no dropout, float32."""
    base = {"family": "bert", "size": "tiny", "dropout": 0.0, "precision": "float32", "device": "cpu"}
    base |= {"steps": 6, "max_length": 32, "batch_tokens": 384, "micro_tokens": 128, "evaluate_every": 3}
    return {"corpus": str(corpus), "out": str(out), "optimizer": "adamw", "learning_rate": 1e-3, **base, **changes}


def job(count, corpus, out, *, deaths=(), **changes):
    return json.dumps({"count": count, "settings": settings(corpus, out, **changes), "deaths": list(deaths)})


def tuned(count, task, train, base, out, *, deaths=(), **changes):
    """A small, quick, exact run of fine-tuning, judged on what it learns from."""
    given = {"dropout": 0.0, "precision": "float32", "device": "cpu", "batch_size": 8, "epochs": 1, "report": False}
    sources = {"task": task, "train": str(train), "dev": str(train), "base": str(base), "out": str(out)}
    return json.dumps({"count": count, "settings": {**given, **sources, **changes}, "deaths": list(deaths)})


def run(*jobs):
    """Runs jobs; returns the exit codes of each one's processes, and what was said."""
    command = [sys.executable, __file__, *jobs]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=590)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def log(out, event="step"):
    lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def losses(out, rank=0):
    """The loss of each step, the last time it was taken."""
    lines = [json.loads(line) for line in Path(f"{out}.{rank}.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def keys(out, rank):
    """The examples that a process has read for training."""
    lines = [json.loads(line) for line in Path(f"{out}.{rank}.jsonl").read_text().splitlines()]
    return [tuple(line["key"]) for line in lines if "key" in line]


def _work(settings, deaths, rank):
    import bothways as bw
    from bothways.cli.entry import main
    from bothways.learn import pretrain, stream

    noted = Path(f"{settings['out']}.{rank}.jsonl")

    def note(event):
        with noted.open("a") as file:
            file.write(json.dumps({"step": event.step, "loss": event.values["loss"]}) + "\n")
        for who, number, step in deaths:
            if who == rank and step == event.step:
                os.kill(os.getpid(), getattr(signal, number))

    def read(examples, key):
        with noted.open("a") as file:
            file.write(json.dumps({"key": key}) + "\n")
        return readable(examples, key)

    readable, stream.readable = stream.readable, read
    pretrain.leave_report = lambda run: (run / "report.html").touch()  # drawing takes longer than such a run
    verb, words = "pretrain", [settings.get("corpus")]
    if "task" in settings:
        verb, words = "finetune", [settings["task"], settings["train"], "--base", settings["base"]]
    real = getattr(bw, verb)
    given = {name: value for name, value in settings.items() if name not in ("corpus", "task", "train")}
    setattr(bw, verb, lambda *typed, **named: real(*typed, **{**named, **given}, callbacks=[note]))
    return main([verb, *words, "--out", settings["out"]])


def _start(job):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(job["count"]):
        child = os.fork()
        if not child:
            os.dup2(2, 1)
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["count"])}
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            code = 99
            try:
                code = _work(job["settings"], job["deaths"], rank)
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    # what each process would import for itself
    import sklearn.metrics  # noqa: F401
    import torch._dynamo  # noqa: F401

    import bothways.cli.entry
    import bothways.learn.finetune
    import bothways.learn.pretrain  # noqa: F401

    for each in map(json.loads, sys.argv[1:]):
        if "RANK" in os.environ:  # torchrun has started this process
            again = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
            sys.exit(_work(each["settings"], [] if again else each["deaths"], int(os.environ["RANK"])))
        print(json.dumps(_start(each)), flush=True)
