"""`bothways bench pretrain`: short runs of the real training, each in a process of its own, and what they say."""

import json
from collections import Counter

import pytest

from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.run.machine import peak_memory
from bothways.run.precision import resolve_precision
from bothways.text.normalize import Normalization
from bothways.text.prepare import prepare
from bothways.text.sentences import split_sentences
from bothways.text.tokenizer import Tokenizer
from bothways.use.bench import FEWEST, Measured, bench_pretrain, random_text, recommendation

SMALL = {"size": "tiny", "max_length": 32, "batch_tokens": 256, "vocab_size": 500, "device": "cpu"}


def test_both_precisions_are_measured_and_told(capsys):
    typed = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["bench", "pretrain", *typed, "--objective=mlm", "--seconds=0.2", "--json", "--quiet"]) == 0
    found = [Measured(**one) for one in json.loads(capsys.readouterr().out)]
    assert [one.precision for one in found] == ["float32", "bf16"]
    for one in found:
        assert one.tokens_per_second > 0
        assert one.roof > 1e8
        assert 0 < one.utilisation < 1.5  # a busy machine may have had a low roof
        assert 0 <= one.waiting < 1
        assert one.first_step > 0
        assert one.memory > 50 * 2**20
        assert one.steps >= FEWEST


def test_a_corpus_of_ones_own_is_measured_in_one_precision(tmp_path, capsys):
    documents, vocabulary = random_text(300, words=2_000)
    tokenizer = Tokenizer.from_vocabulary(vocabulary, Normalization())
    prepare(documents, tokenizer, tmp_path / "corpus")
    typed = ["bench", "pretrain", str(tmp_path / "corpus"), "--size=tiny", "--max-length=16", "--batch-tokens=64"]
    assert main([*typed, "--precision=float32", "--seconds=0.1", "--gradient-checkpointing"]) == 0
    said = capsys.readouterr().out
    assert "GFLOP/s" in said
    assert "million tokens an hour in float32." in said
    assert "bf16" not in said


def test_a_mistake_in_the_measured_process_is_one_sentence():
    with pytest.raises(BothwaysError, match="max_length is 9999, but this encoder takes at most 512"):
        bench_pretrain(**SMALL | {"max_length": 9999}, precision="float32", seconds=0.1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seconds": 0.0}, "seconds to measure"), ({"precision": "bf61"}, "bf16"), ({"vocab_size": 5}, "no room")],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(changes, said):
    with pytest.raises(BothwaysError, match=said):
        bench_pretrain(**SMALL | changes)


def test_the_random_text_is_of_words_that_the_vocabulary_holds_some_frequent_most_rare():
    documents, vocabulary = random_text(1_000, words=20_000)
    assert len(vocabulary) == len(set(vocabulary)) == 1_000
    tokenizer = Tokenizer.from_vocabulary(vocabulary, Normalization())
    text = " ".join(documents).lower()
    words = text.replace("!", " ! ").split()
    assert len(tokenizer.encode(documents, special_tokens=False).token_ids) == len(words)
    assert sum(len(split_sentences(document)) for document in documents) == text.count("!") > 10 * len(documents)
    counts = Counter(word for word in words if word != "!")
    assert counts["a"] > 5 * counts["z"] > 0  # ranks 1 and 26
    assert len(counts) > 700
    assert random_text(1_000, words=20_000) == (documents, vocabulary)


def measured(precision, speed):
    return Measured(precision, speed, 0.5, 1e11, 0.0, 1.0, None, 9)


def test_the_recommendation_is_the_faster_one_and_says_what_auto_takes():
    auto = resolve_precision("auto", "cpu").name
    other = {"float32": "bf16", "bf16": "float32"}[auto]
    said = recommendation([measured(auto, 2000.0), measured(other, 1000.0)], "cpu")
    assert said == f"7 million tokens an hour in {auto}, 2.00× as many as in {other}; --precision auto takes it."
    said = recommendation([measured(auto, 1000.0), measured(other, 1500.0)], "cpu")
    assert said.endswith(f"--precision auto takes {auto} here, so give --precision {other}.")


def test_peak_memory_is_that_of_this_process(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\n")
    assert peak_memory(tmp_path) == 2 * 2**20
    assert peak_memory() > 10 * 2**20
