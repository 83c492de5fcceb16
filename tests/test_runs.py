"""run.json tells all that a repetition needs, and no run overwrites another unasked."""

import hashlib
import json
from pathlib import Path

import pytest

import bothways as bw
import learner
import tiny
from bothways.errors import BothwaysError
from bothways.learn import runs
from bothways.learn.runs import check_out, fingerprint, read_run, write_run


def finished(out, **settings):
    return write_run(out, command="pretrain", settings={"steps": 3, **settings}, seed=7, results={"loss": 1.5})


def test_what_is_written_is_read(tmp_path):
    path = finished(tmp_path / "run", rate=1e-4, base=tmp_path)
    content = read_run(tmp_path / "run")
    assert content == read_run(path)
    assert content["settings"] == {"steps": 3, "rate": 1e-4, "base": str(tmp_path)}
    assert (content["seed"], content["results"]) == (7, {"loss": 1.5})
    assert {"bothways", "torch", "numpy", "tokenizers"} <= content["versions"].keys()
    assert content["machine"]["processor"]["cores"] >= 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "does not exist"), ("{", "cannot be read as JSON"), ("{}", "has no 'command'"), ("[]", "not the record")],
)
def test_what_is_no_record_is_refused(tmp_path, text, said):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BothwaysError, match=said):
        read_run(path)


