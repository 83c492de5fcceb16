"""A plain install has no torch: text, families, decoders and the command line work there, and the rest says what to do.

The environment is real: a folder with links to exactly the packages that the base dependencies bring.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import tiny

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["torch", "transformers", "pyarrow", "sklearn", "matplotlib", "optuna", "pandas", "rich", "typer", "tokenizers"]


def distributions(*extras):
    """What an installation of Bothways brings, all the way down, without Bothways itself."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [("bothways", ["", *extras])]
    while wanted:
        name, asked = wanted.pop()
        for requirement in map(Requirement, metadata.requires(name) or []):
            applies = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in asked)
            if applies and requirement.name not in found:
                found[requirement.name] = metadata.distribution(requirement.name)
                wanted.append((requirement.name, ["", *requirement.extras]))
    return found.values()


def installed(work, *extras):
    """Runs Python, or with `program=True` the command line, where nothing else is installed; in a folder."""
    packages = work / "packages"
    packages.mkdir()
    for distribution in distributions(*extras):
        for top in {file.parts[0] for file in distribution.files or () if not file.parts[0].startswith(("..", "__"))}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT / "src")]), "OMP_NUM_THREADS": "1"}
    entry = "import sys; from bothways.cli import main; sys.exit(main())"

    def run(*arguments, program=True, status=0, stdin=None):
        command = (
            [sys.executable, "-S", "-c", entry, *arguments] if program else [sys.executable, "-S", "-c", *arguments]
        )
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, env=environment, cwd=work, input=stdin
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A plain installation, with a configuration, a text and a tokenizer in its folder."""
    work = tmp_path_factory.mktemp("work")
    run = installed(work)
    (work / "model").mkdir()
    (work / "model" / "config.json").write_text('{"model_type": "bert"}')
    (work / "text.txt").write_text(
        "the dog barked at the cat. the cat ran.\n\nthe dogs sleep.\n" * 30, encoding="utf-8"
    )
    run("tokenizer", "train", "text.txt", "--vocab-size", "60", "--out", "tok")
    return run


def test_there_is_no_torch_there(light):
    code = (
        "import importlib.util as u; print([n for n in ('torch', 'sklearn', 'matplotlib', 'jinja2') if u.find_spec(n)])"
    )
    assert light(code, program=False).stdout == "[]\n"


def test_importing_bothways_loads_nothing_heavy(light):
    code = f"import sys, bothways; print([name for name in {HEAVY} if name in sys.modules])"
    assert light(code, program=False).stdout == "[]\n"


def test_importing_bothways_loads_nothing_heavy_where_everything_is_installed():
    code = f"import sys, bothways; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_loads_no_more_than_it_shows():
    heavy = [name for name in HEAVY if name not in ("rich", "typer")] + ["numpy"]
    code = (
        "import sys; from bothways.cli import main; status = main(['--help']);"
        f"print('loaded', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded []\n")


@pytest.mark.parametrize(
    "code",
    [
        "from bothways.batch import make_batch, pack; print(make_batch([[5, 6], [7]]).tokens)",
        "import bothways as bw; print(bw.pack([[1, 2], [3, 0]], [[1, 1], [1, 0]]).tokens)",
        "import bothways as bw; print(len(bw.Tokenizer.load('tok').encode(['the dog']).token_ids) - 1)",
        "from bothways.text.documents import read_documents; print(sum(1 for _ in read_documents('text.txt')) and 3)",
        "from bothways.model.families import family; print(family('bert').size('mini').layers - 1)",
        "import numpy as np; from bothways.run.pooling import pool;"
        "print(int(pool(np.full((2, 4), 3.0), np.array([0, 2]), 'mean')[0, 0]))",
    ],
)
def test_text_families_and_decoders_work(light, code):
    assert light(code, program=False).stdout == "3\n"


def test_a_corpus_is_prepared(light):
    made = light("corpus", "prepare", "text.txt", "--as-it-is", "--tokenizer", "tok", "--out", "corpus", "--json")
    assert json.loads(made.stdout)["documents"] == 31
    refused = light("corpus", "clean", "text.txt", "--out", "clean", status=2)
    assert "pip install 'bothways[corpus]'" in refused.stderr


def test_serving_says_what_to_install(light):
    assert "pip install 'bothways[serve]'" in light("serve", "model", "--port", "0", status=2).stderr


def test_the_light_commands_work(light):
    assert "pretrain" in light("--help").stdout
    assert "bert" in light("families").stdout
    assert "Devlin" in light("families", "bert").stdout
    assert "58,724,864" in light("families", "--diff", "bert", "albert:xlarge").stdout
    assert "allenai/scibert" in light("families", "--checkpoints").stdout
    shown = json.loads(light("tokenizer", "show", "tok", "the dog", "--json").stdout)
    assert shown["texts"][0]["tokens"] == ["[CLS]", "the", "dog", "[SEP]"]
    described = json.loads(light("doctor", "--json").stdout)
    assert described["torch"] is None
    assert "pip install 'bothways[torch]'" in light("doctor").stdout


@pytest.mark.parametrize(
    "command",
    [
        ["quickstart", "--out", "quick"],
        ["new", "--vocab", "tok", "--out", "run"],
        ["pretrain", "text.txt", "--out", "run"],
        ["finetune", "classify", "table.csv", "--base", "model", "--out", "run"],
        ["tune", "classify", "table.csv", "--base", "model", "--out", "run"],
        ["evaluate", "model", "table.csv"],
        ["predict", "model", "table.csv"],
        ["fill", "model", "the [MASK]"],
        ["embed", "model", "table.csv", "vectors.npy"],
        ["info", "model"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_needs_torch_says_which_extra_to_install(light, command):
    done = light(*command, status=2)
    assert done.stdout == ""
    assert done.stderr.startswith("bothways: ")
    assert done.stderr.count("\n") == 1
    assert "pip install 'bothways[torch]'" in done.stderr


def test_the_page_of_a_run_needs_no_torch_but_what_draws_it(light):
    """What is wrong with the run is said first; then that the drawing library is absent, in one sentence."""
    assert "absent does not exist" in light("report", "absent", status=2).stderr
    code = (
        "from pathlib import Path; Path('run').mkdir();"
        'Path(\'run/log.jsonl\').write_text(\'{"event": "step", "step": 1, "rate": 0.1}\\n\')'
    )
    light(code, program=False)
    done = light("report", "run", status=2)
    assert done.stderr.count("\n") == 1
    assert "bothways[torch]" in done.stderr


@pytest.mark.parametrize("extra", ["light", "openvino"])
def test_what_was_exported_runs_where_nothing_but_its_runtime_is_installed(tmp_path, extra):
    model = tiny.model(("classify",), layers=1)
    to = {"light": "onnx"}.get(extra, extra)
    model.export(tmp_path / "exported", to=to, texts=tiny.sentences(5))
    (tmp_path / "texts.txt").write_text("the red river\nan old house\n", encoding="utf-8")
    run = installed(tmp_path, extra)
    run("embed", "exported", "texts.txt", "vectors.npy", "--quiet")
    wanted = model.embed(["the red river", "an old house"])
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), wanted, atol=1e-5)
    run("predict", "exported", "texts.txt", "--out", "found.jsonl", "--quiet")
    rows = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prediction"] for row in rows] == [model.classify(row["text"]).label for row in rows]
    (measured,) = json.loads(run("bench", "embed", "exported", "--seconds", "0.05", "--json", "--quiet").stdout)
    assert (measured["engine"], measured["precision"]) == (to, "float32")
    assert 0 < measured["load"] < 60
