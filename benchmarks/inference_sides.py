"""The sides of `inference.py`: how each library, at its best settings, makes vectors of texts.

A script of its own, so that a cold start holds nothing but what the library itself imports; it runs wherever the
library is installed, with Bothways or without.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

BATCHES = (8, 16, 32, 64)
"""Sizes of which each side that needs one takes the best."""
QUESTION = "How long does it take until the first vector is there?"


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        measure: ``"batch"`` (the best size), ``"work"`` (throughput, latency, memory) or ``"start"`` (first vector).
        library: Who.
        engine: What of theirs; empty where they have one only.
        precision: ``"float32"``, ``"bf16"``, ``"int16"``, ``"int8"`` or ``"auto"``; ``"int8 within 0.99"`` for a looser
            bound.
        model: The published folder.
        prepared: The folder of what was made of it beforehand.
        texts: A JSON list of texts.
        short: How many of the first ones are asked one by one.
        passes: How often.
        length: The most tokens of a text.
        batch: Texts of a batch; 0 where the side decides itself.
        threads: For computing.
        bf16: Whether anything may be computed in bf16.
        out: Where the vectors are kept, a ``.npy`` file.
        started: The time when the process was asked for.
    """

    measure: str
    library: str
    engine: str
    precision: str
    model: str
    prepared: str
    texts: str
    short: int
    passes: int
    length: int
    batch: int
    threads: int
    bf16: bool
    out: str
    started: float


Embed = Callable[[Sequence[str], int], "np.ndarray"]
"""Vectors of texts, in batches of so many."""


def run(job: Job) -> dict[str, Any]:
    """Does what is asked."""
    embed = LIBRARIES[job.library](job)
    if job.measure == "start":
        embed([QUESTION], 1)
        return {"seconds": time.time() - job.started}
    texts = json.loads(Path(job.texts).read_text(encoding="utf-8"))
    return best_batch(embed, texts) if job.measure == "batch" else work(embed, texts, job)


def best_batch(embed: Embed, texts: list[str]) -> dict[str, Any]:
    """The size that is fastest on some of the texts: blocks of near lengths, as batches of all texts would have."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    blocks = [order[first : first + BATCHES[-1]] for first in range(0, len(order), BATCHES[-1])]
    chosen = blocks[len(blocks) // 16 :: max(1, len(blocks) // 4)]
    sample = [texts[place] for place in sorted(place for block in chosen for place in block)]
    embed(sample[:8], 8)
    speeds = {batch: len(sample) / seconds(lambda batch=batch: embed(sample, batch)) for batch in BATCHES}
    return {"batch": max(speeds, key=lambda batch: speeds[batch]), "texts_per_second": speeds}


def work(embed: Embed, texts: list[str], job: Job) -> dict[str, Any]:
    """All texts at once, then some one by one; each after a warm-up."""
    import numpy as np

    embed(texts[:: max(1, len(texts) // 50)], job.batch)
    began, worked = time.perf_counter(), time.process_time()
    vectors = embed(texts, job.batch)
    took, worked = time.perf_counter() - began, time.process_time() - worked
    peak = memory("VmHWM")
    np.save(job.out, np.asarray(vectors, dtype=np.float32))
    short = texts[: job.short]
    for text in short:
        embed([text], 1)
    waits = sorted(seconds(lambda text=text: embed([text], 1)) for _ in range(job.passes) for text in short)
    return {
        "seconds": took,
        "processor_seconds": worked,
        "latency_p50": waits[len(waits) // 2],
        "latency_p99": waits[int(len(waits) * 0.99)],
        "memory": peak,
        "batch": job.batch,
        "versions": {name: version(name) for name in packages(job)},
    }


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def memory(field: str, process: int | str = "self") -> int:
    """Bytes that a process holds: ``VmRSS`` now, ``RssAnon`` now without files, ``VmHWM`` at most so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


# -- the sides


