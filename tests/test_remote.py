"""A corpus in an object store is read as one on the disk: checked, ahead of time, and with little room."""

import numpy as np
import pytest

import bothways as bw
import ranks
from bothways.errors import BothwaysError
from bothways.learn.stream import Stream
from bothways.text import places, shards
from bothways.text.order import TOGETHER, Order
from bothways.text.shards import Corpus


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return ranks.corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture(scope="module")
def bucket(here):
    """The same corpus on a server that speaks as Amazon's S3 does."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "someone")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    import fsspec

    store = fsspec.filesystem("s3")
    store.mkdir("texts")
    store.put(str(here.folder), "texts/corpus", recursive=True)
    yield "s3://texts/corpus"
    patch.undo()
    server.stop()


@pytest.fixture
def memory(here):
    """The same corpus in fsspec's memory."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(here.folder), "/corpus", recursive=True)
    yield "memory://corpus"
    store.rm("/corpus", recursive=True)


def test_a_corpus_in_an_object_store_is_the_same_corpus(bucket, here):
    there = Corpus.open(bucket)
    assert there.fingerprint == here.fingerprint
    assert there.tokenizer.fingerprint == here.tokenizer.fingerprint
    assert np.array_equal(there.read(0, there.tokens), here.read(0, here.tokens))
    assert np.array_equal(there.sentence_starts, here.sentence_starts)
    assert bucket in repr(there)


def test_an_encoder_is_trained_from_an_object_store_and_goes_on_after_a_stop(bucket, tmp_path):
    def stop(event):
        if event.step == 3:
            raise RuntimeError("power cut")

    given = ranks.settings(bucket, tmp_path / "whole")
    whole = bw.pretrain(given.pop("corpus"), **given)
    given |= {"out": tmp_path / "broken", "save_minutes": 1e-9}
    with pytest.raises(RuntimeError):
        bw.pretrain(bucket, **given, callbacks=[stop])
    assert bw.pretrain(bucket, **given).scores == whole.scores


def test_what_is_not_there_is_said_with_its_address(bucket, monkeypatch):
    with pytest.raises(BothwaysError, match=r"s3://texts/none is not a prepared corpus"):
        Corpus.open("s3://texts/none")
    monkeypatch.setattr(places, "_PAUSE", 0.0)
    with pytest.raises(BothwaysError, match=r"nowhere://x cannot be reached: .*nowhere"):
        Corpus.open("nowhere://x")


def test_a_store_that_stumbles_is_asked_again(memory, here, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    corpus, real, failures = Corpus.open(memory), MemoryFileSystem.open, iter([True, True, False])

    def stumbles(self, path, *more, **options):
        if "tokens-00001" in path and next(failures, True):
            raise TimeoutError("slow down")
        return real(self, path, *more, **options)

    monkeypatch.setattr(places, "_PAUSE", 0.0)
    monkeypatch.setattr(MemoryFileSystem, "open", stumbles)
    begin, end = (sum(shard.tokens for shard in here.index.shards[:n]) for n in (1, 2))
    assert np.array_equal(corpus.read(begin, end), here.read(begin, end))
    with pytest.raises(BothwaysError, match=r"tokens-00001\.bin cannot be read \(slow down\); after 3 tries"):
        Corpus.open(memory).read(begin, end)


def test_what_arrives_broken_is_noticed(memory, here):
    import fsspec

    store = fsspec.filesystem("memory")
    content = bytearray(store.cat("/corpus/tokens-00003.bin"))
    content[7] ^= 1
    store.pipe("/corpus/tokens-00003.bin", bytes(content))
    corpus = Corpus.open(memory)
    with pytest.raises(BothwaysError, match=r"memory://corpus/tokens-00003\.bin, or its sentences' boundaries"):
        corpus.read(0, corpus.tokens)


def test_few_shards_take_room_at_a_time(memory, here, monkeypatch):
    monkeypatch.setattr(shards, "_FETCHED", 2)
    corpus = Corpus.open(memory)
    assert np.array_equal(corpus.read(0, corpus.tokens), here.read(0, here.tokens))
    assert len(corpus._mapped) == 2


def test_runs_that_come_next_are_read_before_they_are_wanted():
    """When the first example of other runs is taken, every run of them has been touched."""
    touched = set()

    class Far:
        def __len__(self):
            return 4000

        def sequence(self, epoch, number):
            touched.add((epoch, number // 10))
            return np.zeros(5, np.int64), np.zeros(5, np.int64)

    stream = Stream(Far(), lambda batch, *rest: (batch, {}), batch_size=8, run=10)
    for _ in range(30):
        stream.next_step(0.0)
        for each in stream._reader._reading:
            each.result()
        epoch, ids = stream.order.coming()
        assert {(epoch, number // 10) for number in ids.tolist()} <= touched


@pytest.mark.parametrize(("count", "run"), [(1000, 7), (1000, 1000), (16 * 7, 7), (5, 9), (33, 1)])
def test_in_runs_too_an_epoch_holds_every_id_once_and_any_position_is_found_again(count, run):
    order = Order(count, seed=3, run=run)
    epochs, ids = order.take(2 * count)
    for epoch in range(2):
        assert sorted(ids[epochs == epoch]) == list(range(count))
    if count > 100 * run // 7:
        assert not np.array_equal(ids[:count], ids[count:])
        assert (
            max(len({number // run for number in ids[a : a + run].tolist()}) for a in range(0, count, run))
            <= 2 * TOGETHER
        )
    for position in range(0, 2 * count, 1 + count // 9):
        again = Order(count, seed=3, run=run)
        again.restore({"count": count, "seed": 3, "epoch": position // count, "cursor": position % count})
        assert np.array_equal(again.take(5)[1], Order(count, seed=3, run=run).take(position + 5)[1][position:])
