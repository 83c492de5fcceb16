"""The command line: every command says how it is used, does what it says, and tells a mistake in one sentence."""

from __future__ import annotations

import inspect
import io
import itertools
import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import bothways as bw
from bothways.cli import main
from bothways.cli.commands import COMMANDS, GROUPS, command
from bothways.cli.threads import VARIABLES
from bothways.errors import BothwaysError
from bothways.run import stream
from bothways.text.rows import read_rows
from bothways.use import bulk, start
from bothways.use.augment import augment
from bothways.use.bench import bench_pretrain
from bothways.use.quickstart import Quickstart, quickstart
from bothways.use.quickstart_page import _next as next_commands
from bothways.use.search.duplicates import dedupe
from bothways.use.search.picture import draw_map
from bothways.use.search.topics import cluster as clusters

pytestmark = pytest.mark.usefixtures("drawn", "fastest")
TEXT = "The dog barked at the cat. The cat ran to the house.\n\nA bird sees the dog. The dogs sleep in the house.\n\n"
SMALL = ["--size", "tiny", "--max-length", "16", "--batch-tokens", "128", "--steps", "3", "--learning-rate", "0.001"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts, a table, a tokenizer, a pre-trained model and a classifier, made by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    before = Path.cwd()
    os.chdir(folder)
    (folder / "text.txt").write_text(TEXT * 30, encoding="utf-8")
    rows = [("the dog barked", "loud"), ("the cat sleeps", "quiet"), ("a bird ran", "loud")] * 8
    (folder / "table.csv").write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows), encoding="utf-8")
    (folder / "empty.txt").write_text("", encoding="utf-8")
    assert main(["tokenizer", "train", "text.txt", "--vocab-size", "80", "--out", "tok", "--quiet"]) == 0
    assert (
        main(["corpus", "prepare", "text.txt", "--as-it-is", "--tokenizer", "tok", "--out", "corpus", "--quiet"]) == 0
    )
    assert main(["pretrain", "corpus", *SMALL, "--out", "bert", "--quiet"]) == 0
    classify = ["finetune", "classify", "table.csv", "--base", "bert", "--max-length", "16", "--steps", "2"]
    assert main([*classify, "--out", "classifier", "--quiet"]) == 0
    yield folder
    os.chdir(before)