def bothways(job: Job) -> Embed:
    """Ours; it makes its batches itself."""
    import bothways as bw

    precision, _, bound = job.precision.partition(" within ")
    folder = f"{job.prepared}/within-{bound}" if bound else job.model
    model = bw.load(folder, engine=job.engine or None, precision=precision, truncation="head")
    model.max_length = job.length
    return lambda texts, batch: model.embed(list(texts))


def sentence_transformers(job: Job) -> Embed:
    """Theirs, on torch, ONNX Runtime or OpenVINO; it sorts texts by length and pads."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(job.threads)
    settings = {"torch": _torch, "onnx": _onnx, "openvino": _openvino}[job.engine](job)
    folder = job.model if job.engine == "torch" else f"{job.prepared}/{job.engine}"
    model = SentenceTransformer(folder, device="cpu", backend=job.engine, model_kwargs=settings)
    model.max_seq_length = job.length
    return lambda texts, batch: model.encode(list(texts), batch_size=batch)


def _torch(job: Job) -> dict[str, Any]:
    return {"dtype": {"float32": "float32", "bf16": "bfloat16"}[job.precision]}


def _onnx(job: Job) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    name = {"float32": "model.onnx", "int8": "model_int8.onnx"}[job.precision]
    return {"provider": "CPUExecutionProvider", "file_name": f"onnx/{name}", "session_options": options}


def _openvino(job: Job) -> dict[str, Any]:
    """What is not int8 is computed in bf16 where the processor has it, which is also OpenVINO's own default."""
    name = "openvino_model_int8.xml" if job.precision == "int8" else "openvino_model.xml"
    rest = "bf16" if job.bf16 and job.precision != "float32" else "f32"
    config = {
        "INFERENCE_NUM_THREADS": str(job.threads),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": rest,
    }
    return {"file_name": f"openvino/{name}", "ov_config": config}


def ctranslate2(job: Job) -> Embed:
    """It has no tokenizer and no pooling for encoders: here texts are sorted by length, vectors are means of tokens."""
    import ctranslate2 as ct2
    import numpy as np
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(f"{job.model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(job.length)
    folder = f"{job.prepared}/ctranslate2-{job.precision}"
    encoder = ct2.Encoder(folder, device="cpu", compute_type=job.precision, intra_threads=job.threads, inter_threads=1)

    def embed(texts: Sequence[str], batch: int) -> np.ndarray:
        ids = [encoded.ids for encoded in tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        out: list[Any] = [None] * len(ids)
        for first in range(0, len(order), batch):
            places = order[first : first + batch]
            hidden = np.asarray(encoder.forward_batch([ids[place] for place in places]).last_hidden_state)
            for row, place in enumerate(places):
                mean = hidden[row, : len(ids[place])].mean(axis=0)
                out[place] = mean / np.linalg.norm(mean)
        return np.stack(out)

    return embed


def fastembed(job: Job) -> Embed:
    """Its own pipeline around the ONNX file that sentence-transformers exported."""
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    folder = Path(job.prepared) / "fastembed"
    width = json.loads((folder / "config.json").read_text())["hidden_size"]
    TextEmbedding.add_custom_model(
        model="local",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="local"),
        dim=width,
        model_file="model.onnx",
    )
    model = TextEmbedding("local", specific_model_path=str(folder), threads=job.threads)
    return lambda texts, batch: np.stack(list(model.embed(list(texts), batch_size=batch)))


LIBRARIES: dict[str, Callable[[Job], Embed]] = {
    "bothways": bothways,
    "sentence-transformers": sentence_transformers,
    "ctranslate2": ctranslate2,
    "fastembed": fastembed,
}


def packages(job: Job) -> tuple[str, ...]:
    """Whose versions the figures are of."""
    below = {"torch": ("torch", "transformers"), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
    return (job.library, *below.get(job.engine, ()), *(("onnxruntime",) if job.library == "fastembed" else ()))


if __name__ == "__main__":
    print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
