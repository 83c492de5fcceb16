"""The texts of `inference.py`: drawn once, and kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

SHARES = {"sentences": 800, "paragraphs": 800, "reviews": 400}
CALIBRATION = 300
"""As many texts as OpenVINO's quantisation looks at by default."""


def sampled_texts(count: int, data: Path, folder: Path) -> list[str]:
    """So many texts: sentences first, then paragraphs, then reviews.

    Args:
        count: How many.
        data: The folder with stsb, wikipedia-en-slice and imdb.
        folder: Keeps what was drawn.
    """
    total = sum(SHARES.values())
    return [text for kind, share in SHARES.items() for text in drawn(kind, data, folder)[: share * count // total]]


def calibration_texts(data: Path, folder: Path) -> Path:
    """A folder with texts in the same shares, none of which is measured."""
    place, total = folder / "calibration", sum(SHARES.values())
    place.mkdir(exist_ok=True)
    lines = [
        json.dumps({"text": text}) + "\n"
        for kind, share in SHARES.items()
        for text in drawn(kind, data, folder)[share : share + CALIBRATION * share // total]
    ]
    (place / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    return place.resolve()


def drawn(kind: str, data: Path, folder: Path) -> list[str]:
    """A shuffled kind of texts, kept; twice as many as are measured."""
    from bothways.chance import generator

    place = folder / f"{kind}.json"
    if not place.exists():
        found = list(dict.fromkeys(read(data, kind)))
        order = generator("benchmark", 0).permutation(len(found))[: 2 * SHARES[kind]]
        place.write_text(json.dumps([found[number] for number in order]), encoding="utf-8")
    kept: list[str] = json.loads(place.read_text(encoding="utf-8"))
    return kept


def read(data: Path, kind: str) -> Iterator[str]:
    """All texts of a kind; a paragraph has twenty words or more."""
    file, key = {
        "sentences": ("stsb/train.jsonl.gz", "text_a"),
        "paragraphs": ("wikipedia-en-slice/train.txt.gz", ""),
        "reviews": ("imdb/test.jsonl.gz", "text"),
    }[kind]
    with gzip.open(data / file, "rt", encoding="utf-8") as lines:
        for line in lines:
            if key:
                yield json.loads(line)[key]
            elif len(line.split()) >= 20:
                yield line.strip()


def counted_tokens(model: Path, texts: list[str], length: int) -> int:
    """Real tokens of all texts, special ones among them."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return sum(len(encoded.ids) for encoded in tokenizer.encode_batch(texts))