@pytest.fixture
def said(place, capsys):
    """Runs the command line and gives its exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


def in_json(said, *arguments):
    status, out, err = said(*arguments, "--json", "--quiet")
    assert status == 0, err
    return json.loads(out)


# -- help


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS, ""])
def test_every_command_has_help_with_an_example(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: bothways {name}".strip() in shown
    if name not in GROUPS:
        assert "Examples" in shown
        assert f"bothways {name}".strip() in shown.split("Examples")[1]


def command_of(name):
    found = command()
    for word in name.split():
        found = found.commands[word]
    return found


def check_typed(example):
    """That a line of a shell names a command, with options that it has, and returns the command."""
    words = shlex.split(example[example.index("bothways ") :])[1:]
    typed = list(itertools.takewhile(lambda word: word not in (">", "<", "|"), words))
    name = next(name for name in COMMANDS if typed[: len(name.split())] == name.split())
    named = command_of(name)
    given, left, _ = named.make_parser(named.context_class(named)).parse_args(typed[len(name.split()) :])
    assert left == []
    needed = {option.name for option in named.params if option.required} - set(given)
    assert "again" in given or not needed  # --from brings what is needed
    return name


@pytest.mark.parametrize(("name", "example"), [(name, line) for name, (_, lines) in COMMANDS.items() for line in lines])
def test_every_example_can_be_typed(name, example):
    assert check_typed(example) == name


def test_what_the_report_says_to_type_next_can_be_typed():
    commands = [row["command"] for row in next_commands(Quickstart(Path("quick"), Path("quick/report.html"), steps=7))]
    assert {check_typed(line) for line in commands} >= {"fill", "predict", "quickstart"}


def test_the_same_option_means_the_same_everywhere():
    meanings: dict[str, set[str]] = {}
    for name in COMMANDS:
        for option in command_of(name).params:
            for spelling in option.opts:
                if spelling.startswith("--"):
                    meanings.setdefault(spelling, set()).add(option.name)
    assert {spelling: names for spelling, names in meanings.items() if len(names) > 1} == {}


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("tokenizer train", bw.train_tokenizer),
        ("corpus clean", bw.clean_corpus),
        ("corpus prepare", bw.prepare_corpus),
        ("pretrain", bw.pretrain),
        ("adapt", bw.adapt),
        ("diagnose", bw.diagnose),
        ("finetune classify", bw.finetune),
        ("finetune pairs", bw.finetune),
        ("finetune regress", bw.finetune),
        ("finetune tag", bw.finetune),
        ("finetune answer", bw.finetune),
        ("finetune choose", bw.finetune),
        ("finetune rerank", bw.finetune),
        ("finetune late", bw.finetune),
        ("finetune sparse", bw.finetune),
        ("augment", augment),
        ("evaluate", bw.evaluate),
        ("compare", bw.compare),
        ("predict", bulk.predict),
        ("embed", bulk.embed),
        ("index build", bw.Index.make),
        ("index build", partial(bw.Index.add, None)),
        ("index add", partial(bw.Index.add, None)),
        ("index delete", partial(bw.Index.delete, None)),
        ("search", partial(bw.Index.search, None)),
        ("cluster", partial(clusters, None)),
        ("dedupe", partial(dedupe, None)),
        ("map", partial(draw_map, None)),
        ("quickstart", quickstart),
        ("bench pretrain", bench_pretrain),
    ],
)
def test_a_command_offers_all_that_its_function_takes_with_the_same_defaults(name, verb):
    function = inspect.signature(verb).parameters
    offered = inspect.signature(COMMANDS[name][0]).parameters
    not_typed = {"callbacks", "special_tokens", "task", "own"}
    assert set(function) - not_typed <= set(offered)
    stated = {key for key in function if key not in not_typed and function[key].default is not inspect.Parameter.empty}
    differing = {
        key: (offered[key].default, function[key].default)
        for key in stated
        if offered[key].default is not inspect.Parameter.empty
        and str(offered[key].default) != str(function[key].default)
    }
    assert differing == {}


def test_without_a_command_the_help_is_shown(said):
    for arguments in ([], ["tokenizer"]):
        status, out, err = said(*arguments)
        assert (status, err) == (0, "")
        assert "Usage: bothways" in out


def test_the_version(said):
    assert said("--version") == (0, f"bothways {bw.__version__}\n", "")


# -- mistakes


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("pretran", "Did you mean 'pretrain'"),
        ("pretrain corpus --stepz 3 --out x", "--steps"),
        ("pretrain corpus", "Missing option '--out'"),
        ("pretrain corpus --steps many --out x", "Invalid value for '--steps'"),
        ("pretrain corpus --steps 0 --out x", "steps"),
        ("pretrain corpus --precision fp8 --out x", "fp8"),
        ("pretrain corpus --size giant --out x", "giant"),
        ("pretrain corpus --family berd --steps 1 --out x", "did you mean 'bert'"),
        ("pretrain absent.txt --out x", "absent.txt"),
        ("pretrain empty.txt --out x", "empty"),
        ("pretrain corpus --steps 3 --out bert", "bert"),
        ("tokenizer train text.txt --vocab-size 3 --out x", "3"),
        ("tokenizer show absent", "absent"),
        ("tokenizer show", "Missing argument 'TOKENIZER'"),
        ("corpus prepare text.txt --tokenizer absent --out x", "absent"),
        ("finetune classify table.csv --base bert --label mood --out x", "mood"),
        ("finetune classify table.csv --base absent --out x", "absent"),
        ("finetune classify --train absent.csv --base bert --out x", "absent.csv"),
        ("finetune classify table.csv --base bert --epochs 0 --out x", "epochs must be above 0, not 0"),
        ("finetune classify table.csv --base bert --learning-rate 0 --out x", "learning_rate must be above 0, not 0.0"),
        ("finetune classify table.csv --base bert --head-rate 0 --out x", "head_rate must be above 0, not 0.0"),
        ("finetune classify table.csv --base bert --seeds 0 --out x", "seeds must be"),
        ("finetune classify table.csv --base bert --folds 0 --out x", "folds must be"),
        ("finetune classify --base bert --out x", "give a file to learn from"),
        ("finetune classify table.csv --train table.csv --base bert --out x", "in one way"),
        ("tune classify table.csv --train table.csv --base bert --out x", "in one way"),
        ("finetune classify table.csv --base bert --max-length 9999 --out x", "9999"),
        ("evaluate bert table.csv", "not fine-tuned"),
        ("evaluate classifier absent.csv", "absent.csv"),
        ("predict bert table.csv", "not fine-tuned"),
        ("predict classifier table.csv --out labels.xls", ".csv, .tsv, .jsonl, .parquet, .conll or .json"),
        ("predict classifier table.csv --out nowhere/labels.csv", "nowhere"),
        ("predict classifier table.csv --text body --out x.csv", "body"),
        ("embed bert table.csv table.csv", "is there already"),
        ("embed bert table.csv table.csv --overwrite", "table.csv is to be read"),
        ("embed bert table.csv text.jsonl --pooling sum", "sum"),
        ("fill bert nothing-masked", "[MASK]"),
        ("fill classifier [MASK]", "mlm"),
        ("families berd", "berd"),
        ("info absent", "absent"),
        ("diagnose absent", "absent"),
        ("diagnose classifier", "bothways finetune classify"),
        ("info text.txt", "text.txt"),
        ("doctor --threads", "--threads"),
        ("doctor absent", "absent"),
        ("pretrain --from absent.json --out x", "absent.json"),
        ("pretrain --from table.csv --out x", "table.csv"),
        ("pretrain --from classifier/run.json --out x", "finetune classify"),
    ],
)
def test_every_mistake_is_one_sentence_and_exit_code_2(said, place, typed, told):
    status, out, err = said(*typed.split(), "--quiet")
    assert status == 2, err
    assert out == ""
    assert err.startswith("bothways: ")
    assert told in err
    assert err.count("\n") == 1
    assert not (place / "x").exists() or not any((place / "x").rglob("*.safetensors"))


def test_a_traceback_only_with_debug_which_stands_before_or_after_the_command(said):
    assert "Traceback" not in said("families", "berd")[2]
    for typed in (("--debug", "families", "berd"), ("families", "berd", "--debug")):
        status, _, err = said(*typed)
        assert status == 2
        assert "Traceback" in err
        assert "bothways: the model family" in err


def broken(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr("bothways.model.families.families", fail)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (BothwaysError("it is\n  so"), 2, "bothways: it is so\n"),
        (KeyboardInterrupt(), 130, "bothways: stopped\n"),
        (OSError(28, "No space left on device", "big.bin"), 2, "bothways: big.bin: No space left on device\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "pip install 'bothways[torch]'"),
        (ModuleNotFoundError("No module named 'zip'", name="zip"), 1, "No module named 'zip'"),
        (ZeroDivisionError("by zero"), 1, "bothways: ZeroDivisionError: by zero (not expected; run again with --debug"),
    ],
)
def test_every_ending_has_its_exit_code(said, monkeypatch, error, status, told):
    broken(monkeypatch, error)
    code, out, err = said("families")
    assert (code, out, err.count("\n")) == (status, "", 1)
    assert told in err


def test_run_as_a_module_it_has_its_exit_code_too():
    for typed, status in ((["families", "berd"], 2), (["families", "--json"], 0)):
        done = subprocess.run([sys.executable, "-m", "bothways", *typed], capture_output=True, text=True)
        assert done.returncode == status


@pytest.mark.parametrize("typed", ["--help", "families --json", "pretrain --help"])
def test_an_output_that_nobody_reads_ends_quietly(typed):
    program = f"{sys.executable} -c 'import sys; from bothways.cli import main; sys.exit(main())'"
    typed = f"{program} {typed} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


# -- what the commands do


def test_every_result_can_be_read_by_a_machine(said, monkeypatch):
    monkeypatch.setattr(start, "RUNS", 1)
    assert in_json(said, "families")[0]["name"] == "bert"
    assert in_json(said, "families", "bert")[0]["sizes"]["base"]["width"] == 768
    assert in_json(said, "doctor")["threads"]["allowed"] >= 1
    parts = in_json(said, "doctor", "classifier")["start"]
    assert list(parts) == ["python", "bothways", "torch", "model", "first text", "start", "next text"]
    assert all(seconds > 0 for seconds in parts.values())
    assert in_json(said, "info", "bert")["heads"] == ["mlm", "nsp"]
    assert in_json(said, "info", "classifier")["labels"] == ["loud", "quiet"]
    assert 0 <= in_json(said, "evaluate", "classifier", "table.csv")["accuracy"] <= 1
    assert in_json(said, "tokenizer", "show", "tok")["vocabulary"]["size"] <= 80


@pytest.mark.parametrize(
    "typed",
    [
        "families",
        "families bert",
        "doctor",
        "doctor bert",
        "info bert",
        "info classifier",
        "evaluate classifier table.csv",
    ],
)
def test_what_people_read_is_a_table_without_markup(said, typed, monkeypatch):
    monkeypatch.setattr(start, "start_times", lambda model, **options: {"python": 0.01, "next text": 0.002})
    status, out, _ = said(*typed.split())
    assert status == 0
    assert out.strip()
    assert "\x1b" not in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]


def test_tokens_ids_and_offsets_are_aligned_with_the_text(said):
    text = "The dogs, zebras"
    (shown,) = in_json(said, "tokenizer", "show", "tok", text)["texts"]
    tokenizer = bw.Tokenizer.load("tok")
    assert shown["ids"] == tokenizer.encode([text]).token_ids.tolist()
    assert shown["tokens"] == [tokenizer.tokens[place] for place in shown["ids"]]
    assert shown["covers"] == [text[a:b] for a, b in shown["offsets"]]
    lines = said("tokenizer", "show", "tok", text, "--pair", "the cat")[1].splitlines()
    assert any(line.split() == [str(tokenizer.vocabulary["cat"]), "cat", "4–7", "cat", "1"] for line in lines)


def test_a_long_text_is_cut_with_a_note_or_read_in_windows(said):
    typed = ("tokenizer", "show", "tok", "the dog ran to the house", "--max-length", 5)
    status, _, err = said(*typed)
    assert status == 0
    assert err.startswith("note: 1 of 1 texts are longer than 5 tokens")
    assert err.count("\n") == 1
    assert len(in_json(said, *typed, "--truncation", "window")["texts"]) > 1
    assert said(*typed, "--truncation", "error")[0] == 2


def test_words_are_filled_in_with_their_probabilities(said):
    (answer,) = in_json(said, "fill", "bert", "the [MASK] ran to [MASK]", "--top", 3)
    fills = bw.load("bert").fill_mask("the [MASK] ran to [MASK]", top=3)
    assert [[one["token"] for one in place] for place in answer["masks"]] == [[one.token for one in f] for f in fills]
    fills = bw.load("bert").fill_mask("the [MASK] ran", top=2)
    out = said("fill", "bert", "the [MASK] ran", "--top", 2)[1]
    assert all(f"{one.probability:.1%}" in out for one in fills)
    assert out.splitlines()[0] == "the [MASK] ran"
    assert out.count("%") == 2


def test_lines_of_standard_input_are_filled_in(said, monkeypatch):
    data = b"\xef\xbb\xbfthe [MASK] ran\r\n\r\na [MASK]\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [one["text"] for one in in_json(said, "fill", "bert", "-")] == ["the [MASK] ran", "a [MASK]"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a [MASK]\ncaf\xe9 [MASK]\n", "standard input, line 2: not UTF-8"),
        (b"a [MASK] \0\n", "NUL"),
        (b" \n\n", "standard input holds no text"),
        (b"a [MASK]\nno gap\n", "text 2 has no [MASK]"),
        (b"a [MASK]\n" + b"a [MASK] " * 20, "text 2 has "),
        (None, "standard input is closed"),
    ],
)
def test_standard_input_that_cannot_be_read_is_one_sentence(said, monkeypatch, data, told):
    monkeypatch.setattr("sys.stdin", None if data is None else io.TextIOWrapper(io.BytesIO(data)))
    status, out, err = said("fill", "bert", "-", "--quiet")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_streams_that_the_shell_has_closed_end_no_command(place):
    for closed, status in (("<&-", 2), (">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)):
        typed = "predict classifier -" if closed == "<&-" else "info classifier --json"
        line = f"{shlex.quote(sys.executable)} -m bothways {typed} {closed}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=place)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert ("standard input is closed" in done.stderr) is (closed == "<&-")


@pytest.mark.parametrize(
    ("typed", "ways"),
    [
        ("pretrain", "fewer --micro-tokens, fewer --batch-tokens, --gradient-checkpointing or --device cpu"),
        ("embed", "--device cpu"),
    ],
)
def test_a_gpu_without_room_is_one_sentence_that_names_the_options_there_are(typed, ways, said, monkeypatch):
    class OutOfMemoryError(RuntimeError):
        """Torch's, by its name."""

    def full(*_, **__):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(bw, "pretrain", full)
    monkeypatch.setattr(bw, "load", full)
    arguments = ["corpus", "--out", "large"] if typed == "pretrain" else ["bert", "text.txt", "vectors.npy"]
    status, out, err = said(typed, *arguments)
    assert (status, out) == (2, "")
    assert err == f"bothways: the GPU has not enough free memory for this; try {ways}\n"


