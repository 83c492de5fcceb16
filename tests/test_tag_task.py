"""Tagging as a task: words in, words out, long texts in windows, a CRF beside, files in the forms others open."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Together
from bothways.learn.stream import Stream
from bothways.learn.tasks.tag import Tag
from bothways.learn.tasks.tagging.judge import METRICS
from bothways.run.answering.tag import tag_words
from bothways.run.model import Model, load
from bothways.text import word_windows
from bothways.text.tag_schemes import allowed
from bothways.text.word_windows import encode_words
from learner_tasks import assert_resumes_exactly

PLACES, PEOPLE = ("river", "bridge", "town", "house"), ("teacher", "child", "music")


def rows(count, seed=0, longest=10):
    """Sentences in which a place, with "old" before it, is a LOC, and a person a PER."""
    found, draw = [], np.random.default_rng(seed)
    for text in tiny.sentences(count, seed=seed, longest=longest):
        words = text.split()
        at = int(draw.integers(0, len(words) + 1))
        words[at:at] = [[], ["old", PLACES[draw.integers(4)]], [PLACES[draw.integers(4)]]][draw.integers(3)]
        tags = ["B-LOC" if word in PLACES else "B-PER" if word in PEOPLE else "O" for word in words]
        for place, word in enumerate(words[:-1]):
            if word == "old" and tags[place + 1] == "B-LOC":
                tags[place : place + 2] = ["B-LOC", "I-LOC"]
        found.append({"tokens": words, "tags": tags})
    return found


def fixed():
    """Rows that hold every tag."""
    return [
        {"tokens": ["the", "old", "river", "and", "a", "teacher"], "tags": ["O", "B-LOC", "I-LOC", "O", "O", "B-PER"]}
    ]


@pytest.fixture(scope="module")
def base():
    words = tiny.tokenizer()
    return Model.random(tiny.config(embeddings__vocab_size=words.size, layers=2), words, device="cpu")


def untrained(base, data, crf=False, max_length=None, **settings):
    """A model with a tagger for some data, as it is before the first step, and its task."""
    task = Tag(crf=crf, **settings)
    made = Model.random(base.config, base.tokenizer, task.heads(base, data), seed=1)
    for head in made.heads.values():
        tiny.randomise(head, spread=1.0)
    made.max_length = max_length
    task.begin(made, data)
    return made, task


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "crf"])
def tagger(request, base):
    """A trained tagger."""
    return bw.finetune(
        "tag", base=base, train=rows(300), dev=rows(60, seed=1), crf=request.param, epochs=8, batch_size=8,
        learning_rate=3e-3, dropout=0.0, precision="float32",
    )  # fmt: skip


def test_it_learns_what_a_list_of_words_cannot_tell(tagger):
    data = Tag().read(rows(60, seed=1))
    listed = Tag().baselines(Tag().read(rows(300)), data)["most frequent tag of the word"].scores
    assert tagger.scores["f1"] > 0.95
    assert tagger.scores["f1"] > listed["f1"] > 0.5
    assert set(tagger.scores["classes"]) == {"LOC", "PER"}
    assert tagger.scores["words"] == len(data.tags)


@pytest.mark.parametrize("crf", [False, True])
def test_every_parameter_gets_a_gradient(base, crf):
    data = Tag().read(rows(40))
    model, task = untrained(base, data, crf)
    together = Together([task.objective(model, data)])
    stream = Stream(task.examples(model, data), together.objectives[0].prepare, batch_size=40)
    modules = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})
    for item in stream.next_step(0.0):
        together.backward(modules, item, together.counts(item))
    unread = {"encoder.pooler.dense.weight", "encoder.pooler.dense.bias"}
    without = {name for name, p in modules.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= unread
    assert ("crf.follows" in dict(modules.named_parameters())) == crf


def test_words_of_overlapping_windows_count_once(base):
    """Cut into windows, a text asks for as many guesses as it has words; with a CRF its windows are open inside."""
    data = Tag().read(rows(30, longest=60))
    model, task = untrained(base, data, crf=True, max_length=16, overlap=6)
    examples = task.examples(model, data)
    assert len(examples) > 60
    windows = [examples.sequence(0, number) for number in range(len(examples))]
    assert np.concatenate([window.tags for window in windows]).tolist() == data.tags.tolist()
    assert sum(window.begins for window in windows) == sum(window.ends for window in windows) == 30
    objective = task.objective(model, data)
    items = Stream(examples, objective.prepare, batch_size=len(examples), micro_tokens=200).next_step(0.0)
    assert sum(objective.count(targets) for _, targets in items) == len(data.tags)
    modules = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})
    losses = [Together([objective]).evaluate(modules, item)["loss.tag"] for item in items]
    assert all(0 <= loss < 1e3 * 200 for loss in losses)  # no right sequence is forbidden anywhere


@pytest.mark.parametrize("crf", [False, True])
def test_a_document_of_20_000_words_is_its_windows_each_word_by_the_most_central(base, crf):
    data = Tag().read(rows(100))
    model, _ = untrained(base, data, crf, max_length=64)
    words = [word for row in rows(2000, seed=5, longest=20) for word in row["tokens"]][:20_000]
    assert len(words) == 20_000
    largest = 0

    def watch(_, arguments):
        nonlocal largest
        largest = max(largest, arguments[0].tokens)

    handle = model.encoder.register_forward_pre_hook(watch)
    (found,) = model.tag([words])
    handle.remove()
    assert len(found.tags) == len(found.words) == 20_000
    assert largest <= 4096
    windows = encode_words(model.tokenizer, [words], 64)
    emissions = np.zeros((20_000, 5), dtype=np.float32)
    head = model.heads["tag"].eval()
    for number in range(len(windows.encoded)):
        with torch.inference_mode():
            logits = head(model.encoder(windows.encoded.batch([number]))).numpy()
        for word in np.flatnonzero(windows.windows == number):
            emissions[word] = logits[windows.places[word] - windows.encoded.starts[number]]
    labels = model.head_configs["tag"].labels
    path = brute_path(emissions, model, labels)
    same = np.array([labels[tag] for tag in path]) == np.array(found.tags)
    assert same.mean() > 0.9999  # a tie may fall otherwise where sums are rounded
    for a, b in itertools.pairwise(["O", *found.tags]):
        assert not b.startswith("I-") or a[2:] == b[2:]


def brute_path(emissions, model, labels):
    """The best allowed path, one word after another in plain Python."""
    may = allowed(labels, "BIO")
    crf = model.heads.get("crf")
    scores = [np.zeros(part.shape) for part in may]
    if crf is not None:
        scores = [part.detach().numpy().astype(float) for part in (crf.follows, crf.begins, crf.ends)]
    follows, begins, ends = (np.where(m, s, -1e9) for m, s in zip(may, scores, strict=True))
    best, ways = emissions[0] + begins, []
    for emission in emissions[1:]:
        table = best[:, None] + follows
        ways.append(table.argmax(0))
        best = table.max(0) + emission
    path = [int((best + ends).argmax())]
    for way in reversed(ways):
        path.append(int(way[path[-1]]))
    return path[::-1]


def test_the_words_of_a_text_keep_their_places(tagger):
    text = "  The teacher saw the old bridge,\nand (music)!"
    found = tagger.model.tag(text)
    assert [text[start:end] for start, end in found.offsets] == list(found.words)
    assert found.words == ("The", "teacher", "saw", "the", "old", "bridge", ",", "and", "(", "music", ")", "!")
    assert [(span.label, span.text, span.first, span.last) for span in found.spans] == [
        ("PER", "teacher", 1, 1),
        ("LOC", "old bridge", 4, 5),
        ("PER", "music", 9, 9),
    ]
    for span in found.spans:
        assert text[span.start : span.end] == span.text
        own = found.probabilities[span.first : span.last + 1]
        assert span.probability == pytest.approx(np.mean(own), abs=1e-6)
    listed = tagger.model.tag([list(found.words), [], "", ["the", "old bridge", "old", "town"]])
    assert listed[0].tags == found.tags
    assert listed[0].offsets[5] == (24, 30)
    assert listed[1].words == listed[2].words == ()
    assert listed[3].words[1] == "old bridge"
    assert listed[3].spans[-1].text == "old town"
    with pytest.raises(BothwaysError, match=r"texts\[1\] is neither a text nor a list of words but 3"):
        tagger.model.tag(["a", 3])


def test_probabilities_are_those_of_the_tags(tagger):
    found = tag_words(tagger.model, [row["tokens"] for row in rows(20, seed=9)])
    assert found.probabilities.sum(1) == pytest.approx(np.ones(len(found.tags)), abs=1e-5)
    assert (found.probabilities[np.arange(len(found.tags)), found.tags] > 0.2).all()


def test_saved_and_opened_it_answers_the_same(tagger, tmp_path):
    tagger.model.save(tmp_path / "model")
    opened = load(tmp_path / "model", device="cpu")
    texts = ["The teacher saw the old bridge.", ["old", "town"]]
    assert opened.tag(texts) == tagger.model.tag(texts)
    assert opened.decoding == tagger.model.decoding
    assert opened.task == "tag"
    beside = tmp_path / "model" / "heads.safetensors"
    assert beside.exists() == ("crf" in tagger.model.heads)
    if beside.exists():
        assert all(name.startswith("crf.") for name in load_file(beside))
    assert bw.evaluate(opened, rows(60, seed=1))["f1"] == tagger.scores["f1"]


def test_what_others_trained_is_taken_at_its_word(tagger):
    """A tagger without a note of how it was trained may write IOB1, where I- begins most spans."""
    model = tagger.model.copy()
    model.decoding.clear()
    model.heads.pop("crf", None)
    model.head_configs.pop("crf", None)
    with torch.no_grad():
        output = model.heads["tag"].output
        output.bias[2] += 30  # I-LOC everywhere
    found = model.tag("the old house")
    assert found.tags == ("I-LOC",) * 3
    assert [(span.label, span.text) for span in found.spans] == [("LOC", "the old house")]


def test_transformers_opens_it_with_the_same_logits(tagger, tmp_path):
    transformers = pytest.importorskip("transformers")
    tagger.model.save(tmp_path / "model")
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "model").eval()
    assert theirs.config.id2label == dict(enumerate(tagger.model.head_configs["tag"].labels))
    ids = tagger.model.tokenizer.encode("the teacher saw the old bridge")
    with torch.inference_mode():
        logits = theirs(input_ids=torch.from_numpy(ids.token_ids[None].astype(np.int64))).logits[0]
        ours = tagger.model.heads["tag"](tagger.model.encoder(ids.batch([0])))
    assert torch.allclose(ours, logits, atol=1e-5)


@pytest.mark.parametrize("crf", [False, True])
def test_stopped_and_continued_it_gives_the_same_bits(base, tmp_path, crf):
    assert_resumes_exactly(tmp_path, "tag", rows(60, longest=30), {"crf": crf, "max_length": 16}, base=base)


def test_a_chain_begins_with_what_the_data_say(base):
    data = Tag().read(rows(200))
    task = Tag(crf=True)
    model = Model.random(base.config, base.tokenizer, task.heads(base, data))
    task.begin(model, data)
    names, follows = model.head_configs["crf"].labels, model.heads["crf"].follows.detach()
    place = {name: number for number, name in enumerate(names)}
    assert follows[place["B-LOC"], place["I-LOC"]] > 1 > 0.1 > follows[place["B-PER"], place["I-LOC"]]
    assert not model.heads["crf"].allowed_follows[place["O"], place["I-LOC"]]


def in_scheme(given, letters):
    """Rows with their BIO tags written otherwise."""
    changed = []
    for row in given:
        tags = [*row["tags"], "O"]
        ends = [not after.startswith("I-") for after in tags[1:]]
        written = [
            tag if tag == "O" else letters[(tag[0], end)] + tag[1:] for tag, end in zip(tags[:-1], ends, strict=True)
        ]
        changed.append({"tokens": row["tokens"], "tags": written})
    return changed


def test_a_dev_set_in_another_scheme_is_scored_the_same(tagger):
    given = rows(60, seed=1)
    bilou = in_scheme(given, {("B", False): "B", ("B", True): "U", ("I", False): "I", ("I", True): "L"})
    data = Tag().read(bilou)
    assert data.scheme == "BILOU"
    found = Tag().examine(tagger.model, data)
    assert {name: found.scores[name] for name in METRICS} == {name: tagger.scores[name] for name in METRICS}


def test_how_tags_were_read_is_said(base):
    given = [{"tokens": ["old", "town", "the", "old"], "tags": ["B-LOC", "I-LOC", "O", "I-LOC"]}, *rows(20)]
    data = Tag().read(given)
    model, task = untrained(base, data)
    told = task.begin(model, data)
    assert told.startswith(f"spans in BIO (1 of {len(data.tags)} tags did not fit their neighbours and were repaired)")
    assert told.endswith("2 kinds: LOC, PER")
    assert model.decoding["tag"] == {"scheme": "BIO", "overlap": None, "by_spaces": False}
    glued = Tag().read([{"tokens": ["so,", "yes,", "no"], "tags": ["A", "B", "A"]}])
    assert glued.by_spaces
    assert glued.told == "a tag a word"


def test_parts_of_speech_are_measured_by_words(base):
    given = [{"words": r["tokens"], "pos": ["X" if len(w) > 3 else "Y" for w in r["tokens"]]} for r in rows(80)]
    run = bw.finetune(
        "tag", base=base, train=given, epochs=10, batch_size=16, learning_rate=3e-3, label="pos", report=False
    )
    scores = run.scores
    assert scores["f1"] == scores["precision"] == scores["recall"] == scores["accuracy"] > 0.9
    assert scores["labels"] == ["X", "Y"]
    found = run.model.tag("the river stood")
    assert found.spans == ()
    assert set(found.tags) <= {"X", "Y"}


def test_figures_of_some_texts_are_those_of_these_alone(tagger):
    for label, read in (("tags", rows(40, seed=3)), ("pos", None)):
        if read is None:
            read = [{"tokens": r["tokens"], "pos": [w[0] for w in r["tokens"]]} for r in rows(40, seed=3)]
        task = Tag(label=label)
        data = task.read(read)
        places = np.array([3, 3, 7, 39, 0])
        whole = task.baselines(data, data)["most frequent tag of the word"]
        part = task.baselines(data, data.take(places, "some"))["most frequent tag of the word"]
        assert whole.resampled(places) == pytest.approx({name: part.scores[name] for name in METRICS})
        assert whole.resampled(np.arange(40)) == pytest.approx({name: whole.scores[name] for name in METRICS})


def test_examples_are_shown_with_their_marks(tagger):
    found = Tag().examine(tagger.model, Tag().read(fixed()))
    (row,) = found.rows
    assert row.truth == "old river (LOC), teacher (PER)"
    assert [(row.text[mark.start : mark.end], mark.label) for mark in row.truth_marks] == [
        ("old river", "LOC"),
        ("teacher", "PER"),
    ]
    assert row.credit == 1
    assert row.guess == row.truth
    assert row.guess_marks == row.truth_marks
    assert 0 < row.confidence == row.doubt <= 1
    assert found.probabilities.shape == (6, 5)


def test_a_part_is_held_out_and_every_tag_stays():
    data = Tag().read([*rows(50), {"tokens": ["x"], "tags": ["B-RARE"]}])
    for seed in range(20):
        train, dev = Tag().split(data, 0.2, seed)
        assert (len(train), len(dev)) == (41, 10)
        assert set(train.tags) == set(data.tags)
        assert sorted([*train.texts, *dev.texts]) == sorted(data.texts)
    assert Tag().split(data, 0.2, 3)[1].describe() == Tag().split(data, 0.2, 3)[1].describe()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"align": "widen"}, "align must be 'strict' or 'expand', not 'widen'"),
        ({"scheme": "IOB"}, "the scheme must be one of BIO, IOB1"),
        ({"overlap": -1}, "overlap must be 0 or more"),
        ({"overlap": 99, "max_length": 32}, "from 0 to half of the 30 tokens"),
        ({"train": [{"tokens": ["a"] * 5, "tags": ["O"] * 5}] * 12}, "the single tag 'O'"),
        (
            {"dev": [{"tokens": ["a"], "tags": ["B-LOK"]}]},
            r"row 1: word 1 \('a'\) has a span 'LOK'.*did you mean 'LOC'",
        ),
        (
            {"dev": [{"tokens": ["a"], "tags": ["NOUN"]}]},
            r"row 1: word 1 \('a'\) has the tag 'NOUN', which was not seen",
        ),
        ({"metric": "mcc"}, "tag is not measured by 'mcc'"),
        ({"train": []}, "holds no rows"),
    ],
)
def test_mistakes_are_told_before_anything_is_learned(base, settings, told):
    given = {"base": base, "train": rows(20), "dev": rows(5, seed=1), "steps": 1, "report": False} | settings
    with pytest.raises(BothwaysError, match=told):
        bw.finetune("tag", **given)


def test_from_a_file_of_columns_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.folder(tmp_path / "base", ("mlm",))
    for name, seed in (("train", 0), ("dev", 1)):
        lines = [
            "".join(f"{word} {tag}\n" for word, tag in zip(row["tokens"], row["tags"], strict=True))
            for row in rows(40, seed=seed)
        ]
        (tmp_path / f"{name}.conll").write_text("\n".join(lines))
    typed = ["finetune", "tag", "train.conll", "--dev", "dev.conll", "--base", "base", "--out", "run", "--crf"]
    assert main([*typed, "--steps", "3", "--max-length", "24", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "LOC" in said
    assert "PER" in said
    assert main(["evaluate", "run", "dev.conll", "--quiet"]) == 0
    assert (tmp_path / "run" / "model" / "heads.safetensors").exists()
    (tmp_path / "bad.conll").write_text("the O\nriver B-LOC x\n")
    assert main(["finetune", "tag", "bad.conll", "--base", "base", "--out", "other"]) == 2
    assert "bad.conll, line 2: 3 columns where line 1 has 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "lines", "where"),
    [
        ("dev.conll", ["# a comment", "the O", "", "red O", "Vim B-TOOL", ""], r"dev.conll, line 4: word 2 \('Vim'\)"),
        (
            "dev.jsonl",
            ['{"tokens": ["the"], "tags": ["O"]}', "", '{"tokens": ["red", "Vim"], "tags": ["O", "B-TOOL"]}'],
            r"dev.jsonl, line 3: word 2 \('Vim'\)",
        ),
        (
            "dev.jsonl",
            ['{"text": "Vim is red", "spans": [{"start": 0, "end": 3, "label": "TOOL"}]}'],
            r"dev.jsonl, line 1: word 1 \('Vim'\)",
        ),
    ],
)
def test_a_tag_that_training_has_not_is_told_with_its_line_before_the_first_step(tmp_path, name, lines, where):
    path = tmp_path / name
    path.write_text("\n".join(lines), encoding="utf-8")
    train = [{"tokens": ["the", "red", "river"], "tags": ["O", "O", "B-TOOLS"]}] * 12
    steps = []
    given = {"base": tiny.model(heads=()), "train": train, "dev": path, "steps": 1, "callbacks": [steps.append]}
    with pytest.raises(BothwaysError, match=where + r" has a span 'TOOL', which was not seen .*did you mean 'TOOLS'"):
        bw.finetune("tag", **given)
    assert not steps


def test_examples_do_not_depend_on_how_many_texts_are_encoded_at_once(monkeypatch):
    rows = [{"tokens": text.split(), "tags": ["O"] * len(text.split())} for text in tiny.sentences(20)]
    for number, row in enumerate(rows):
        row["tags"][number % len(row["tags"])] = "B-X"
    model = bw.finetune("tag", base=tiny.model(heads=()), train=rows, steps=1, max_length=12, report=False).model
    data = Tag().read(rows)
    whole = Tag().examples(model, data)
    found = [whole.sequence(0, number) for number in range(len(whole))]
    assert len(found) > len(rows), "some are read in windows"
    assert np.concatenate([window.tags for window in found]).tolist() == data.tags.tolist(), "each word counts once"
    assert sum(window.begins for window in found) == sum(window.ends for window in found) == len(rows)
    monkeypatch.setattr(word_windows, "_SLICE", 3)
    sliced = Tag().examples(model, data)
    assert len(sliced) == len(whole)
    for number, window in enumerate(found):
        assert all(np.array_equal(*pair) for pair in zip(window, sliced.sequence(0, number), strict=True))
