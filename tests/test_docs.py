"""What README and docs say is true: their code runs, their commands can be typed, their links lead somewhere."""

import csv
import dataclasses
import doctest
import inspect
import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest
from packaging.requirements import Requirement
from pyarrow import parquet

import bothways as bw
import tiny
from bothways.cli import main, repeat
from bothways.cli.commands import COMMANDS, command
from bothways.model.families import families, family
from bothways.model.heads.enhanced_mask_decoder import refusal, with_positions
from bothways.run.sentence_folder import SentenceRecipe
from run_page import CODE, run_page

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    """The fenced blocks of a language: the line of the page where each begins, and its text."""
    text = read(page)
    found = [match for match in FENCE.finditer(text) if match[2] == language]
    return [(text.count("\n", 0, match.start()) + 2, textwrap.dedent(match[3])) for match in found]


def rows_under(page, heading):
    """The cells of a table whose first heading is given, row by row."""
    lines = read(page).splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    table = lines[begin : next(number for number in range(begin, len(lines)) if not lines[number].startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


# -- code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of, small."""
    monkeypatch.chdir(tmp_path)
    texts = tiny.sentences(720, longest=16)
    (tmp_path / "texts").mkdir()
    for number in range(3):
        part = texts[240 * number : 240 * number + 240]
        sentences = [f"{one.capitalize()}." for one in part]
        documents = [" ".join(sentences[begin : begin + 8]) for begin in range(0, 240, 8)]
        (tmp_path / "texts" / f"{number}.txt").write_text("\n\n".join(documents), encoding="utf-8")
    with (tmp_path / "labelled.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts[:240], ["old", "new", "young"] * 80, strict=True)])
    parquet.write_table(pa.table({"text": texts[:9]}), tmp_path / "texts.parquet")
    (tmp_path / "reviews.txt").write_text("\n".join(texts[:9]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_code_runs(page, place):
    """From top to bottom, on small models in folders of the names that the page uses; minutes become steps."""
    if page in (
        "docs/coming_from.md",
        "docs/bulk.md",
        "docs/compression.md",
        "docs/explaining.md",
        "docs/export.md",
        "docs/running.md",
        "docs/serving.md",
        "docs/vectors.md",
    ):
        tiny.folder(place / "bert-base-uncased")
        tiny.folder(place / "my-classifier", heads=("classify",))
        tiny.folder(place / "all-MiniLM-L6-v2", heads=(), recipe=SentenceRecipe("mean", normalize=True, stated=True))
    if page == "docs/finetuning.md":
        tiny.folder(place / "names", heads=("tag",))
        tiny.folder(place / "squad2", heads=("answer",))
    if page == "docs/search.md":
        tiny.folder(place / "my-encoder", heads=())
    if page == "docs/rerank.md":
        tiny.folder(place / "my-sparse", heads=("mlm",))
        tiny.ranker(place / "my-reranker", "classify", labels=("score",), problem="scores")
        tiny.ranker(place / "my-late", "late", outputs=16, bias=False)
    lines: list[str] = []
    for begin, code in blocks(page, "python"):
        lines += [""] * (begin - 1 - len(lines)) + code.splitlines()  # so that an error names the line of the page
    code = re.sub(r"minutes=[\d.]+", "steps=2", "\n".join(lines)).replace('size="mini"', 'size="tiny"')
    (place / CODE).write_text(code, encoding="utf-8")
    status, said = run_page(place, HF_HUB_OFFLINE="1", HF_HOME=str(place / "cache"))
    assert status == 0, f"{page}: {said}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "pycon")])
@pytest.mark.usefixtures("place")
def test_sessions_give_what_stands_there(page):
    result = doctest.testfile(str(ROOT / page), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0


# -- commands

SHELL = [
    (page, line)
    for page in PAGES
    for _, text in blocks(page, "sh")
    for line in text.replace("\\\n", " ").splitlines()
    if shlex.split(line, comments=True)
]
INLINE = [(page, text) for page in PAGES for text in re.findall(r"`(bothways [^`]+)`", read(page))]


def check_typed(words, monkeypatch):
    """That words name a command, with options that it has and values that they take."""
    name = next(name for name in COMMANDS if words[: len(name.split())] == name.split())
    named = command()
    for word in name.split():
        named = named.commands[word]

    def run_of_the_same_command(path, context):
        needed = [option for option in context.command.params if option.required]
        return {option.name: ["some"] if option.nargs == -1 else "some" for option in needed}

    monkeypatch.setattr(repeat, "_settings", run_of_the_same_command)
    named.make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize(("page", "line"), SHELL)
def test_every_shell_command_can_be_typed(page, line, monkeypatch):
    words = shlex.split(line, comments=True)
    program, arguments = Path(words[0]).name, words[1:]
    if program == "bothways":
        check_typed(arguments, monkeypatch)
    elif program == "torchrun":
        check_typed(arguments[arguments.index("bothways") + 1 :], monkeypatch)
    elif program == "make":
        makefile = read("Makefile")
        for word in arguments:
            known = rf"^{word.partition('=')[0]} \?=" if "=" in word else rf"^{word}:"
            assert re.search(known, makefile, re.MULTILINE), word
    elif program == "pip":
        for extra in re.findall(r"\[([\w,]+)\]", line):
            assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])
        assert (ROOT / arguments[arguments.index("-c") + 1]).is_file()
    else:
        assert program in ("python3", "pre-commit")


@pytest.mark.parametrize(("page", "text"), INLINE)
def test_every_command_in_a_sentence_exists(page, text):
    first, *others = text.removeprefix("bothways ").split("|")
    for words in (first.split(), *(other.split() for other in others)):
        assert any(words[: len(name.split())] == name.split() for name in COMMANDS), words


# -- words that must agree with the code


LINKS = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", read(page)))]


@pytest.mark.parametrize(("page", "target"), [(page, target) for page, target in LINKS if "://" not in target])
def test_links_lead_somewhere(page, target):
    assert (ROOT / page).parent.joinpath(target).exists()


def test_files_that_are_named_exist():
    there = [
        f"/{path.relative_to(ROOT).as_posix()}"
        for place in ("src", "tests", "benchmarks")
        for path in (ROOT / place).rglob("*.py")
    ]
    for page in PAGES:
        for name in re.findall(r"\w[\w/]*\.py\b", re.sub(r"https?://\S+|\\", "", read(page))):
            assert any(path.endswith(f"/{name}") for path in there), f"{page}: {name}"


def test_the_house_leaves_no_folder_out():
    shown = read("docs/architecture.md")
    for init in (ROOT / "src" / "bothways").glob("*/__init__.py"):
        assert f"\n  {init.parent.name}/ " in shown


def test_the_page_of_pre_training_names_the_families_that_are_refused_the_mask_decoder():
    said = re.search(r"it is refused for (.*?)\. An encoder", read("docs/pretraining.md"), re.DOTALL)[1]
    refused = {
        members.title
        for members in families().values()
        if any(refusal(with_positions(config)) for name, config in members.sizes.items() if "generator" not in name)
    }
    named = {title for title in (members.title for members in families().values()) if re.search(rf"\b{title}\b", said)}
    assert named == refused


def test_the_table_of_families_is_what_the_command_prints(capsys):
    assert main(["families", "--markdown"]) == 0
    assert capsys.readouterr().out in read("README.md")


def test_the_table_of_extras_is_what_is_installed():
    told = {row[0].strip("`"): row[1] for row in rows_under("README.md", "extra")}
    extras = {"(none)": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    assert told.keys() == extras.keys()
    for extra, needs in extras.items():
        if extra != "test":
            assert told[extra].split(", ") == sorted(Requirement(need).name for need in needs)


def test_names_in_config_json_mean_what_the_table_says():
    """Each one is changed alone, and exactly the settings beside it change."""
    members = family("bert")
    published = members.to_hf(members.size("tiny"))
    told = {named(there)[0]: set(named(here)) for there, here in rows_under("docs/coming_from.md", "`config.json`")}
    assert told.keys() == published.keys() - {"model_type"}
    before = flat(members.from_hf(published).to_dict())
    for key, settings in told.items():
        other = "relu" if key == "hidden_act" else published[key] + 4 if published[key] == 0 else published[key] * 2
        after = flat(members.from_hf({**published, key: other}).to_dict())
        assert {name for name in before if before[name] != after[name]} == settings


def flat(settings, before=""):
    found = {}
    for name, value in settings.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def test_settings_of_the_trainer_and_ours_exist():
    import transformers

    theirs = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    ours = {name for verb in (bw.finetune, bw.pretrain) for name in inspect.signature(verb).parameters}
    rows = [
        (named(there), named(here))
        for there, here in rows_under("docs/coming_from.md", "`TrainingArguments` and friends")
    ]
    for there, here in rows:
        assert all(name.partition("=")[0] in theirs or hasattr(transformers, name) for name in there), there
        assert any(name in ours for name in here), here
        assert all(name in ours for name in here if name.isidentifier() and name.islower()), here


def test_the_example_of_an_objective_learns():
    """The one in contributing.md, as it stands there."""
    import torch

    from bothways.batch import make_batch
    from bothways.learn.objectives.protocol import Together

    names: dict = {}
    exec(next(code for _, code in blocks("docs/contributing.md", "python") if "class LongOrShort" in code), names)
    objective, model = names["LongOrShort"](), tiny.model()
    parts = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads}).train()
    item = objective.prepare(make_batch([[5] * 9, [6] * 30, [7] * 40]), [(0, 0)] * 3, [], 0.0)
    assert item[1]["long.labels"].tolist() == [0, 1, 1]
    together = Together([objective])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        losses.append(together.backward(parts, item, together.counts(item))["loss.long"])
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] / 2