@pytest.mark.parametrize("module", ["bothways.cli.entry", "typer", "bothways.cli.commands", "bothways.cli.families"])
def test_ctrl_c_while_modules_are_imported_ends_as_ever(module):
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from bothways.cli import main\n"
        "sys.exit(main(['families']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "bothways: stopped\n")


def test_predictions_stand_in_the_order_of_the_input(said, place):
    texts = [line.split(",")[0] for line in (place / "table.csv").read_text().splitlines()[1:]]
    expected = bw.load("classifier").class_probabilities(texts)
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        done = in_json(said, "predict", "classifier", "table.csv", "--out", f"labels.{suffix}", "--overwrite")
        assert done["texts"] == len(texts)
    rows = parquet.read_table("labels.parquet").to_pylist()
    lines = [json.loads(line) for line in (place / "labels.jsonl").read_text().splitlines()]
    for row, line, text, shares in zip(rows, lines, texts, expected, strict=True):
        assert row["text"] == line["text"] == text
        assert row["prediction"] == line["prediction"] == ["loud", "quiet"][shares.argmax()]
        np.testing.assert_allclose([row["p(loud)"], row["p(quiet)"]], shares, atol=1e-6)
        np.testing.assert_allclose([line["p(loud)"], line["p(quiet)"]], shares, atol=1e-6)
    heading = (place / "labels.csv").read_text().splitlines()[0]
    assert heading == "text,prediction,probability,p(loud),p(quiet)"
    assert (place / "labels.tsv").read_text().splitlines()[0] == heading.replace(",", "\t")