def test_a_fingerprint_is_that_of_the_content(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_bytes(b"words\n" * 100)
    found = fingerprint(file)
    assert found["bytes"] == 600
    assert found["sha256"] == hashlib.sha256(b"words\n" * 100).hexdigest()
    file.write_bytes(b"words\n" * 99 + b"wordz\n")
    assert fingerprint(file)["sha256"] != found["sha256"]
    with pytest.raises(BothwaysError, match="cannot be read"):
        fingerprint(tmp_path / "absent.txt")


def test_a_long_file_is_fingerprinted_by_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_WHOLE", 1000)
    file = tmp_path / "long"
    content = bytearray(range(256)) * 20
    file.write_bytes(content)
    found = fingerprint(file)
    assert not found["whole"]
    for place, changes in ((0, True), (499, True), (2500, False), (len(content) - 500, True), (len(content) - 1, True)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert (fingerprint(file)["sha256"] != found["sha256"]) == changes, place


def test_a_folder_is_fingerprinted_by_names_and_content(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("a")
    first = fingerprint(tmp_path / "one")
    (tmp_path / "one" / "a.txt").rename(tmp_path / "one" / "b.txt")
    assert fingerprint(tmp_path / "one")["sha256"] != first["sha256"]
    assert first["bytes"] == 1


def test_a_new_folder_or_an_empty_one_will_do(tmp_path):
    assert check_out(tmp_path) is False
    assert check_out(tmp_path / "deeper" / "still") is False
    assert not (tmp_path / "deeper").exists()


def test_a_finished_run_is_not_overwritten_unasked(tmp_path):
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model").mkdir()
    with pytest.raises(
        BothwaysError, match="holds another run, which is finished: choose another --out or --overwrite"
    ):
        check_out(tmp_path)
    assert check_out(tmp_path, overwrite=True) is False
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("read", ["corpus", "", "model", "corpus/part", "."])
def test_what_a_run_reads_is_not_thrown_away(read, tmp_path, monkeypatch):
    """Neither the corpus that lies in the run's folder, nor the model that is to be continued; nothing is removed."""
    finished(tmp_path)
    for name in ("corpus", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "corpus" / "part").write_text("text")
    monkeypatch.chdir(tmp_path)
    for reads in ([None, Path(read)], [str(tmp_path / read)], [{"no": "path"}, [str(tmp_path / read)]]):
        with pytest.raises(BothwaysError, match="is what this run reads, and --overwrite would remove it"):
            check_out(tmp_path, overwrite=True, reads=reads)
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "corpus", "model"}
    assert check_out(tmp_path, overwrite=True, reads=[tmp_path / "notes.txt", "some text", ["more", "text"]]) is False


def test_an_interrupted_run_goes_on_or_is_refused(tmp_path):
    learner.run(tmp_path, steps=3)
    assert check_out(tmp_path) is True
    with pytest.raises(BothwaysError, match="not finished"):
        check_out(tmp_path, resume=False)
    check_out(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    write_run(tmp_path, command="pretrain", settings={}, seed=0)
    (tmp_path / "log.jsonl").write_text("")
    assert check_out(tmp_path) is False


PRETRAINING = {"objective": "mlm", "max_length": 16, "steps": 1, "batch_tokens": 64}


@pytest.mark.parametrize("verb", ["finetune", "pretrain"])
def test_after_a_mistake_in_what_is_read_the_run_to_be_replaced_is_there_again(verb, tmp_path):
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    rows = [{"text": f"the river {n}", "label": "ab"[n % 2]} for n in range(40)]

    def run(**given):
        if verb == "finetune":
            return bw.finetune("classify", base=base, train=rows, out=out, **{"steps": 1, **given})
        return bw.pretrain([row["text"] for row in rows * 9], base=base, out=out, **PRETRAINING | given)

    run()
    (out / "notes.txt").write_text("mine")
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    mistakes, said = {
        "finetune": ({"text": "nosuch"}, "no column 'nosuch'"),
        "pretrain": ({"batch_tokens": 10**7}, "fewer than the 10,000,000 of one batch"),
    }[verb]
    with pytest.raises(BothwaysError, match=said):
        run(overwrite=True, **mistakes)
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    run(overwrite=True, seed=1)
    assert json.loads((out / "run.json").read_text())["seed"] == 1
    assert not (out / ".replaced").exists()
    assert (out / "notes.txt").exists()


ONE_DOCUMENT = ["The river ran by the old mill.\nThe house stood near the river.\n" * 20]
DOCUMENTS = ["The mill stood still.\nThe old river ran by it.\n" * 9] * 30
PAIRS = {"objective": "mlm+nsp", "size": "tiny", "vocab_size": 60, **{"max_length": 16, "steps": 1, "batch_tokens": 64}}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_corpus_that_was_refused_stands_in_nobodys_way(overwrite, tmp_path):
    """What was made for the refused run is gone, what was there before is not; another corpus does at once."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    for _ in range(2):
        with pytest.raises(BothwaysError, match="needs at least two documents"):
            bw.pretrain(ONE_DOCUMENT, out=out, overwrite=overwrite, **PAIRS)
        assert [path.name for path in out.iterdir()] == ["notes.txt"]
    bw.pretrain(DOCUMENTS, out=out, overwrite=overwrite, **PAIRS)
    assert {path.name for path in out.iterdir()} >= {"notes.txt", "corpus", "tokenizer", "model", "run.json"}
    assert not (out / ".made").exists()


def test_a_tokenizer_that_was_there_outlives_a_refusal(tmp_path):
    bw.train_tokenizer(ONE_DOCUMENT, vocab_size=60, out=tmp_path / "tokenizer")
    for overwrite in (False, True):
        with pytest.raises(BothwaysError, match="needs at least two documents"):
            bw.pretrain(ONE_DOCUMENT, out=tmp_path, overwrite=overwrite, **PAIRS)
        assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_what_a_kill_left_before_the_run_began_is_overwritten(tmp_path, monkeypatch):
    """Killed while its text was prepared: the same command would go on with it, another is told, or overwrites it."""
    with monkeypatch.context() as killed:
        killed.setattr("bothways.learn.pretrain.recipe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bw.pretrain(DOCUMENTS, out=tmp_path, **PAIRS)
    assert (tmp_path / "corpus" / "index.json").exists()
    with pytest.raises(BothwaysError, match=r"another source.*--overwrite"):
        bw.pretrain(DOCUMENTS[:20], out=tmp_path, **PAIRS)
    for changed, told in (({"vocab_size": 50}, "vocab_size 60, not 50"), ({"lowercase": False}, "lowercase True, not")):
        with pytest.raises(BothwaysError, match=rf"was begun with {told}.*--overwrite"):
            bw.pretrain(DOCUMENTS, out=tmp_path, **PAIRS | changed)
    assert (tmp_path / "corpus" / "index.json").exists()
    with pytest.raises(BothwaysError, match="is what this run reads"):
        bw.pretrain(tmp_path / "corpus", out=tmp_path, overwrite=True, **PAIRS)
    assert bw.pretrain(DOCUMENTS[:20], out=tmp_path, overwrite=True, **PAIRS).history.steps == 1


def test_a_run_that_was_stopped_does_not_go_on_with_a_tokenizer_of_other_settings(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bw.pretrain(DOCUMENTS, out=tmp_path, callbacks=[stop], **PAIRS | {"steps": 3})
    assert not (tmp_path / ".made").exists()
    with pytest.raises(BothwaysError, match="was begun with vocab_size 60, not 50"):
        bw.pretrain(DOCUMENTS, out=tmp_path, **PAIRS | {"steps": 3, "vocab_size": 50})
    assert bw.pretrain(DOCUMENTS, out=tmp_path, **PAIRS | {"steps": 3}).history.steps == 3


def test_an_adaptation_that_was_refused_stands_in_nobodys_way(tmp_path):
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    texts = [f"The river ran by the old mill number {n}. The house stood near it." for n in range(120)]
    with pytest.raises(BothwaysError, match="fewer than the 1,000,000 of one batch"):
        bw.adapt(base, texts, out=out, steps=1, max_length=16, batch_tokens=10**6)
    assert not out.exists()
    assert bw.adapt(base, texts, out=out, steps=1, max_length=16, batch_tokens=64).result["steps"] == 1


def test_runs_of_which_the_first_was_refused_stand_in_nobodys_way(tmp_path):
    base, out = tiny.folder(tmp_path / "base", ("mlm",)), tmp_path / "out"
    given = {"train": [{"text": f"the river {n}", "label": "ab"[n % 2]} for n in range(40)], "out": out, "steps": 1}
    with pytest.raises(BothwaysError, match="there is no model folder"):
        bw.finetune_seeds("classify", base=tmp_path / "nosuch", seeds=2, **given)
    bw.finetune_seeds("classify", base=base, seeds=2, **given)
    with pytest.raises(BothwaysError, match="holds other runs"):
        bw.finetune_seeds("classify", base=base, seeds=2, **given | {"steps": 2})


@pytest.mark.parametrize("prepared", [True, False])
def test_killed_before_the_new_run_began_the_old_one_is_there_unless_text_was_prepared(prepared, tmp_path):
    finished(tmp_path)
    (tmp_path / "model").mkdir()
    check_out(tmp_path, overwrite=True, aside=True)
    assert {path.name for path in tmp_path.iterdir()} == {".replaced"}
    if prepared:
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "tokens-00000.bin").touch()
        assert check_out(tmp_path) is False
        assert {path.name for path in tmp_path.iterdir()} == {"corpus"}
    else:
        with pytest.raises(BothwaysError, match="holds another run, which is finished"):
            check_out(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"run.json", "model"}


def test_a_model_that_no_run_wrote_is_not_touched(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("precious")
    with pytest.raises(BothwaysError, match="holds a model already"):
        check_out(tmp_path)


@pytest.mark.parametrize("name", ["report.html", "metrics.json"])
def test_what_something_else_wrote_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(BothwaysError, match=f"holds {name} of something else, which this run would replace"):
        check_out(tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BothwaysError, match="is a file, not a folder"):
        check_out(tmp_path / "file" / "run")


def test_json_holds_what_json_can(tmp_path):
    path = finished(tmp_path, names=("ä", "b"))
    assert json.loads(path.read_text(encoding="utf-8"))["settings"]["names"] == ["ä", "b"]