def test_predictions_go_to_standard_output_when_no_file_is_named(said, place):
    status, out, _ = said("predict", "classifier", "table.csv", "--quiet")
    assert status == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 24


def test_vectors_in_every_format_equal_those_of_the_library(said, place):
    texts = [line.split(",")[0] for line in (place / "table.csv").read_text().splitlines()[1:]]
    expected = bw.load("bert").embed(texts, pooling="cls", normalize=True)
    for suffix in ("npy", "jsonl", "parquet"):
        assert (
            said("embed", "bert", "table.csv", f"v.{suffix}", "--pooling", "cls", "--normalize", "--overwrite")[0] == 0
        )
    loaded = np.load("v.npy", mmap_mode="r")
    assert (loaded.shape, loaded.dtype) == ((24, 128), np.float32)
    np.testing.assert_allclose(loaded, expected, atol=1e-6)
    lines = [json.loads(line) for line in (place / "v.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["vector"] for line in lines], expected, atol=1e-6)
    table = parquet.read_table("v.parquet")
    assert table["text"].to_pylist() == texts
    np.testing.assert_allclose(table["vector"].to_pylist(), expected, atol=1e-6)


def test_a_file_that_is_there_is_not_replaced_unless_told(said, place):
    (place / "precious.csv").write_text("mine", encoding="utf-8")
    assert said("predict", "classifier", "table.csv", "--out", "precious.csv")[0] == 2
    assert (place / "precious.csv").read_text() == "mine"
    assert said("predict", "classifier", "table.csv", "--out", "precious.csv", "--overwrite")[0] == 0
    assert (place / "precious.csv").read_text() != "mine"


def test_a_bad_row_leaves_nothing_behind(said, place):
    good = "".join(f'{{"text": "the dog {number}"}}\n' for number in range(10))
    (place / "bad.jsonl").write_text(good + '{"text": 7}\n', encoding="utf-8")
    before = set(place.iterdir())
    for typed in (["predict", "classifier", "bad.jsonl", "--out", "b.csv"], ["embed", "bert", "bad.jsonl", "b.npy"]):
        status, _, err = said(*typed, "--quiet")
        assert status == 2
        assert "line 11" in err
    assert set(place.iterdir()) == before


def test_files_are_answered_in_slices_as_they_are_read(place, monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 8)
    model, read, asked = bw.load("bert"), [], []

    def rows():
        for number in range(402):
            read.append(number)
            yield {"text": f"the dog {number}"}

    def embed(texts, pooling=None, **how):
        asked.append((len(texts), len(read)))
        return np.zeros((len(texts), 4), dtype=np.float32)

    monkeypatch.setattr(model, "embed", embed)
    source = read_rows(rows())
    assert bulk.embed(model, source, place / "slices.npy", overwrite=True).texts == 402
    assert [count for count, _ in asked] == [8] * 50 + [2]
    ahead = [pulled - 8 * place for place, (_, pulled) in enumerate(asked)]
    assert np.load(place / "slices.npy").shape == (402, 4)
    assert max(ahead[1:]) <= 100  # the rows that are looked at to learn the columns, and no more


def test_what_was_cut_is_told_once_for_the_whole_file(said, place, monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 4)
    long = "the dog " * 400
    (place / "long.jsonl").write_text(f'{{"text": "{long}"}}\n' * 9 + '{"text": "short"}\n', encoding="utf-8")
    status, _, err = said("embed", "bert", "long.jsonl", "long.npy", "--overwrite", "--quiet")
    assert status == 0
    assert err.startswith("note: 9 of 10 texts are longer than")
    assert err.count("\n") == 1
    assert said("embed", "bert", "long.jsonl", "w.npy", "--truncation", "window", "--overwrite", "--quiet")[2] == ""


# -- repeating a run


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_run_is_repeated_and_what_is_typed_wins(said, place):
    typed = ("pretrain", "--from", "bert/run.json", "--out")
    assert said(*typed, "again", "--quiet", "--no-resume")[0] == 0
    assert weights(place / "again") == weights(place / "bert")
    assert said(*typed, "other", "--seed", 1, "--quiet")[0] == 0
    assert weights(place / "other") != weights(place / "bert")
    settings = json.loads((place / "other" / "run.json").read_text())["settings"]
    before = json.loads((place / "bert" / "run.json").read_text())["settings"]
    assert {key for key in before if before[key] != settings[key]} == {"seed", "out"}


def test_a_fine_tuning_is_repeated_from_its_folder(said, place):
    assert said("finetune", "classify", "--from", "classifier", "--out", "again-classifier", "--quiet")[0] == 0
    assert weights(place / "again-classifier") == weights(place / "classifier")


def test_the_files_to_learn_from_can_be_an_option(said, place):
    typed = "finetune classify --base bert --train table.csv --max-length 16 --steps 2 --out optional --quiet"
    assert said(*typed.split())[0] == 0
    assert weights(place / "optional") == weights(place / "classifier")


def test_threads_are_limited_before_anything_is_imported():
    code = (
        "import os; from bothways.cli import main; main(['families', '--quiet']);"
        "from bothways.cli.threads import limit; limit(1); import torch; print(torch.get_num_threads())"
    )
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=True)
    assert done.stdout.splitlines()[-1] == "1"


def test_the_module_ends_with_the_code_of_the_command(place):
    typed = [sys.executable, "-m", "bothways", "info", "no-such-model"]
    assert subprocess.run(typed, capture_output=True).returncode == 2
